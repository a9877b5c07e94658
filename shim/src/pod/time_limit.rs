//! The pod's time limit, applied to its containers.

use std::time::Duration;

use curfew_config::OnTimeout;
use runsc_bridge::SignalScope;

use super::{Input, Pod, Stage, pod_ledger::Change};
use crate::{
    command::Signal,
    deadline::{clock::Boottime, escalate::Step},
    error::Error,
    ledger::{Reason, Verdict},
    lifecycle::Phase,
    stats::{self, Interface, Stats},
    termination::Usage,
    watchdog::SandboxEnd,
};

/// At the latest, when a sandbox doesn't end.
const WRITTEN_DOWN_AFTER: Duration = Duration::from_millis(250);

/// What a sandbox had used in the moment before it was killed.
#[derive(Default)]
pub(super) struct LastCounts {
    network: Vec<Interface>,
    others: Option<Stats>,
}

impl Pod {
    /// Starts the clock, at the first workload's start.
    pub(super) fn arm_time_limit(&mut self) {
        if let Err(error) = self.arm() {
            // Nothing may run without a limit.
            log::error!(pod = self.record.sandbox.as_str(); "cannot arm the deadline, ending the pod: {error}");
            if let Some(target) = self.target() {
                target.kill_processes();
            }
        }
    }

    /// A stage of the deadline is over.
    pub(super) fn time_is_up(&mut self) {
        self.enter(self.deadline.stage());
    }

    fn enter(&mut self, over: Stage) {
        if over == Stage::Armed {
            let last = self.last_counts();
            self.mark_expired();
            if self.ends_at_once() {
                // All that is to be written down can wait, and takes processors from sandboxes that end.
                self.deadline.advance();
                self.end_sandbox();
                self.unwritten_end = Some(last);
                self.spawn(async {
                    tokio::time::sleep(WRITTEN_DOWN_AFTER).await;
                    Input::WriteDownEnd
                });
                return;
            }
            self.write_down_end(last);
            self.begin_saving();
        }
        match self.deadline.advance() {
            Stage::Grace if self.saving => {}
            Stage::Grace => {
                self.ask_workloads_to_end();
                self.end_if_no_workload_is_left();
            }
            Stage::Ending => self.end_sandbox(),
            Stage::Unarmed | Stage::Armed => {}
        }
    }

    /// Something else than its time is used up, which ends it in the same way.
    pub(super) fn used_up(&mut self, reason: Reason) {
        let starts = |phase| matches!(phase, Phase::Starting);
        let starting = self.containers.values().any(|c| c.role.is_workload() && starts(c.init.phase));
        let has_started = self.deadline.is_armed() || starting;
        if self.deadline.has_expired()
            || self.sandbox.is_none()
            || (reason == Reason::StartupTimeout && has_started)
        {
            return;
        }
        self.end_reason = reason;
        let grace = self.record.pod_policy.as_ref().map_or(Duration::ZERO, |policy| policy.grace);
        drop(self.watchdog.over_at(Boottime::now().after(grace)));
        self.deadline.expire(grace);
        self.enter(Stage::Armed);
    }

    /// Whether nothing comes between the limit and the kill. Of a deadline alone: that it is over shows without a record.
    fn ends_at_once(&self) -> bool {
        let kills = self.record.policy.timeout.on_timeout == OnTimeout::Kill;
        // What is in the ledger while an extension is under way isn't what holds.
        kills && !self.extending && !self.deadline.has_grace() && self.end_reason == Reason::DeadlineExceeded
    }

    /// What can be counted only as long as there are processes.
    fn last_counts(&self) -> LastCounts {
        let Some(sandbox) = &self.sandbox else { return LastCounts::default() };
        // The host's own is everybody's.
        let process = self.record.process.filter(|_| !self.record.host_network);
        let network = process.map(|name| stats::read_network(name, &sandbox.process));
        // systemd removes a scope with its last process.
        let by_systemd = self.record.cgroup.is_by_systemd();
        let others = by_systemd.then(|| stats::read(&sandbox.cgroup).ok()).flatten();
        LastCounts { network: network.unwrap_or_default(), others }
    }

    fn mark_expired(&mut self) {
        self.clocks.clear();
        self.claim.forget_file();
        self.record.expired = true;
        self.record.verdict = Some(Verdict::now(self.end_reason, self.allowed(self.end_reason)));
    }

    /// What has waited for the sandbox to end, which it may have.
    pub(super) fn write_down_unwritten_end(&mut self) {
        if let Some(last) = self.unwritten_end.take() {
            self.write_down_end(last);
        }
    }

    fn write_down_end(&mut self, last: LastCounts) {
        let Some(verdict) = self.record.verdict.clone() else { return };
        let limit = curfew_config::units::format_duration(verdict.limit());
        log::info!(pod = self.record.sandbox.as_str(); "{}: the limit of {limit} is reached", verdict.reason.words());
        let others = last.others.or_else(|| stats::read(&self.sandbox.as_ref()?.cgroup).ok());
        self.usage_at_the_end = others.map(|others| Usage::of(&Stats { network: last.network, ..others }));
        if let Err(error) = self.write_record() {
            log::error!(pod = self.record.sandbox.as_str(); "{error}");
        }
        self.note(Change::Verdict(verdict));
    }

    pub(super) fn ask_workloads_to_end(&self) {
        let Some(sandbox) = &self.sandbox else { return };
        let limit = self.tools.calls.signal;
        for container in
            self.containers.values().filter(|c| c.role.is_workload() && c.init.phase == Phase::Running)
        {
            let (control, id) = (sandbox.control.clone(), container.id.clone());
            tokio::spawn(async move {
                let sent = control.signal(&id, Signal::TERM.number(), SignalScope::Init, limit).await;
                if let Err(error) = sent {
                    log::warn!(container = id.as_str(); "cannot tell it that its time is up: {error}");
                }
            });
        }
    }

    /// Once every workload has ended the grace has nobody to serve.
    pub(super) fn end_if_no_workload_is_left(&mut self) {
        let runs = |phase| !matches!(phase, Phase::Created | Phase::Stopped | Phase::Deleting);
        let left = self.containers.values().any(|c| c.role.is_workload() && runs(c.init.phase));
        if self.deadline.stage() == Stage::Grace && !left {
            self.enter(Stage::Grace);
        }
    }

    /// Ends the pod because the node's operator wants it: its containers as if somebody had killed them.
    ///
    /// # Errors
    /// There is no sandbox.
    pub(super) fn end_by_operator(&self) -> Result<(), Error> {
        self.control()?;
        log::info!(pod = self.record.sandbox.as_str(); "ended by the node's operator");
        self.end_sandbox();
        Ok(())
    }

    /// The sandbox is gone, by this step.
    pub(super) fn time_limit_enforced(&mut self, step: Step) {
        // It acts where this comes too late, and some of the sandbox's threads may be there still when it has.
        let by_watchdog = SandboxEnd::read(&self.tools.dir).is_some();
        let step = if by_watchdog { Step::Watchdog } else { step };
        log::info!(pod = self.record.sandbox.as_str(); "the sandbox is gone, by {}", step.words());
        self.note(Change::EndedBy(step));
    }

    fn end_sandbox(&self) {
        let Some(target) = self.target() else { return };
        let had_ended = target.sandbox.has_ended();
        target.kill_processes();
        self.spawn(async move {
            let step = target.ended().await;
            Input::TimeLimitEnforced(if had_ended { Step::Workload } else { step })
        });
    }
}
