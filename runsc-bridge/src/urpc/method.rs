//! The methods we call, with their arguments as the sentry names them.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus, time::Duration};

use serde::{Serialize, de::IgnoredAny};

use super::ControlSocket;
use crate::{ContainerId, Kind, RunscError};

/// Which processes of a container a signal goes to.
///
/// They become gVisor's `boot.SignalDeliveryMode`, of which 0 to 2 are all that is ever sent: there are more in newer
/// releases, and an older sentry panics at a mode that it doesn't know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalScope {
    /// The container's first process.
    Init,
    /// Every process of the container.
    All,
    /// One process, by its pid in the container.
    Process(i32),
    /// The foreground process group of the terminal of a process; 0 is the container's first.
    Foreground(i32),
}

impl SignalScope {
    fn pid_and_mode(self) -> (i32, i32) {
        match self {
            Self::Init => (0, 0),
            Self::All => (0, 1),
            Self::Process(pid) => (pid, 0),
            Self::Foreground(pid) => (pid, 2),
        }
    }
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

#[derive(Serialize)]
#[serde(rename_all = "UPPERCASE")]
struct WaitPidArgs<'a> {
    pid: i32,
    cid: &'a str,
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
        let (pid, mode) = scope.pid_and_mode();
        let args = SignalArgs { cid: id, signo: signal, pid, mode };
        self.call::<IgnoredAny>("containerManager.Signal", id, args, Some(limit)).await?;
        Ok(())
    }

    /// Waits until the container's first process has ended and returns its wait status. May be called again until
    /// the container is deleted.
    ///
    /// # Errors
    /// [`Kind::SandboxGone`] where the sandbox ended before it could answer.
    pub async fn wait(&self, container: &ContainerId) -> Result<ExitStatus, RunscError> {
        let id = container.as_str();
        self.wait_with("containerManager.Wait", id, id).await
    }

    /// Waits until an exec with this pid in its container has ended and returns its wait status. Works once for each
    /// exec: the sentry forgets it with its answer.
    ///
    /// # Errors
    /// [`Kind::SandboxGone`] where the sandbox ended before it could answer.
    pub async fn wait_exec(&self, container: &ContainerId, pid: i32) -> Result<ExitStatus, RunscError> {
        let id = container.as_str();
        self.wait_with("containerManager.WaitPID", id, WaitPidArgs { pid, cid: id }).await
    }

    async fn wait_with(
        &self,
        method: &'static str,
        id: &str,
        arg: impl Serialize,
    ) -> Result<ExitStatus, RunscError> {
        let status: Option<i32> = self.call(method, id, arg, None).await?;
        let missing = || RunscError::new(method, id, Kind::Protocol, "an answer without a status");
        status.map(ExitStatus::from_raw).ok_or_else(missing)
    }

    /// Pauses the whole sandbox.
    ///
    /// # Errors
    /// What the sentry says.
    pub async fn pause(&self, limit: Duration) -> Result<(), RunscError> {
        self.call::<IgnoredAny>("containerManager.Pause", "", Nothing {}, Some(limit)).await.map(drop)
    }

    /// Lets the whole sandbox go on.
    ///
    /// # Errors
    /// What the sentry says.
    pub async fn resume(&self, limit: Duration) -> Result<(), RunscError> {
        self.call::<IgnoredAny>("containerManager.Resume", "", Nothing {}, Some(limit)).await.map(drop)
    }
}

/// The argument of methods that take none.
#[derive(Serialize)]
struct Nothing {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signal_arguments_are_spelt_as_the_sentry_reads_them() {
        let (pid, mode) = SignalScope::All.pid_and_mode();
        let args = SignalArgs { cid: "c", signo: 15, pid, mode };
        let text = serde_json::to_string(&args).unwrap();
        assert_eq!(text, r#"{"CID":"c","Signo":15,"PID":0,"Mode":1}"#);
    }
}
