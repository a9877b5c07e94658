//! The pod's other clocks: how long it may do nothing, how much CPU time it may use in all, and how long it may be there
//! before anything of it starts. Each ends the pod as its deadline would.

use std::{sync::Arc, time::Duration};

use curfew_config::Idle;
use tokio::sync::{mpsc, watch};

use super::{Input, Pod, memory::AbortOnDrop, view::PodView};
use crate::{
    cgroup::Cgroup,
    deadline::{clock::Boottime, timer::BoottimeTimer},
    ledger::Reason,
    lifecycle::Phase,
    process::{PidFd, ProcessName},
    stats::{self, Interface},
    stdio::exec::{execs_so_far, input_so_far},
};

/// Between two looks at CPU time that is nearly used up, and at one that isn't.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How many looks a time of doing nothing takes.
const LOOKS: u32 = 20;

impl Pod {
    /// Starts the clocks that the pod has, with its deadline.
    pub(super) fn start_clocks(&mut self) {
        let (Some(sandbox), Some(policy)) = (&self.sandbox, &self.record.pod_policy) else { return };
        let cgroup = sandbox.cgroup.clone();
        self.clocks.clear();
        if let Some(budget) = policy.cpu_budget {
            let clock = CpuClock { cgroup: cgroup.clone(), budget, cpu: self.record.policy.limits.cpu };
            self.clocks.push(AbortOnDrop::new(tokio::spawn(clock.run(self.outcomes.clone()))));
        }
        // One that waits for its claim does nothing.
        if let Some(limit) = policy.idle_timeout.filter(|_| !self.waits_for_claim()) {
            let (settings, view) = (self.record.policy.idle.clone(), self.view.subscribe());
            let (name, process) = (self.record.process, sandbox.process.clone());
            let clock = IdleClock { cgroup, name, process, limit, settings, view };
            self.clocks.push(AbortOnDrop::new(tokio::spawn(clock.run(self.outcomes.clone()))));
        }
    }

    /// Starts the clock of a sandbox in which nothing runs yet.
    pub(super) fn limit_startup(&mut self) {
        let startup = self.record.policy.timeout.startup;
        let due = Boottime::now().after(startup);
        drop(self.watchdog.over_at(due));
        let outcomes = self.outcomes.clone();
        let clock = tokio::spawn(async move {
            match BoottimeTimer::new().and_then(|timer| timer.set(Some(due)).map(|()| timer)) {
                Ok(timer) => timer.expired().await,
                // The watchdog knows it too.
                Err(error) => return log::error!("cannot measure the time until a workload starts: {error}"),
            }
            let _ = outcomes.send(Input::UsedUp(Reason::StartupTimeout));
        });
        self.clocks = vec![AbortOnDrop::new(clock)];
    }

    /// What the pod was allowed of what it has used up.
    pub(super) fn allowed(&self, reason: Reason) -> Duration {
        let policy = self.record.pod_policy.as_ref();
        let of = |limit: Option<Duration>| limit.unwrap_or_default();
        match reason {
            Reason::IdleTimeout => of(policy.and_then(|policy| policy.idle_timeout)),
            Reason::CpuBudgetExceeded => of(policy.and_then(|policy| policy.cpu_budget)),
            Reason::StartupTimeout => self.record.policy.timeout.startup,
            Reason::DeadlineExceeded
            | Reason::OomKilled
            | Reason::PidsLimitExceeded
            | Reason::LogSizeExceeded
            | Reason::ShimLost => self.deadline.limit(),
        }
    }
}

struct CpuClock {
    cgroup: Arc<Cgroup>,
    budget: Duration,
    /// What the sandbox can use at most, in thousandths of a CPU.
    cpu: u64,
}

impl CpuClock {
    async fn run(self, outcomes: mpsc::UnboundedSender<Input>) {
        loop {
            let Some(used) = cpu_time(&self.cgroup) else {
                // The pod's own end aborts this; until then what cannot be read now may be later.
                log::warn!("cannot read the pod's CPU time, trying on");
                tokio::time::sleep(LONGEST_PAUSE).await;
                continue;
            };
            let left = self.budget.saturating_sub(used);
            if left.is_zero() {
                let _ = outcomes.send(Input::UsedUp(Reason::CpuBudgetExceeded));
                return;
            }
            tokio::time::sleep(pause(left, self.cpu)).await;
        }
    }
}

