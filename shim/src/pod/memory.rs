//! The end of a sandbox that ran out of memory.

use tokio::task::JoinHandle;

use super::{Input, Pod};
use crate::{cgroup::Cgroup, oom::OomWatch, stats::oom_kills};

/// A task that ends with whoever wants to know.
#[derive(Debug)]
pub(super) struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Pod {
    /// Has the pod told of the kernel's first kill in the sandbox's cgroup. Without that a kill of the sandbox itself is
    /// still seen, by its exit.
    pub(super) fn watch_memory(&self, cgroup: &Cgroup) -> Option<AbortOnDrop> {
        let pod = self.record.sandbox.as_str();
        let watch = OomWatch::start(cgroup).unwrap_or_else(|error| {
            log::warn!(pod; "cannot watch the sandbox's memory: {error}");
            None
        })?;
        let outcomes = self.outcomes.clone();
        Some(AbortOnDrop(tokio::spawn(async move {
            if watch.killed().await {
                let _ = outcomes.send(Input::OutOfMemory);
            }
        })))
    }

    /// The kernel has killed a process of the sandbox: what is left of it may hang.
    pub(super) fn out_of_memory(&mut self) {
        log::warn!(pod = self.record.sandbox.as_str(); "out of memory: ending the sandbox");
        if let Some(target) = self.target() {
            target.kill_processes();
        }
    }

    /// Whether the kernel has killed any process of the sandbox for want of memory.
    pub(super) fn has_run_out_of_memory(&self) -> bool {
        oom_kills(&self.record.cgroup).is_some_and(|kills| kills > 0)
    }
}
