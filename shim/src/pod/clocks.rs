//! The pod's other clocks: how long it may do nothing, how much CPU time it may use in all, and how long it may be there
//! before anything of it starts. Each ends the pod as its deadline would.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

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
        if let Some(clock) = self.cpu_clock(cgroup.clone()) {
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

/// The soonest that so much CPU time can be used.
pub(super) fn pause(left: Duration, cpu: u64) -> Duration {
    let nanos = left.as_nanos().saturating_mul(1000) / u128::from(cpu.max(1));
    Duration::from_nanos_u128(nanos.min(LONGEST_PAUSE.as_nanos())).max(SHORTEST_PAUSE)
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

/// How long a pod has been seen to do nothing.
#[derive(Debug)]
struct Quiet {
    since: Boottime,
    /// Looks at a pod that did nothing, since it last did anything or could not.
    looks: u32,
}

impl Quiet {
    /// Takes in one more look. Says whether the pod has done nothing for `limit`. After a time in which the whole machine
    /// slept it takes two looks to say so: whatever would have shown itself had no chance to.
    fn is_over(&mut self, now: Boottime, is_busy: bool, has_slept: bool, limit: Duration) -> bool {
        if is_busy {
            self.since = now;
        }
        self.looks = if is_busy || has_slept { 0 } else { self.looks.saturating_add(1) };
        self.looks >= 2 && now.since(self.since) >= limit
    }
}

/// Whether the machine has slept while so much time has passed, with its sleep and without.
fn has_slept(with: Duration, without: Duration) -> bool {
    with.saturating_sub(without) > SHORTEST_PAUSE
}

impl IdleClock {
    async fn run(self, outcomes: mpsc::UnboundedSender<Input>) {
        let step = (self.limit / LOOKS).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        let mut before = Look::default();
        let mut quiet = Quiet { since: Boottime::now(), looks: 0 };
        let mut looked = (quiet.since, Instant::now());
        loop {
            let Some(look) = self.look() else {
                log::warn!("cannot see whether the pod does anything, trying on");
                tokio::time::sleep(LONGEST_PAUSE).await;
                continue;
            };
            // Of the two clocks the second stands still while the machine sleeps.
            let (now, awake) = (Boottime::now(), Instant::now());
            let has_slept = has_slept(now.since(looked.0), awake.duration_since(looked.1));
            looked = (now, awake);
            if quiet.is_over(now, look.is_busy(&before, &self.settings), has_slept, self.limit) {
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
            cpu: stats::cpu_time(&self.cgroup)?,
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
    fn a_pod_that_slept_with_its_machine_is_not_idle_at_the_first_look_after_it() {
        let (start, hour) = (Boottime::now(), Duration::from_secs(3600));
        let at = |seconds| start.after(Duration::from_secs(seconds));
        let mut quiet = Quiet { since: start, looks: 0 };
        assert!(!quiet.is_over(at(60), false, false, hour));
        assert!(!quiet.is_over(at(9000), false, true, hour));
        assert!(!quiet.is_over(at(9060), false, false, hour));
        assert!(quiet.is_over(at(9120), false, false, hour));
        // What it does in that time counts, and without sleep nothing changes.
        assert!(!quiet.is_over(at(9180), true, false, hour));
        assert!(!quiet.is_over(at(9180 + 3599), false, false, hour));
        assert!(quiet.is_over(at(9180 + 3600), false, false, hour));
        assert!(has_slept(hour, Duration::from_secs(10)));
        assert!(!has_slept(Duration::from_millis(10_020), Duration::from_secs(10)));
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
