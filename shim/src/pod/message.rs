//! What a container's termination message says of its end.

use std::time::Duration;

use runsc_bridge::ContainerId;

use super::{Pod, container::Container};
use crate::{
    deadline::{clock::Boottime, span::Span},
    ledger::Reason,
    termination::{Message, Usage},
};

impl Pod {
    /// Why container `id`, which has just ended, was ended; `None` if it ended by itself.
    fn reason_of(&self, container: &Container, out_of_memory: bool) -> Option<Reason> {
        let out_of_processes = self.sandbox.as_ref().is_some_and(|sandbox| sandbox.out_of_processes);
        [
            (self.deadline.has_expired(), self.end_reason),
            (out_of_memory, Reason::OomKilled),
            (out_of_processes, Reason::PidsLimitExceeded),
            (container.over_output, Reason::LogSizeExceeded),
        ]
        .into_iter()
        .find_map(|(is_so, reason)| is_so.then_some(reason))
    }

    /// Leaves word for kubelet, which reads it as soon as it knows of the end. Nothing of the container is left to change it.
    pub(super) fn leave_message(&self, id: &ContainerId, out_of_memory: bool) {
        let Some(container) = self.containers.get(id) else { return };
        let Some(file) = &container.termination_log else { return };
        let Some(reason) = self.reason_of(container, out_of_memory) else { return };
        let now = || self.sandbox_stats().as_ref().map(Usage::of);
        let usage = self.usage_at_the_end.clone().or_else(now).unwrap_or_default();
        let span = self.record.span.as_ref();
        let message = message(reason, self.allowed(reason), span, usage);
        if let Err(error) = message.write(file) {
            log::warn!(container = id.as_str(); "cannot write the termination message to {}: {error}", file.display());
        }
    }
}

/// A message of now, for a pod with this time that was allowed so much of something.
pub(crate) fn message(reason: Reason, limit: Duration, span: Option<&Span>, usage: Usage) -> Message {
    let started = span.and_then(|span| span.started.here().ok());
    let elapsed = started.map(|started| Boottime::now().since(started));
    Message::new(reason, limit, elapsed.unwrap_or_default(), usage)
}
