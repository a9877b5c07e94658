//! The methods we call, with their arguments as the sentry names them.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus, time::Duration};

use serde::Serialize;

use super::ControlSocket;
use crate::{ContainerId, Kind, RunscError};

/// Which processes of a container a signal goes to.
///
/// The numbers are gVisor's `boot.SignalDeliveryMode`. There are more in newer releases; an older sentry panics at a
/// mode that it doesn't know, so these are all we ever send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalScope {
    /// The container's first process.
    Init = 0,
    /// Every process of the container.
    All = 1,
}

#[derive(Serialize)]
#[serde(rename_all = "UPPERCASE")]
struct SignalArgs<'a> {
    cid: &'a str,
    #[serde(rename = "Signo")]
    signo: i32,
    pid: i32,
    #[serde(rename = "Mode")]
    mode: i32,
}

impl ControlSocket {
    /// Sends signal number `signal` to the processes that `scope` names.
    ///
    /// # Errors
    /// [`Kind::NoSuchProcess`] where they have ended, [`Kind::SandboxGone`] or [`Kind::TimedOut`] where the sandbox
    /// doesn't answer.
    pub async fn signal(
        &self,
        container: &ContainerId,
        signal: i32,
        scope: SignalScope,
        limit: Duration,
    ) -> Result<(), RunscError> {
        let id = container.as_str();
        let args = SignalArgs { cid: id, signo: signal, pid: 0, mode: scope as i32 };
        self.call::<serde::de::IgnoredAny>("containerManager.Signal", id, args, Some(limit)).await?;
        Ok(())
    }

    /// Waits until the container's first process has ended and returns its wait status. May be called again until
    /// the container is deleted.
    ///
    /// # Errors
    /// [`Kind::SandboxGone`] where the sandbox ended before it could answer.
    pub async fn wait(&self, container: &ContainerId) -> Result<ExitStatus, RunscError> {
        const METHOD: &str = "containerManager.Wait";
        let id = container.as_str();
        let status: Option<i32> = self.call(METHOD, id, id, None).await?;
        status
            .map(ExitStatus::from_raw)
            .ok_or_else(|| RunscError::new(METHOD, id, Kind::Protocol, "an answer without a status"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signal_arguments_are_spelt_as_the_sentry_reads_them() {
        let args = SignalArgs { cid: "c", signo: 15, pid: 0, mode: SignalScope::All as i32 };
        let text = serde_json::to_string(&args).unwrap();
        assert_eq!(text, r#"{"CID":"c","Signo":15,"PID":0,"Mode":1}"#);
    }
}
