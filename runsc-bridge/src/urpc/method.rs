//! The methods we call, with their arguments as the sentry names them.

use std::{collections::BTreeMap, os::unix::process::ExitStatusExt, process::ExitStatus, time::Duration};

use serde::{Deserialize, Serialize, de::IgnoredAny};

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

/// A file of a cgroup of the sandbox's own (gVisor `pkg/sentry/control/cgroups.go`).
#[derive(Serialize)]
struct ControlFile<'a> {
    controller: &'a str,
    path: &'a str,
    name: &'a str,
}

#[derive(Serialize)]
struct WriteControlFile<'a> {
    file: ControlFile<'a>,
    value: String,
}

#[derive(Serialize)]
struct WriteControlFiles<'a> {
    args: [WriteControlFile<'a>; 1],
}

#[derive(Deserialize)]
struct WrittenControlFiles {
    #[serde(default)]
    results: Vec<WrittenControlFile>,
}

#[derive(Deserialize)]
struct WrittenControlFile {
    #[serde(default)]
    value: String,
    is_error: bool,
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

    /// What one container uses, by the sentry's own accounting.
    ///
    /// Per container only where some container of the pod has a cgroup mount; without one the sentry divides the
    /// sandbox's total by the number of containers.
    ///
    /// # Errors
    /// [`Kind::NoSuchContainer`] for a container that the sentry doesn't know.
    pub async fn usage(
        &self,
        container: &ContainerId,
        limit: Duration,
    ) -> Result<ContainerUsage, RunscError> {
        const METHOD: &str = "containerManager.Event";
        let id = container.as_str();
        let answer: Option<EventAnswer> = self.call(METHOD, id, id, Some(limit)).await?;
        let missing = || RunscError::new(METHOD, id, Kind::Protocol, "an answer without data");
        let EventAnswer { event, container_usage } = answer.ok_or_else(missing)?;
        let data = event.data.ok_or_else(missing)?;
        Ok(ContainerUsage {
            cpu: container_usage.get(id).copied().unwrap_or_default(),
            cpu_of_all: container_usage.values().sum(),
            memory_bytes: data.memory.usage.usage,
            pids: data.pids.current,
        })
    }

    /// Limits the processes and threads of a container that has been started, whatever their users. What is beyond the
    /// limit already stays, and can make no more.
    ///
    /// Works where the container has a cgroup mount.
    ///
    /// # Errors
    /// What the sentry says.
    pub async fn limit_pids(
        &self,
        container: &ContainerId,
        pids: u64,
        limit: Duration,
    ) -> Result<(), RunscError> {
        const METHOD: &str = "Cgroups.WriteControlFiles";
        let id = container.as_str();
        let path = format!("/{id}");
        let file = ControlFile { controller: "pids", path: &path, name: "pids.max" };
        let args = WriteControlFiles { args: [WriteControlFile { file, value: pids.to_string() }] };
        let answer: Option<WrittenControlFiles> = self.call(METHOD, id, args, Some(limit)).await?;
        let failed = |detail: &str| RunscError::new(METHOD, id, Kind::Protocol, detail);
        let results = answer.ok_or_else(|| failed("an answer without results"))?.results;
        match &results[..] {
            [WrittenControlFile { is_error: false, .. }] => Ok(()),
            [WrittenControlFile { value, .. }] => Err(RunscError::new(METHOD, id, Kind::Failed, value)),
            _ => Err(failed("an answer with another number of results")),
        }
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

/// What one container uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContainerUsage {
    /// Its CPU time and that of all containers together, in the sentry's own measure: good for a share of what the
    /// sandbox's cgroup has used, which is more than its guests know of.
    pub cpu: u64,
    pub cpu_of_all: u64,
    pub memory_bytes: u64,
    pub pids: u64,
}

/// The sentry's `boot.EventOut` (gVisor `runsc/boot/events.go`), as far as it is read.
#[derive(Deserialize)]
struct EventAnswer {
    event: Event,
    #[serde(rename = "containerUsage", default)]
    container_usage: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Event {
    data: Option<EventData>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct EventData {
    memory: EventMemory,
    pids: EventPids,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct EventMemory {
    usage: EventMemoryUsage,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct EventMemoryUsage {
    usage: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct EventPids {
    current: u64,
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
