//! Another time for a pod that runs, more as a rule: never beyond the ceiling, and known everywhere before anybody relies on it.

use std::time::Duration;

use super::{
    Input, Pod,
    process::Responder,
    span::{Provisional, READING},
};
use crate::{command::Reply, deadline::span::Span, error::Error};

/// Another time for the pod than it has.
pub(super) struct Extension {
    pub(super) span: Span,
    pub(super) asker: Asker,
}

/// Who wants it.
pub(super) enum Asker {
    Operator {
        clamped: bool,
        responder: Responder,
    },
    /// The deadline file, which is read again.
    Claim,
}

impl Pod {
    pub(super) fn extend(&mut self, by: Duration, responder: Responder) {
        match self.plan_extension(by) {
            Err(error) => drop(responder.send(Err(error))),
            Ok((span, clamped, known)) => {
                let asker = Asker::Operator { clamped, responder };
                self.announce(Extension { span, asker }, known);
            }
        }
    }

    /// Has everybody know another time before it counts.
    pub(super) fn announce(&mut self, extension: Extension, known: Provisional) {
        self.extending = true;
        self.spawn(async move { Input::Extended(extension, known.everywhere().await) });
    }

    fn plan_extension(&mut self, by: Duration) -> Result<(Span, bool, Provisional), Error> {
        self.refuse_if_expired()?;
        let span = self.record.span.as_ref().filter(|_| self.deadline.is_armed());
        let span = span.ok_or(Error::NotArmed)?;
        if self.extending {
            return Err(Error::Extending);
        }
        // Counted from the beginning, however often it is extended.
        let (most, asked) = (self.record.policy.timeout.max, span.limit().saturating_add(by));
        let limit = asked.min(most).max(span.limit());
        if limit == span.limit() {
            return Err(Error::AtCeiling { limit: curfew_config::units::format_duration(limit) });
        }
        let span = span.lasting(limit).map_err(Error::system(READING))?;
        let known = self.make_known(span.clone())?;
        Ok((span, asked > limit, known))
    }

    pub(super) fn extended(&mut self, extension: Extension, known: Result<(), Error>) {
        self.extending = false;
        let Extension { span, asker } = extension;
        let limit = span.limit();
        let done = known.and_then(|()| self.have(span));
        match &done {
            Ok(()) => {
                let text = curfew_config::units::format_duration(limit);
                log::info!(pod = self.record.sandbox.as_str(); "the time limit is {text} now");
            }
            Err(_) => self.take_back_extension(),
        }
        match (asker, done) {
            (Asker::Operator { clamped, responder }, done) => {
                let _ = responder.send(done.map(|()| Reply::Extended { limit, clamped }));
            }
            (Asker::Claim, Ok(())) => {}
            (Asker::Claim, Err(error)) => {
                log::error!(pod = self.record.sandbox.as_str(); "cannot do as the deadline file says: {error}");
                return;
            }
        }
        // What the file said meanwhile.
        self.apply_claim();
    }

    fn have(&mut self, span: Span) -> Result<(), Error> {
        // The time may have been up while this was written down.
        self.refuse_if_expired()?;
        let due = span.due.here().map_err(Error::system(READING))?;
        let (waited, limit) = (self.waits_for_claim(), span.limit());
        let before = self.record.span.replace(span);
        let set = self.write_record().and_then(|()| {
            self.deadline.extend(due, limit).map_err(Error::system("setting the deadline's timer"))
        });
        if set.is_err() {
            self.record.span = before;
            return set;
        }
        if waited {
            self.start_clocks();
        }
        Ok(())
    }
}
