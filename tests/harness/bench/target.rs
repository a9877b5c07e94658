//! What is promised, and whether it is kept.

use super::machine;
use super::notes::{Figures, Measure, Subject};

/// A promise about Curfew's median.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// At most so many milliseconds.
    AtMost(f64),
    /// At most so many milliseconds more than bare runsc.
    OverBare(f64),
    /// At most this part of the runc shim's.
    PartOfRunc(f64),
    /// At least this part of the runc shim's.
    AtLeastOfRunc(f64),
}

impl Target {
    pub(crate) fn of(measure: Measure) -> Option<Self> {
        match measure {
            Measure::CreateAndStart => Some(Self::OverBare(10.0)),
            Measure::State | Measure::Pids | Measure::Kill => Some(Self::AtMost(2.0)),
            Measure::Stats => Some(Self::AtMost(1.0)),
            Measure::Exec => Some(Self::PartOfRunc(1.0 / 3.0)),
            Measure::ExecOutput => Some(Self::AtLeastOfRunc(0.6)),
            Measure::Create
            | Measure::Start
            | Measure::KillToExit
            | Measure::Delete
            | Measure::SentryExec
            | Measure::Output
            | Measure::Rss
            | Measure::Private
            | Measure::Descriptors => None,
        }
    }

    pub(crate) fn words(self) -> String {
        match self {
            Self::AtMost(ms) => format!("≤ {ms} ms"),
            Self::OverBare(ms) => format!("≤ bare + {ms} ms"),
            Self::PartOfRunc(part) => format!("≤ {part:.2} × runc"),
            Self::AtLeastOfRunc(part) => format!("≥ {part:.2} × runc"),
        }
    }

    /// `None` where something that it takes wasn't measured, or is a time on an emulated processor.
    pub(crate) fn is_met(self, measure: Measure, figures: &Figures) -> Option<bool> {
        if machine::is_emulated() && matches!(self, Self::AtMost(_) | Self::OverBare(_)) {
            return None;
        }
        let median = |subject| figures.summary(measure, subject).map(|summary| summary.median);
        let ours = median(Subject::Curfew)?;
        Some(match self {
            Self::AtMost(ms) => ours <= ms,
            Self::OverBare(ms) => ours <= median(Subject::Bare)? + ms,
            Self::PartOfRunc(part) => ours <= median(Subject::Runc)? * part,
            Self::AtLeastOfRunc(part) => ours >= median(Subject::Runc)? * part,
        })
    }
}