/// The soonest that so much CPU time can be used.
fn pause(left: Duration, cpu: u64) -> Duration {
    let nanos = left.as_nanos().saturating_mul(1000) / u128::from(cpu.max(1));
    Duration::from_nanos_u128(nanos.min(LONGEST_PAUSE.as_nanos())).max(SHORTEST_PAUSE)
}

fn cpu_time(cgroup: &Cgroup) -> Option<Duration> {
    stats::read(cgroup).ok()?.cpu.map(|cpu| Duration::from_nanos(cpu.usage_ns))
}

struct IdleClock {
    cgroup: Arc<Cgroup>,
    name: Option<ProcessName>,
    process: Arc<PidFd>,
    limit: Duration,
    settings: Idle,
    view: watch::Receiver<PodView>,
}

/// What shows whether a pod does anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Look {
    at: Option<Boottime>,
    cpu: Duration,
    input: u64,
    bytes: u64,
    /// Whether any runs, and how many have been started so far.
    execs: bool,
    started: u64,
}

impl Look {
    /// Whether the pod has done something since `before`.
    fn is_busy(&self, before: &Self, settings: &Idle) -> bool {
        let (Some(now), Some(then)) = (self.at, before.at) else { return true };
        let used = self.cpu.saturating_sub(before.cpu).as_nanos() * 1000;
        used > u128::from(settings.cpu) * now.since(then).as_nanos()
            || (settings.execs && (self.execs || self.started != before.started))
            || (settings.stdin && self.input != before.input)
            || (settings.network && self.bytes != before.bytes)
    }
}

impl IdleClock {
    async fn run(self, outcomes: mpsc::UnboundedSender<Input>) {
        let step = (self.limit / LOOKS).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        let (mut before, mut busy_at) = (Look::default(), Boottime::now());
        loop {
            let Some(look) = self.look() else {
                log::warn!("cannot see whether the pod does anything, trying on");
                tokio::time::sleep(LONGEST_PAUSE).await;
                continue;
            };
            let now = Boottime::now();
            if look.is_busy(&before, &self.settings) {
                busy_at = now;
            }
            if now.since(busy_at) >= self.limit {
                let _ = outcomes.send(Input::UsedUp(Reason::IdleTimeout));
                return;
            }
            before = look;
            tokio::time::sleep(step).await;
        }
    }

    fn look(&self) -> Option<Look> {
        let network = self.name.map(|name| stats::read_network(name, &self.process)).unwrap_or_default();
        // What stays within the pod is nobody's use of it.
        let others = network.iter().filter(|interface| interface.name != "lo");
        let bytes = |interface: &Interface| interface.received.bytes + interface.sent.bytes;
        let running = |phase| matches!(phase, Phase::Starting | Phase::Running);
        let view = self.view.borrow();
        let execs =
            view.values().flat_map(|container| container.execs.values()).any(|exec| running(exec.phase));
        Some(Look {
            at: Some(Boottime::now()),
            cpu: cpu_time(&self.cgroup)?,
            input: input_so_far(),
            bytes: others.map(bytes).sum(),
            execs,
            started: execs_so_far(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_looked_at_when_it_can_be_used_up_at_the_soonest() {
        assert_eq!(pause(Duration::from_secs(8), 2000), Duration::from_secs(4));
        assert_eq!(pause(Duration::from_millis(1), 2000), SHORTEST_PAUSE);
        assert_eq!(pause(Duration::from_secs(8), 100), LONGEST_PAUSE);
        assert_eq!(pause(Duration::MAX, 1), LONGEST_PAUSE);
    }

    #[test]
    fn each_sign_of_life_counts_if_it_is_to() {
        let at = |cpu, input, bytes, execs, later| Look {
            at: Some(Boottime::now().after(Duration::from_secs(later))),
            cpu: Duration::from_millis(cpu),
            input,
            bytes,
            execs,
            started: 0,
        };
        let before = at(1000, 5, 7, false, 0);
        let all = Idle::default();
        // Ten seconds later, and 20m of them are 200 ms.
        assert!(!at(1190, 5, 7, false, 10).is_busy(&before, &all));
        assert!(at(1210, 5, 7, false, 10).is_busy(&before, &all));
        let one_more = Look { started: 1, ..at(1000, 5, 7, false, 10) };
        for look in [one_more, at(1000, 6, 7, false, 10), at(1000, 5, 8, false, 10), at(1000, 5, 7, true, 10)]
        {
            assert!(look.is_busy(&before, &all));
            let none = Idle { execs: false, stdin: false, network: false, ..Idle::default() };
            assert!(!look.is_busy(&before, &none));
        }
        assert!(before.is_busy(&Look::default(), &all));
    }
}
