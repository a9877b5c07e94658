//! More time for a pod that runs: never beyond the ceiling, and known everywhere before anybody relies on it.

use std::time::Duration;

use super::{
    Input, Pod,
    process::Responder,
    span::{Provisional, READING},
};
use crate::{command::Reply, deadline::span::Span, error::Error};

/// A time that is longer than the pod's.
pub(super) struct Extension {
    span: Span,
    clamped: bool,
    responder: Responder,
}

impl Pod {
    pub(super) fn extend(&mut self, by: Duration, responder: Responder) {
        match self.plan_extension(by) {
            Err(error) => drop(responder.send(Err(error))),
            Ok((span, clamped, known)) => {
                self.extending = true;
                let extension = Extension { span, clamped, responder };
                self.spawn(async move { Input::Extended(extension, known.everywhere().await) });
            }
        }
    }

    fn plan_extension(&self, by: Duration) -> Result<(Span, bool, Provisional), Error> {
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
        let started = span.started.here().map_err(Error::system(READING))?;
        let span = Span::new(started, limit, span.grace()).map_err(Error::system(READING))?.into_final();
        let known = self.make_known(span.clone())?;
        Ok((span, asked > limit, known))
    }

    pub(super) fn extended(&mut self, extension: Extension, known: Result<(), Error>) {
        self.extending = false;
        let Extension { span, clamped, responder } = extension;
        let limit = span.limit();
        match known.and_then(|()| self.lengthen(span)) {
            Ok(()) => {
                let text = curfew_config::units::format_duration(limit);
                log::info!(pod = self.record.sandbox.as_str(); "the time limit is {text} now");
                let _ = responder.send(Ok(Reply::Extended { limit, clamped }));
            }
            Err(error) => {
                self.take_back_extension();
                let _ = responder.send(Err(error));
            }
        }
    }

    fn lengthen(&mut self, span: Span) -> Result<(), Error> {
        // The time may have been up while this was written down.
        self.refuse_if_expired()?;
        let due = span.due.here().map_err(Error::system(READING))?;
        self.deadline.extend(due, span.limit()).map_err(Error::system("setting the deadline's timer"))?;
        self.record.span = Some(span);
        self.write_record()
    }
}
