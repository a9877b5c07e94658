//! What a container's termination message says of its end.

use std::time::Duration;

use runsc_bridge::ContainerId;

use super::{Pod, container::Container};
use crate::{
    deadline::{clock::Boottime, span::Span},
    ledger::Reason,
    termination::{Cause, Message, Usage},
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

    /// How container `id`, which has just ended with `status`, came to its end; `None` where nothing is to be said of that.
    fn cause_of(&self, container: &Container, status: u32, out_of_memory: bool) -> Option<Cause> {
        if let Some(reason) = self.reason_of(container, out_of_memory) {
            return Some(Cause::Ended { reason, limit: self.allowed(reason) });
        }
        if let Some(crash) = self.sandbox.as_ref().and_then(|sandbox| sandbox.crash.as_ref()) {
            return Some(Cause::SandboxCrashed { said: crash.said.clone() });
        }
        self.record.policy.termination.receipts.then_some(Cause::Exited { status })
    }

    /// Leaves word for kubelet, which reads it as soon as it knows of the end. Nothing of the container is left to change it.
    pub(super) fn leave_message(&self, id: &ContainerId, status: u32, out_of_memory: bool) {
        let Some(container) = self.containers.get(id) else { return };
        let Some(file) = &container.termination_log else { return };
        let Some(cause) = self.cause_of(container, status, out_of_memory) else { return };
        let now = || {
            let mut stats = self.sandbox_stats()?;
            if self.record.host_network {
                // Everybody's.
                stats.network.clear();
            }
            Some(Usage::of(&stats))
        };
        let usage = self.usage_at_the_end.clone().or_else(now).unwrap_or_default();
        let message = message(cause, self.record.span.as_ref(), Boottime::now(), usage);
        if let Err(error) = message.write(file) {
            log::warn!(container = id.as_str(); "cannot write the termination message to {}: {error}", file.display());
        }
    }
}

/// A message of an end `at` a moment, for a pod with this time.
pub(crate) fn message(cause: Cause, span: Option<&Span>, at: Boottime, usage: Usage) -> Message {
    let started = span.and_then(|span| span.started.here().ok());
    let elapsed = started.map_or(Duration::ZERO, |started| at.since(started));
    Message::new(cause, elapsed, usage)
}
