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

    /// The same with another limit, from the same beginning. What this one has more or less is added to its end: after a
    /// reboot the beginning is none on this process's clock.
    ///
    /// # Errors
    /// The kernel doesn't say which clock that is.
    pub(crate) fn lasting(&self, limit: Duration) -> io::Result<Self> {
        let (due, more) = (self.due.here()?, limit.saturating_sub(self.limit()));
        let due = due.after(more).before(self.limit().saturating_sub(limit));
        Ok(Self { due: Moment::at(due)?, limit: millis(limit), ..self.clone() })
    }

    /// The same, with no more than all of its limit and `most` left from now on, whatever clock it was written by: the wall's
    /// may be wrong after a reboot, and an entry may have been tampered with.
    ///
    /// # Errors
    /// The kernel doesn't say which clock that is.
    pub(crate) fn with_at_most(self, most: Duration) -> io::Result<Self> {
        let latest = Boottime::now().after(self.limit().min(most));
        Ok(if self.due.here()? > latest { Self { due: Moment::at(latest)?, ..self } } else { self })
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

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    /// One that was written on another clock, by which it has so much left.
    fn of_another_boot(limit: Duration, left: Duration) -> Span {
        let span = Span::new(Boottime::now(), limit, Duration::ZERO).unwrap().into_final();
        let due = Moment::at(Boottime::now().after(left)).unwrap();
        let (started, due) = (span.started.on_another_clock(), due.on_another_clock());
        Span { started, due, ..span }
    }

    fn left(span: &Span) -> Duration {
        span.due.here().unwrap().since(Boottime::now())
    }

    #[test]
    fn more_time_is_no_more_than_was_added_also_after_a_reboot() {
        let span = of_another_boot(10 * HOUR, HOUR);
        let longer = span.lasting(11 * HOUR).unwrap();
        assert!(left(&longer) <= 2 * HOUR && left(&longer) > 2 * HOUR - HOUR / 60, "{longer:?}");
        assert_eq!(longer.started, span.started);
        let shorter = span.lasting(9 * HOUR).unwrap();
        assert!(left(&shorter) < HOUR / 60);
    }

    #[test]
    fn nobody_inherits_more_than_there_ever_was() {
        // The wall's clock was right when it was written, and is years behind now.
        for left_by_it in [1000 * HOUR, Duration::MAX] {
            let span = of_another_boot(10 * HOUR, left_by_it);
            assert!(left(&span.clone().with_at_most(24 * HOUR).unwrap()) <= 10 * HOUR);
            assert!(left(&span.with_at_most(HOUR).unwrap()) <= HOUR);
        }
        let span = of_another_boot(10 * HOUR, HOUR / 2);
        assert_eq!(span.clone().with_at_most(HOUR).unwrap(), span);
    }
}
