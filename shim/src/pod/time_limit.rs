//! The pod's time limit, applied to its containers.

use runsc_bridge::SignalScope;

use super::{Input, Pod, Stage};
use crate::{command::Signal, error::Error, lifecycle::Phase};

impl Pod {
    /// # Errors
    /// [`Error::Expired`]: the pod's time is up, and nothing new begins in it.
    pub(super) fn refuse_if_expired(&self) -> Result<(), Error> {
        if !self.deadline.has_expired() && !self.record.expired {
            return Ok(());
        }
        let limit = curfew_config::units::format_duration(self.deadline.limit());
        Err(Error::Expired { pod: self.record.sandbox.to_string(), limit })
    }

    /// Starts the clock, at the first workload's start.
    pub(super) fn arm_time_limit(&mut self) {
        let Some(policy) = &self.record.pod_policy else { return };
        let (timeout, grace) = (policy.timeout, policy.grace);
        if let Err(error) = self.deadline.arm(timeout, grace) {
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
            self.mark_expired();
        }
        match self.deadline.advance() {
            Stage::Grace => {
                self.ask_workloads_to_end();
                self.end_if_no_workload_is_left();
            }
            Stage::Ending => self.end_sandbox(),
            Stage::Unarmed | Stage::Armed => {}
        }
    }

    fn mark_expired(&mut self) {
        let limit = curfew_config::units::format_duration(self.deadline.limit());
        log::info!(pod = self.record.sandbox.as_str(); "the time limit of {limit} is reached");
        self.record.expired = true;
        if let Err(error) = self.write_record() {
            log::error!(pod = self.record.sandbox.as_str(); "{error}");
        }
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

    fn end_sandbox(&self) {
        if let Some(target) = self.target() {
            self.spawn(async move { Input::TimeLimitEnforced(target.end().await) });
        }
    }
}
