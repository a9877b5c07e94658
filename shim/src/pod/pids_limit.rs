//! The end of a sandbox that ran into the host's limit of its processes.

use super::{Input, Pod, memory::AbortOnDrop};
use crate::pids_limit::{PidsLimit, PidsWatch};

impl Pod {
    /// Has the pod told when the sandbox first runs into that limit. Without that its end still says so where its cgroup is
    /// there to be asked.
    pub(super) fn watch_pids(&self, limit: PidsLimit) -> Option<AbortOnDrop> {
        let watch = PidsWatch::start(limit).unwrap_or_else(|error| {
            log::warn!(pod = self.record.sandbox.as_str(); "cannot watch the sandbox's processes: {error}");
            None
        })?;
        Some(self.tell_if(watch.reached(), Input::OutOfProcesses))
    }

    /// The sandbox lacks a process or a thread: what is left of it may hang.
    pub(super) fn out_of_processes(&mut self) {
        self.tell_out_of_processes();
        if let Some(target) = self.target() {
            target.kill_processes();
        }
    }

    /// Whether the sandbox that has just ended ran into that limit. Says so too.
    pub(super) fn has_run_out_of_processes(&mut self) -> bool {
        let Some(sandbox) = &self.sandbox else { return false };
        if sandbox.pids_limit.was_reached() == Some(true) {
            self.tell_out_of_processes();
        }
        self.sandbox.as_ref().is_some_and(|sandbox| sandbox.out_of_processes)
    }

    fn tell_out_of_processes(&mut self) {
        let Some(sandbox) = &mut self.sandbox else { return };
        if !std::mem::replace(&mut sandbox.out_of_processes, true) {
            let pod = self.record.sandbox.as_str();
            log::error!(pod; "PidsLimitExceeded: the sandbox ran into the host's limit of its processes");
        }
    }
}
