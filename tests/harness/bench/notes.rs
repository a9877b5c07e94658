//! What was measured: a list of numbers for each subject and measure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What is measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// `runsc` by its command line, as a shim would call it.
    Bare,
    /// containerd's own shim with runc.
    Runc,
    Curfew,
    /// gVisor's own shim, where it can start.
    Peer,
}

impl Subject {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare runsc",
            Self::Runc => "runc shim",
            Self::Curfew => "Curfew",
            Self::Peer => "gVisor's shim",
        }
    }
}

/// What is measured. The order is the table's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Measure {
    Create,
    Start,
    CreateAndStart,
    State,
    Pids,
    Stats,
    /// A signal that the program ignores.
    Kill,
    /// From KILL to the answer of a Wait that was under way.
    KillToExit,
    Delete,
    /// `true`, from Exec to the answer of Wait.
    Exec,
    /// As [`Self::Exec`], by the sandbox's control socket.
    SentryExec,
    Output,
    ExecOutput,
    Rss,
    Private,
    Descriptors,
}

impl Measure {
    pub(crate) const ALL: [Self; 16] = [
        Self::Create,
        Self::Start,
        Self::CreateAndStart,
        Self::State,
        Self::Pids,
        Self::Stats,
        Self::Kill,
        Self::KillToExit,
        Self::Delete,
        Self::Exec,
        Self::SentryExec,
        Self::Output,
        Self::ExecOutput,
        Self::Rss,
        Self::Private,
        Self::Descriptors,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::CreateAndStart => "create + start",
            Self::State => "State",
            Self::Pids => "Pids",
            Self::Stats => "Stats",
            Self::Kill => "Kill",
            Self::KillToExit => "KILL to exit",
            Self::Delete => "delete",
            Self::Exec => "exec of true",
            Self::SentryExec => "the same, in the sentry alone",
            Self::Output => "container output",
            Self::ExecOutput => "exec output",
            Self::Rss => "shim, resident",
            Self::Private => "shim, private and written to",
            Self::Descriptors => "shim, descriptors",
        }
    }

    /// Empty for numbers of things.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Output | Self::ExecOutput => "MB/s",
            Self::Rss | Self::Private => "KiB",
            Self::Descriptors => "",
            Self::Create
            | Self::Start
            | Self::CreateAndStart
            | Self::State
            | Self::Pids
            | Self::Stats
            | Self::Kill
            | Self::KillToExit
            | Self::Delete
            | Self::Exec
            | Self::SentryExec => "ms",
        }
    }

    /// Whether the bad end of the measure is the low one.
    pub(crate) fn more_is_better(self) -> bool {
        self.unit() == "MB/s"
    }
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub(crate) struct Figures(BTreeMap<(Measure, Subject), Vec<f64>>);

/// Some numbers in short.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Summary {
    pub(crate) count: usize,
    pub(crate) best: f64,
    pub(crate) median: f64,
    /// The value that nineteen in twenty don't exceed; or don't fall below, where more is better.
    pub(crate) p95: f64,
    pub(crate) worst: f64,
}

impl Figures {
    /// `None` if nothing was measured.
    pub(crate) fn summary(&self, measure: Measure, subject: Subject) -> Option<Summary> {
        let mut values = self.0.get(&(measure, subject))?.clone();
        values.sort_by(f64::total_cmp);
        if measure.more_is_better() {
            values.reverse();
        }
        let (best, worst) = (*values.first()?, *values.last()?);
        let count = values.len();
        let median = f64::midpoint(values[(count - 1) / 2], values[count / 2]);
        let p95 = values[(count * 95).div_ceil(100) - 1];
        Some(Summary { count, best, median, p95, worst })
    }

    pub(crate) fn notes(&mut self, subject: Subject) -> Notes<'_> {
        Notes { subject, figures: self }
    }
}

/// Takes down what is measured on one subject.
#[derive(Debug)]
pub(crate) struct Notes<'a> {
    subject: Subject,
    figures: &'a mut Figures,
}

impl Notes<'_> {
    pub(crate) fn add(&mut self, measure: Measure, value: f64) {
        self.figures.0.entry((measure, self.subject)).or_default().push(value);
    }

    pub(crate) fn add_time(&mut self, measure: Measure, time: Duration) {
        self.add(measure, time.as_secs_f64() * 1e3);
    }

    /// Takes the time of a call. One that fails has none.
    pub(crate) fn time<T, E>(
        &mut self,
        measure: Measure,
        call: impl FnOnce() -> Result<T, E>,
    ) -> Result<(T, Duration), E> {
        let start = Instant::now();
        let answer = call()?;
        let took = start.elapsed();
        self.add_time(measure, took);
        Ok((answer, took))
    }
}
