//! A pod's time as it is written down.

use std::{io, time::Duration};

use serde::{Deserialize, Serialize};

use super::clock::{Boottime, Moment};

/// From the first workload's start to the pod's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span {
    pub(crate) started: Moment,
    /// When the time is up. A workload gets its grace after that.
    pub(crate) due: Moment,
    /// In milliseconds, rounded up.
    limit: u64,
    grace: u64,
    /// Whether the workload has started. Before that it is what will hold if nobody is there to say so.
    pub(crate) is_final: bool,
    /// Whether the pod waits for its deadline file to say something, and will have its time from then on.
    #[serde(default)]
    pub(crate) waits: bool,
    /// What the deadline file said last.
    #[serde(default)]
    pub(super) claim: Option<String>,
}

impl Span {
    /// One of `limit` that begins at `started` on this process's clock.
    ///
    /// # Errors
    /// The kernel doesn't say which clock that is.
    pub(crate) fn new(started: Boottime, limit: Duration, grace: Duration) -> io::Result<Self> {
        Ok(Self {
            started: Moment::at(started)?,
            due: Moment::at(started.after(limit))?,
            limit: millis(limit),
            grace: millis(grace),
            is_final: false,
            waits: false,
            claim: None,
        })
    }

    /// The time of a workload that has started.
    pub(crate) fn into_final(self) -> Self {
        Self { is_final: true, ..self }
    }

    /// The time of a pod whose deadline file says nothing yet.
    pub(crate) fn that_waits(self) -> Self {
        Self { waits: true, ..self }
    }

    /// The same with another limit, from the same beginning.
    ///
    /// # Errors
    /// The kernel doesn't say which clock that is.
    pub(crate) fn lasting(&self, limit: Duration) -> io::Result<Self> {
        let due = self.started.here()?.after(limit);
        Ok(Self { due: Moment::at(due)?, limit: millis(limit), ..self.clone() })
    }

    /// How much time the pod has had from the beginning, or has been given.
    pub(crate) fn limit(&self) -> Duration {
        Duration::from_millis(self.limit)
    }

    /// The time between TERM and KILL.
    pub(crate) fn grace(&self) -> Duration {
        Duration::from_millis(self.grace)
    }

    /// When the grace is over too, on this process's clock.
    ///
    /// # Errors
    /// The kernel doesn't say which clock that is.
    pub(crate) fn over(&self) -> io::Result<Boottime> {
        Ok(self.due.here()?.after(self.grace()))
    }

    /// Whether the time is up. A clock that cannot be read counts as one that says so.
    pub(crate) fn is_over(&self) -> bool {
        self.due.here().map_or(true, |due| due <= Boottime::now())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
