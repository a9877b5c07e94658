//! The running sandbox, and what looks after it.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus, sync::Arc};

use runsc_bridge::{ContainerId, ControlSocket};
use tokio::sync::oneshot;

use super::{Input, Pod, memory::AbortOnDrop};
use crate::{
    cgroup::Cgroup,
    oom::OomKills,
    panic_log::PanicLog,
    pids_limit::PidsLimit,
    process::{PidFd, ProcessName, STATUS_KILLED, exit_code},
    stats,
};

/// The running sandbox.
pub(super) struct Sandbox {
    pub(super) process: Arc<PidFd>,
    pub(super) control: ControlSocket,
    /// The one in the record, for readers.
    pub(super) cgroup: Arc<Cgroup>,
    pub(super) version: stats::Version,
    /// Looks for the kernel's kills as long as this is there.
    _oom: Option<AbortOnDrop>,
    pub(super) oom_kills: OomKills,
    /// Looks for the host's limit of processes as long as this is there.
    _pids: Option<AbortOnDrop>,
    pub(super) pids_limit: PidsLimit,
    /// Whether the sandbox is known to have run into it.
    pub(super) out_of_processes: bool,
    /// How its process has broken down, once it has.
    pub(super) crash: Option<Crash>,
    panic_log: Option<PanicLog>,
}

/// The end of a sandbox's process that isn't its root container's.
#[derive(Debug)]
pub(super) struct Crash {
    /// What all containers of the pod end with.
    pub(super) status: u32,
    /// What the process said of it.
    pub(super) said: Option<String>,
}

/// The exit code of a program that broke down, as of SIGSEGV: that of the sandbox's process might be a workload's own.
const STATUS_CRASHED: u32 = 128 + 11;
/// What a program in Go ends with that panics, or gets a signal that has it print a trace.
const GO_PANIC: i32 = 2;

impl Sandbox {
    /// Whether its process, which has ended with `status`, has broken down. Its root container's end gives it an exit code,
    /// also where that was a signal's; a KILL from outside is nobody's breakdown.
    fn crash(&self, status: ExitStatus) -> Option<Crash> {
        let said = self.panic_log.as_ref().and_then(PanicLog::headline);
        let status = match (status.code(), status.signal()) {
            (None, Some(signal)) if signal != libc::SIGKILL => exit_code(status),
            (Some(GO_PANIC), _) if self.panic_log.as_ref().is_some_and(PanicLog::is_of_a_panic) => {
                STATUS_CRASHED
            }
            _ => return None,
        };
        Some(Crash { status, said })
    }
}

/// A sandbox that `runsc create` has made.
pub(super) struct NewSandbox {
    pub(super) name: ProcessName,
    pub(super) process: PidFd,
    pub(super) exit: oneshot::Receiver<std::process::ExitStatus>,
    pub(super) control: ControlSocket,
    pub(super) cgroup: Cgroup,
    pub(super) panic_log: Option<PanicLog>,
}

impl Pod {
    /// Takes over the sandbox of root container `id`.
    pub(super) fn take_sandbox(&mut self, id: &ContainerId, new: NewSandbox) {
        self.record.process = Some(new.name);
        self.record.cgroup = std::mem::take(&mut self.record.cgroup).union(new.cgroup);
        if let Some(container) = self.containers.get_mut(id) {
            container.cgroup = self.record.cgroup.clone();
        }
        let process = Arc::new(new.process);
        drop(self.watchdog.guard(self.record.cgroup.clone()));
        self.watchdog.add(process.clone());
        let oom_kills = OomKills::of(&self.record.cgroup);
        let pids_limit = PidsLimit::of(&self.record.cgroup);
        self.sandbox = Some(Sandbox {
            process,
            control: new.control,
            cgroup: Arc::new(self.record.cgroup.clone()),
            version: stats::version(&self.record.cgroup),
            _oom: self.watch_memory(oom_kills.clone()),
            oom_kills,
            _pids: self.watch_pids(pids_limit.clone()),
            pids_limit,
            out_of_processes: false,
            crash: None,
            panic_log: new.panic_log,
        });
        self.limit_startup();
        self.spawn(async move { Input::SandboxExited(new.exit.await.ok()) });
    }

    /// The status with which a sandbox ends whose process has ended with `status`, and with it each container of the pod but
    /// the root, which have no status of their own then.
    pub(super) fn statuses_of_end(&mut self, status: Option<ExitStatus>) -> (u32, u32) {
        // Whatever a sandbox makes of losing a process to the kernel, or of not getting one.
        if self.has_run_out_of_processes() || self.has_run_out_of_memory() {
            return (STATUS_KILLED, STATUS_KILLED);
        }
        let Some((status, sandbox)) = status.zip(self.sandbox.as_mut()) else {
            return (STATUS_KILLED, STATUS_KILLED);
        };
        sandbox.crash = sandbox.crash(status);
        match &sandbox.crash {
            Some(crash) => {
                let said = crash.said.as_deref().unwrap_or("nothing");
                log::error!(pod = self.record.sandbox.as_str(); "the sandbox broke down ({status}), saying: {said}");
                (crash.status, crash.status)
            }
            None => (exit_code(status), STATUS_KILLED),
        }
    }
}
