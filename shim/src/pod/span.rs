//! The pod's time as others know it: the record and the watchdog, and for a pod of Kubernetes the ledger.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Pod,
    expose::Shown,
    group,
    pod_ledger::{Change, PodLedger, Writing},
};
use crate::{
    deadline::{clock::Boottime, span::Span},
    error::Error,
    ledger::{Ledger, LedgerError},
    watchdog::Known,
};

/// How long the watchdog may take to know something.
pub(super) const TELLING: Duration = Duration::from_secs(2);

pub(super) const READING: &str = "reading the clock";

/// A time that has to be known everywhere before anything runs in it.
pub(super) struct Provisional {
    written: Option<Writing>,
    known: Known,
    shown: Option<Shown>,
}

impl Provisional {
    /// Returns once it is.
    ///
    /// # Errors
    /// The ledger cannot be written, or there is no watchdog. Nothing may run.
    pub(super) async fn everywhere(self) -> Result<(), Error> {
        let Self { written, known, shown } = self;
        let writing = async {
            match written {
                Some(written) => written.done().await,
                None => Ok(()),
            }
        };
        let (known, written) = tokio::join!(known.within(TELLING), writing);
        known.and(written)?;
        // Last, so that nobody in the pod sees what doesn't hold.
        let shown = tokio::task::spawn_blocking(move || shown.map_or(Ok(()), Shown::write)).await;
        shown.unwrap_or(Err(Error::Internal("the writer of what containers see has gone")))
    }
}

impl Pod {
    /// Takes up what the ledger knows of the pod, at its first Create.
    ///
    /// # Errors
    /// Its time is up.
    pub(super) fn take_up(&mut self, annotations: &BTreeMap<String, String>) -> Result<(), Error> {
        let Some(pod) = group::pod_name(annotations)? else { return Ok(()) };
        let state = &self.record.policy.state;
        let ledger = Ledger::at(&state.ledger, state.retention);
        let inherited = ledger.admit(&pod.uid)?;
        let cpu_before = ledger.cpu_used(&pod.uid)?;
        self.record.cpu_before_ms = u64::try_from(cpu_before.as_millis()).unwrap_or(u64::MAX);
        if let Some(inherited) = inherited {
            // Whether or not the one before was seen to start: it may have run.
            let most = self.record.policy.timeout.max;
            let inherited = inherited.into_final().with_at_most(most);
            self.record.span = Some(inherited.map_err(Error::system(READING))?);
        }
        self.record.pod = Some(pod.clone());
        let sandbox = self.record.sandbox.to_string();
        self.ledger = Some(PodLedger::start(ledger, pod, sandbox));
        Ok(())
    }

    /// # Errors
    /// The pod's time is up, and nothing new begins in it.
    pub(super) fn refuse_if_expired(&self) -> Result<(), Error> {
        if !self.deadline.has_expired() && !self.record.expired {
            return Ok(());
        }
        // It is remembered from this refusal on.
        self.note(Change::Refused);
        if let (Some(pod), Some(verdict)) = (&self.record.pod, &self.record.verdict) {
            return Err(LedgerError::Expired { uid: pod.uid.clone(), verdict: verdict.clone() }.into());
        }
        let limit = curfew_config::units::format_duration(self.deadline.limit());
        Err(Error::Expired { pod: self.record.sandbox.to_string(), limit })
    }

    /// The time that a workload which is about to start will have, if it is the first: what an earlier attempt has left,
    /// or all of it.
    ///
    /// # Errors
    /// It cannot be written down.
    pub(super) fn plan_span(&mut self) -> Result<Option<Provisional>, Error> {
        if self.deadline.is_armed() && self.time_is_known {
            return Ok(None);
        }
        let span = match &self.record.span {
            Some(span) => span.clone(),
            None => self.span_from(Boottime::now())?,
        };
        let span = self.with_claim(span)?;
        self.record.span = Some(span.clone());
        self.write_record()?;
        self.make_known(span).map(Some)
    }

    /// Tells watchdog and ledger of a time.
    ///
    /// # Errors
    /// The kernel doesn't say what time it is.
    pub(super) fn make_known(&mut self, span: Span) -> Result<Provisional, Error> {
        let known = self.watchdog.over_at(span.over().map_err(Error::system(READING))?);
        let shown = self.shown(&span);
        let written = self.ledger.as_ref().map(|entry| entry.write(Change::Span(span)));
        Ok(Provisional { written, known, shown })
    }

    fn span_from(&self, started: Boottime) -> Result<Span, Error> {
        let policy = self.record.pod_policy.as_ref();
        let limit = policy.map_or(Duration::ZERO, |policy| policy.timeout);
        let span = Span::new(started, limit, self.longest_grace()).map_err(Error::system(READING))?;
        let waits = policy.is_some_and(|policy| policy.deadline_file.is_some());
        Ok(if waits { span.that_waits() } else { span })
    }

    /// Has everybody go back to the time that the pod has.
    pub(super) fn take_back_extension(&mut self) {
        let Some(span) = self.record.span.clone() else { return };
        self.show(&span);
        if let Ok(over) = span.over() {
            drop(self.watchdog.over_at(over));
        }
        self.note(Change::Span(span));
    }

    /// Starts the clock, at the first workload's start, and tells everybody.
    pub(super) fn arm(&mut self) -> Result<(), Error> {
        if self.deadline.is_armed() {
            return Ok(());
        }
        let inherited = self.record.span.clone().filter(|span| span.is_final);
        let span = match inherited {
            Some(span) => span,
            None => self.span_from(Boottime::now())?.into_final(),
        };
        let span = self.with_claim(span)?;
        self.warn_of_no_claim_file();
        let due = span.due.here().map_err(Error::system(READING))?;
        let armed = self.deadline.arm(due, span.limit(), span.grace());
        armed.map_err(Error::system("setting the deadline's timer"))?;
        drop(self.watchdog.over_at(span.over().map_err(Error::system(READING))?));
        self.record.span = Some(span.clone());
        self.start_clocks();
        self.show(&span);
        self.note(Change::Span(span));
        self.write_record()
    }

    /// Has something written to the ledger, if the pod has an entry there.
    pub(super) fn note(&self, change: Change) {
        if let Some(entry) = &self.ledger {
            drop(entry.write(change));
        }
    }
}
