//! The end of a sandbox that ran out of memory, and of one container that used more than it may.
//!
//! The kernel limits the sandbox. Inside it nothing limits a container's memory, so that is looked at: by the sentry's own
//! accounting, and only when the sandbox as a whole has grown, since that takes nothing but a small read.

use std::{sync::OnceLock, time::Duration};

use runsc_bridge::{ContainerId, ControlSocket, SignalScope};
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};

use super::{Input, Pod};
use crate::{
    command::Signal,
    oom::{OomKills, OomWatch},
    stats::MemoryUsage,
};

/// Pauses between two looks at the sandbox, while it grows and while it doesn't.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often a sandbox is told to kill one of its containers, with the longest pause in between.
const KILLS: u32 = 5;
/// After this long a container is asked for all the same: another may have shrunk by as much as it has grown.
const LONGEST_TRUST: Duration = Duration::from_secs(30);
/// How much a sandbox has to grow before its containers are asked for.
const LEAST_STEP: u64 = 1 << 20;
const MOST_STEP: u64 = 16 << 20;

/// A task that ends with whoever wants to know.
#[derive(Debug)]
pub(super) struct AbortOnDrop(JoinHandle<()>);

impl AbortOnDrop {
    pub(super) fn new(task: JoinHandle<()>) -> Self {
        Self(task)
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Pod {
    /// Has the pod told of the kernel's first kill in the sandbox's cgroup. Without that a kill of the sandbox itself is
    /// still seen, by its exit.
    pub(super) fn watch_memory(&self, kills: OomKills) -> Option<AbortOnDrop> {
        let pod = self.record.sandbox.as_str();
        let watch = OomWatch::start(kills).unwrap_or_else(|error| {
            log::warn!(pod; "cannot watch the sandbox's memory: {error}");
            None
        })?;
        Some(self.tell_if(watch.killed(), Input::OutOfMemory))
    }

    /// Has the pod told once something has happened, unless it turns out that it never will.
    pub(super) fn tell_if(
        &self,
        happens: impl Future<Output = bool> + Send + 'static,
        input: Input,
    ) -> AbortOnDrop {
        let outcomes = self.outcomes.clone();
        AbortOnDrop(tokio::spawn(async move {
            if happens.await {
                let _ = outcomes.send(input);
            }
        }))
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
        self.sandbox.as_ref().is_some_and(|sandbox| sandbox.oom_kills.any() == Some(true))
    }

    /// Has container `id` ended once it uses more than its own limit, if it has one.
    pub(super) fn watch_container_memory(&mut self, id: &ContainerId) {
        let Some(sandbox) = &self.sandbox else { return };
        let (cgroup, control) = (sandbox.cgroup.clone(), sandbox.control.clone());
        let (outcomes, call_limit) = (self.outcomes.clone(), self.tools.calls.state);
        let Some(container) = self.containers.get_mut(id) else { return };
        let Some(limit) = container.ceilings.memory.filter(|_| !container.role.is_root()) else { return };
        let Some(usage) = MemoryUsage::open(&cgroup) else { return };
        let watch = ContainerWatch { id: id.clone(), limit, usage, control, call_limit };
        container.memory_watch = Some(AbortOnDrop(tokio::spawn(watch.run(outcomes))));
    }

    /// The container uses more memory than it may.
    pub(super) fn end_for_memory(&mut self, id: &ContainerId, used: u64) {
        let Some(container) = self.containers.get_mut(id) else { return };
        if container.init.has_ended() {
            return;
        }
        // It is told again until it has ended.
        if !container.out_of_memory {
            let most = container.ceilings.memory.unwrap_or_default();
            log::warn!(container = id.as_str(); "uses {used} bytes of memory where it may use {most}: ending it");
        }
        container.out_of_memory = true;
        self.kill_all_of(id);
    }

    /// Kills every process of container `id` and leaves the others of the pod alone. A root container whose sandbox doesn't
    /// do that ends with its sandbox.
    pub(super) fn kill_all_of(&self, id: &ContainerId) {
        let (Ok(control), limit) = (self.control(), self.tools.calls.signal) else { return };
        let is_root = self.containers.get(id).is_some_and(|container| container.role.is_root());
        let sandbox = self.target().filter(|_| is_root);
        let id = id.clone();
        tokio::spawn(async move {
            for _ in 0..KILLS {
                let killed = control.signal(&id, Signal::KILL.number(), SignalScope::All, limit).await;
                let Err(error) = killed else { return };
                log::error!(container = id.as_str(); "cannot end it: {error}");
                if let Some(sandbox) = &sandbox {
                    return sandbox.kill_processes();
                }
                tokio::time::sleep(LONGEST_PAUSE).await;
            }
        });
    }
}

/// A look at one container's memory, again and again.
struct ContainerWatch {
    id: ContainerId,
    limit: u64,
    usage: MemoryUsage,
    control: ControlSocket,
    call_limit: Duration,
}

impl ContainerWatch {
    async fn run(self, outcomes: mpsc::UnboundedSender<Input>) {
        let (mut asked_at, mut total_then, mut step) = (None::<Instant>, 0, 0);
        let mut pause = SHORTEST_PAUSE;
        loop {
            tokio::time::sleep_until(next_look(pause)).await;
            let Some(total) = self.usage.read() else { return };
            let is_fresh = asked_at.is_some_and(|at| at.elapsed() < LONGEST_TRUST);
            if is_fresh && total < total_then + step {
                total_then = total_then.min(total);
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
            pause = SHORTEST_PAUSE;
            // A sandbox that is slow to answer is asked again; the watch ends with the container.
            let Ok(usage) = self.control.usage(&self.id, self.call_limit).await else { continue };
            if usage.memory_bytes > self.limit {
                let _ = outcomes.send(Input::OverMemory(self.id.clone(), usage.memory_bytes));
                continue;
            }
            (asked_at, total_then) = (Some(Instant::now()), total);
            step = ((self.limit - usage.memory_bytes) / 4).clamp(LEAST_STEP, MOST_STEP);
        }
    }
}

/// The next look of all that look every `pause`: at the same moment, so that the shim wakes up once for them.
fn next_look(pause: Duration) -> Instant {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let first = *FIRST.get_or_init(Instant::now);
    let looks = first.elapsed().as_nanos() / pause.as_nanos();
    first + pause * u32::try_from(looks).unwrap_or(u32::MAX).saturating_add(1)
}
