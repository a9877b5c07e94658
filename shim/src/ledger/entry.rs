//! One pod's file.

use std::{
    fmt, io,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::LedgerError;
use crate::deadline::{
    clock::{Boottime, Moment, unix_millis},
    escalate::Step,
    span::Span,
};

/// The last second that has a date of four digits, in milliseconds since 1970.
const LAST_DATE: u64 = 253_402_300_799_000;
/// The form that this version writes and reads.
const FORMAT: u32 = 1;

/// A pod as Kubernetes names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PodName {
    pub(crate) uid: String,
    /// For people; empty where nobody said.
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// Why a pod or one of its containers was ended. The words are what a termination message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reason {
    DeadlineExceeded,
    IdleTimeout,
    #[serde(rename = "CPUBudgetExceeded")]
    CpuBudgetExceeded,
    /// No workload has started for too long.
    StartupTimeout,
    #[serde(rename = "OOMKilled")]
    OomKilled,
    PidsLimitExceeded,
    LogSizeExceeded,
    ShimLost,
}

impl Reason {
    /// The word that Kubernetes' own reasons are like.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::IdleTimeout => "IdleTimeout",
            Self::CpuBudgetExceeded => "CPUBudgetExceeded",
            Self::StartupTimeout => "StartupTimeout",
            Self::OomKilled => "OOMKilled",
            Self::PidsLimitExceeded => "PidsLimitExceeded",
            Self::LogSizeExceeded => "LogSizeExceeded",
            Self::ShimLost => "ShimLost",
        }
    }
}

/// That a pod's time is up, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) reason: Reason,
    /// Milliseconds since 1970.
    at: u64,
    /// What it was allowed, in milliseconds.
    limit: u64,
}

impl Verdict {
    pub(crate) fn now(reason: Reason, limit: Duration) -> Self {
        Self::at(reason, SystemTime::now(), limit)
    }

    fn at(reason: Reason, at: SystemTime, limit: Duration) -> Self {
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        Self { reason, at: unix_millis(at), limit }
    }

    /// What it was allowed.
    pub(crate) fn limit(&self) -> Duration {
        Duration::from_millis(self.limit)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(self.at.min(LAST_DATE));
        let at = humantime::format_rfc3339_seconds(at);
        let limit = curfew_config::units::format_duration(self.limit());
        write!(f, "{} at {at}, after {limit}", self.reason.words())
    }
}

/// What is known of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    format: u32,
    pub(crate) pod: PodName,
    /// The sandbox of the last attempt.
    pub(crate) sandbox: String,
    /// Once a workload was about to start.
    pub(crate) span: Option<Span>,
    pub(crate) verdict: Option<Verdict>,
    /// What ended its last sandbox, once its time was up.
    #[serde(default)]
    pub(crate) ended_by: Option<Step>,
    /// When this was written.
    #[serde(default)]
    written: Option<Moment>,
    /// CPU time that all attempts have used so far, in milliseconds; of a pod that has a budget of it.
    #[serde(default)]
    pub(super) cpu_used_ms: u64,
    /// Where it was written to when its time was up, if it was.
    #[serde(default)]
    pub(crate) checkpoint: Option<PathBuf>,
    /// How long to remember it afterwards, in milliseconds.
    retention: u64,
}

impl Entry {
    pub(super) fn new(pod: PodName, sandbox: &str, span: Option<Span>, retention: Duration) -> Self {
        let retention = u64::try_from(retention.as_millis()).unwrap_or(u64::MAX);
        Self {
            format: FORMAT,
            pod,
            sandbox: sandbox.to_owned(),
            span,
            verdict: None,
            ended_by: None,
            written: None,
            cpu_used_ms: 0,
            checkpoint: None,
            retention,
        }
    }

    pub(super) fn parse(text: &[u8]) -> io::Result<Self> {
        let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
        let entry: Self = serde_json::from_slice(text).map_err(|error| invalid(error.to_string()))?;
        if entry.format != FORMAT {
            return Err(invalid(format!("format {} instead of {FORMAT}", entry.format)));
        }
        Ok(entry)
    }

    /// The same, written now. Without a clock it says no more than its file does.
    pub(super) fn dated(&self) -> Self {
        Self { written: Moment::at(Boottime::now()).ok(), ..self.clone() }
    }

    /// Whether the pod's time, and the entry itself, are as old as the retention says. By a clock that nobody can set, except
    /// for what another boot has left.
    pub(super) fn is_old(&self) -> bool {
        let due = self.span.as_ref().map(|span| &span.due);
        let mut moments = [self.written.as_ref(), due].into_iter().flatten();
        moments.all(|moment| moment.here().is_ok_and(|at| Boottime::now().since(at) > self.retention()))
    }

    pub(super) fn retention(&self) -> Duration {
        Duration::from_millis(self.retention)
    }

    /// Why and since when the pod's time is up, if it is: a deadline that has passed needs nobody to say so.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        let passed = self.span.as_ref().filter(|span| span.is_over());
        self.verdict.clone().or_else(|| {
            passed.map(|span| Verdict::at(Reason::DeadlineExceeded, span.due.on_the_wall(), span.limit()))
        })
    }

    /// What another attempt at the pod inherits.
    pub(super) fn into_inherited(self) -> Result<Option<Span>, LedgerError> {
        match self.verdict() {
            Some(verdict) => Err(LedgerError::Expired { uid: self.pod.uid, verdict }),
            None => Ok(self.span),
        }
    }
}
