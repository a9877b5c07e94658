//! The pod's budget of CPU time: of all attempts at the pod together, so what each has used is written down.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use curfew_config::PodPolicy;
use tokio::sync::mpsc;

use super::{
    Input, Pod,
    clocks::pause,
    pod_ledger::{Change, PodLedger},
};
use crate::{
    cgroup::Cgroup,
    error::Error,
    ledger::{LedgerError, Reason, Verdict},
    stats,
};

/// How often it is written down what a pod has used that runs: a node that dies forgets no more. With the longest pause
/// between two looks it is less than half a minute.
const NOTED_EVERY: Duration = Duration::from_secs(18);
/// Until what cannot be read may be read.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// CPU time of the pod's present sandbox as last read: its cgroup may be gone when it is to be written down.
#[derive(Debug, Clone, Default)]
pub(super) struct CpuUsed(Arc<AtomicU64>);

impl CpuUsed {
    /// Reads it, and gives what was read last where that isn't possible.
    fn read(&self, cgroup: &Cgroup) -> Duration {
        let millis =
            stats::cpu_time(cgroup).map_or(0, |used| u64::try_from(used.as_millis()).unwrap_or(u64::MAX));
        Duration::from_millis(self.0.fetch_max(millis, Ordering::Relaxed).max(millis))
    }
}

/// What is to be written down before the sandbox's cgroup is removed.
pub(super) struct CpuNote {
    ledger: PodLedger,
    used: Duration,
}

impl CpuNote {
    /// Returns once it is.
    pub(super) async fn write(self) {
        // It is logged where it fails.
        let _ = self.ledger.write(Change::CpuUsed(self.used)).done().await;
    }
}

impl Pod {
    /// # Errors
    /// Earlier attempts at the pod have used up the CPU time that it may use.
    pub(super) fn refuse_if_cpu_is_used_up(&mut self, policy: &PodPolicy) -> Result<(), Error> {
        let before = Duration::from_millis(self.record.cpu_before_ms);
        let (Some(budget), Some(pod)) = (policy.cpu_budget, &self.record.pod) else { return Ok(()) };
        if before < budget {
            return Ok(());
        }
        let (uid, verdict) = (pod.uid.clone(), Verdict::now(Reason::CpuBudgetExceeded, budget));
        self.record.verdict = Some(verdict.clone());
        self.note(Change::Verdict(verdict.clone()));
        Err(LedgerError::Expired { uid, verdict }.into())
    }

    /// # Errors
    /// The pod has a budget of CPU time, and nothing here counts that.
    pub(super) fn refuse_uncounted_cpu(&self) -> Result<(), Error> {
        let budget = self.record.pod_policy.as_ref().and_then(|policy| policy.cpu_budget);
        let (Some(budget), Some(sandbox)) = (budget, &self.sandbox) else { return Ok(()) };
        match stats::cpu_time(&sandbox.cgroup) {
            Some(_) => Ok(()),
            None => Err(Error::CpuNotCounted { budget: curfew_config::units::format_duration(budget) }),
        }
    }

    /// Reads what the sandbox has used, while that is known.
    pub(super) fn keep_cpu_used(&self) {
        if let Some(sandbox) = &self.sandbox {
            self.cpu_used.read(&sandbox.cgroup);
        }
    }

    /// What the ledger is to know of the pod's CPU time.
    pub(super) fn cpu_note(&self) -> Option<CpuNote> {
        let used = self.cpu_used.read(&self.sandbox.as_ref()?.cgroup);
        let (_, used) = self.record.cpu_budget(used)?;
        Some(CpuNote { ledger: self.ledger.clone()?, used })
    }

    /// The sandbox is gone: what it has used was used before the next one's.
    pub(super) fn add_cpu_used(&mut self) {
        let used = self.cpu_used.0.swap(0, Ordering::Relaxed);
        // Without a ledger its budget was its own, and goes with it.
        let before = self.record.cpu_before_ms.saturating_add(used);
        self.record.cpu_before_ms = if self.ledger.is_some() { before } else { 0 };
    }

    /// The clock of the pod's budget, if it has one.
    pub(super) fn cpu_clock(&self, cgroup: Arc<Cgroup>) -> Option<CpuClock> {
        let (budget, before) = self.record.cpu_budget(Duration::ZERO)?;
        let (cpu, ledger, used) = (self.record.policy.limits.cpu, self.ledger.clone(), self.cpu_used.clone());
        Some(CpuClock { cgroup, budget, before, cpu, used, ledger })
    }
}

pub(super) struct CpuClock {
    cgroup: Arc<Cgroup>,
    budget: Duration,
    /// What earlier attempts had used of it.
    before: Duration,
    /// What the sandbox can use at most, in thousandths of a CPU.
    cpu: u64,
    used: CpuUsed,
    ledger: Option<PodLedger>,
}

impl CpuClock {
    pub(super) async fn run(self, outcomes: mpsc::UnboundedSender<Input>) {
        let mut noted = Instant::now();
        loop {
            if stats::cpu_time(&self.cgroup).is_none() {
                // The pod's own end aborts this; until then what cannot be read now may be later.
                log::warn!("cannot read the pod's CPU time, trying on");
                tokio::time::sleep(TRY_AGAIN).await;
                continue;
            }
            let used = self.before.saturating_add(self.used.read(&self.cgroup));
            let left = self.budget.saturating_sub(used);
            if left.is_zero() {
                let _ = outcomes.send(Input::UsedUp(Reason::CpuBudgetExceeded));
                return;
            }
            if let Some(ledger) = self.ledger.clone().filter(|_| noted.elapsed() >= NOTED_EVERY) {
                noted = Instant::now();
                // A slow disk holds up no clock.
                drop(ledger.write(Change::CpuUsed(used)));
            }
            tokio::time::sleep(pause(left, self.cpu)).await;
        }
    }
}
