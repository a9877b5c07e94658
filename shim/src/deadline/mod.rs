//! The pod's wall clock.
//!
//! Absolute time on CLOCK_BOOTTIME: steps of the wall clock don't move it, and a suspended node doesn't stop it. It
//! starts with the first workload container and has three stages.
//!
//! ```text
//!  Unarmed ──workload starts──▶ Armed ──limit──▶ Grace ──grace, or all workloads ended──▶ Ending
//! ```
//! [`escalate`] is what happens in `Ending`. This is the part that lives in the shim; what has to hold without it, a
//! ledger on disk and a watchdog beside the shim, gets its deadline from here.

pub(crate) mod claim;
pub(crate) mod clock;
pub(crate) mod escalate;
pub(crate) mod span;
pub(crate) mod timer;

use std::time::Duration;

use self::{clock::Boottime, timer::BoottimeTimer};

/// How far the pod's time has run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No workload has started yet.
    Unarmed,
    /// Time runs.
    Armed,
    /// Time is up: the workloads have been asked to end.
    Grace,
    /// The sandbox is being killed.
    Ending,
}

/// The deadline of one pod.
#[derive(Debug)]
pub(crate) struct Deadline {
    stage: Stage,
    limit: Duration,
    grace: Duration,
    timer: BoottimeTimer,
}

impl Deadline {
    /// A deadline that isn't armed yet.
    ///
    /// # Errors
    /// What kept the timer from being made: without one nothing may run.
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            stage: Stage::Unarmed,
            limit: Duration::ZERO,
            grace: Duration::ZERO,
            timer: BoottimeTimer::new()?,
        })
    }

    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether the clock has been started.
    pub(crate) fn is_armed(&self) -> bool {
        self.stage != Stage::Unarmed
    }

    /// Whether the pod's time is up.
    pub(crate) fn has_expired(&self) -> bool {
        matches!(self.stage, Stage::Grace | Stage::Ending)
    }

    /// Whether workloads get any time to end.
    pub(crate) fn has_grace(&self) -> bool {
        !self.grace.is_zero()
    }

    /// The wall-clock limit, for messages.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// Starts the clock, unless it runs already: `limit` is over at `due`. Says whether it has.
    ///
    /// # Errors
    /// The timer cannot be set; the caller must not let the workload run.
    pub(crate) fn arm(&mut self, due: Boottime, limit: Duration, grace: Duration) -> std::io::Result<bool> {
        if self.stage != Stage::Unarmed {
            return Ok(false);
        }
        self.timer.set(Some(due))?;
        self.stage = Stage::Armed;
        (self.limit, self.grace) = (limit, grace);
        Ok(true)
    }

    /// Lets the clock run until `due`, which makes `limit`, while it runs.
    ///
    /// # Errors
    /// The timer cannot be set; it is as it was.
    pub(crate) fn extend(&mut self, due: Boottime, limit: Duration) -> std::io::Result<()> {
        if self.stage == Stage::Armed {
            self.timer.set(Some(due))?;
            self.limit = limit;
        }
        Ok(())
    }

    /// Has the time be up now, for another reason than the clock, whether it runs or not.
    pub(crate) fn expire(&mut self, grace: Duration) {
        if !self.has_expired() {
            self.clear();
            (self.stage, self.grace) = (Stage::Armed, grace);
        }
    }

    /// Stops the clock of a pod whose sandbox has ended: there is nothing left to end.
    pub(crate) fn disarm(&mut self) {
        if self.stage == Stage::Armed {
            self.stage = Stage::Unarmed;
            self.clear();
        }
    }

    /// Has workloads get no more than `grace` to end.
    pub(crate) fn shorten_grace(&mut self, grace: Duration) {
        self.grace = self.grace.min(grace);
    }

    /// Goes to the next stage, once [`Self::due`] has returned or because there is nothing to wait for.
    pub(crate) fn advance(&mut self) -> Stage {
        self.stage = match self.stage {
            Stage::Unarmed => Stage::Unarmed,
            Stage::Armed if self.grace.is_zero() => Stage::Ending,
            Stage::Armed => match self.timer.set(Some(Boottime::now().after(self.grace))) {
                Ok(()) => Stage::Grace,
                // A grace that cannot be measured isn't given.
                Err(_) => Stage::Ending,
            },
            Stage::Grace | Stage::Ending => Stage::Ending,
        };
        if self.stage == Stage::Ending {
            self.clear();
        }
        self.stage
    }

    fn clear(&self) {
        // Unsetting a valid timer cannot fail.
        let _ = self.timer.set(None);
    }

    /// Returns when the current stage is over; never in a stage without an end.
    pub(crate) async fn due(&self) {
        self.timer.expired().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_deadline_goes_through_its_stages_in_time() {
        let mut deadline = Deadline::new().unwrap();
        let before = Instant::now();
        let limit = Duration::from_millis(40);
        assert!(deadline.arm(Boottime::now().after(limit), limit, Duration::from_millis(30)).unwrap());
        assert!(!deadline.has_expired());
        deadline.due().await;
        assert_eq!(deadline.advance(), Stage::Grace);
        deadline.due().await;
        assert_eq!(deadline.advance(), Stage::Ending);
        assert!(before.elapsed() >= Duration::from_millis(70));
        assert!(deadline.has_expired());
    }

    #[tokio::test]
    async fn a_second_workload_does_not_start_the_clock_anew() {
        let mut deadline = Deadline::new().unwrap();
        let (limit, longer) = (Duration::from_millis(20), Duration::from_secs(3600));
        assert!(deadline.arm(Boottime::now().after(limit), limit, Duration::ZERO).unwrap());
        assert!(!deadline.arm(Boottime::now().after(longer), longer, Duration::ZERO).unwrap());
        assert_eq!(deadline.limit(), limit);
        deadline.due().await;
        assert_eq!(deadline.advance(), Stage::Ending);
    }

    #[tokio::test]
    async fn an_unarmed_deadline_is_never_due() {
        let deadline = Deadline::new().unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(30), deadline.due()).await.is_err());
    }
}
