//! The running sandbox, and what looks after it.

use std::sync::Arc;

use runsc_bridge::{ContainerId, ControlSocket};
use tokio::sync::oneshot;

use super::{Input, Pod, memory::AbortOnDrop};
use crate::{
    cgroup::Cgroup,
    oom::OomKills,
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
}

/// A sandbox that `runsc create` has made.
pub(super) struct NewSandbox {
    pub(super) name: ProcessName,
    pub(super) process: PidFd,
    pub(super) exit: oneshot::Receiver<std::process::ExitStatus>,
    pub(super) control: ControlSocket,
    pub(super) cgroup: Cgroup,
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
        });
        self.limit_startup();
        self.spawn(async move {
            let status = new.exit.await.map_or(STATUS_KILLED, exit_code);
            Input::SandboxExited(status)
        });
    }
}
