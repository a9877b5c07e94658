//! What a pod's containers see of its deadline, where their class lets them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use serde_json::{Map, Value};

use super::{Pod, group::Role};
use crate::{
    confine,
    deadline::{clock::Boottime, span::Span},
    durable,
    error::Error,
    sandbox_dir::SandboxDir,
};

/// The last second that has a date of four digits, from 1970 on.
const LAST_DATE: Duration = Duration::from_secs(253_402_300_799);

/// A pod's deadline as its containers read it, to be written.
#[derive(Debug)]
pub(super) struct Shown {
    dir: SandboxDir,
    span: Span,
    number: u64,
    written: Arc<Mutex<u64>>,
}

/// The order in which a pod's deadlines came: the last one stays, whoever is late with an earlier.
#[derive(Debug, Default)]
pub(super) struct Order {
    next: u64,
    written: Arc<Mutex<u64>>,
}

impl Shown {
    /// Writes it, unless a later one has been written.
    ///
    /// # Errors
    /// What kept it from being written; the one before is then still there.
    pub(super) fn write(self) -> Result<(), Error> {
        let writing = Error::system("writing the deadline that the containers see");
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if *written < self.number {
            let (beside, place) = (self.dir.path().join("deadline.new"), self.dir.guest().join("deadline"));
            let text = self.span.due.here().map(|due| text(due.since(Boottime::now()), SystemTime::now()));
            text.and_then(|text| durable::publish(&beside, &place, text.as_bytes())).map_err(writing)?;
            *written = self.number;
        }
        Ok(())
    }
}

/// Lines that a shell can read, of a time that is over so much later than `now`.
fn text(left: Duration, now: SystemTime) -> String {
    let ends =
        now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().saturating_add(left).min(LAST_DATE);
    let at = humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + ends);
    format!("left_seconds={}\nends_at={at}\nends_at_unix={}\n", left.as_secs(), ends.as_secs())
}

impl Pod {
    /// Gives a workload's spec what its containers see, if they see anything.
    ///
    /// # Errors
    /// The container has something else in that place, or there is none on the host.
    pub(super) fn expose_deadline(&self, spec: &mut Map<String, Value>, role: &Role) -> Result<(), Error> {
        if !self.record.policy.timeout.expose || !role.is_workload() {
            return Ok(());
        }
        let making = Error::system("making the directory that the containers see");
        self.tools.dir.make_guest().map_err(making)?;
        Ok(confine::expose(spec, &self.tools.dir.guest())?)
    }

    /// What the containers are to read from now on, if they see anything.
    pub(super) fn shown(&mut self, span: &Span) -> Option<Shown> {
        if !self.record.policy.timeout.expose {
            return None;
        }
        self.order.next += 1;
        let (number, written) = (self.order.next, self.order.written.clone());
        Some(Shown { dir: self.tools.dir.clone(), span: span.clone(), number, written })
    }

    /// Has them read it, in a while.
    pub(super) fn show(&mut self, span: &Span) {
        let Some(shown) = self.shown(span) else { return };
        let pod = self.record.sandbox.to_string();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = shown.write() {
                log::error!(pod = pod.as_str(); "{error}");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use runsc_bridge::SandboxId;

    use super::*;

    #[test]
    fn the_text_is_lines_for_a_shell() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_322_445);
        let expected = "left_seconds=600\nends_at=2026-01-02T03:04:05Z\nends_at_unix=1767323045\n";
        assert_eq!(text(Duration::from_secs(600), now), expected);
        let last = text(Duration::MAX, now);
        assert!(last.contains("ends_at=9999-12-31T23:59:59Z\n"), "{last}");
    }

    #[test]
    fn who_is_late_with_an_earlier_deadline_writes_nothing() {
        let state = tempfile::tempdir().unwrap();
        let dir = SandboxDir::of(state.path(), "default", &SandboxId::new("abc").unwrap());
        dir.make().unwrap();
        dir.make_guest().unwrap();
        let written = Arc::new(Mutex::new(0));
        let shown = |number, seconds| {
            let limit = Duration::from_secs(seconds);
            let span = Span::new(Boottime::now(), limit, Duration::ZERO).unwrap();
            Shown { dir: dir.clone(), span, number, written: written.clone() }
        };
        let (early, late) = (shown(1, 100), shown(2, 1000));
        late.write().unwrap();
        early.write().unwrap();
        let path: &Path = &dir.guest().join("deadline");
        let text = String::from_utf8(durable::read_bounded(path, 4096).unwrap()).unwrap();
        assert!(text.starts_with("left_seconds=999\n"), "{text}");
    }
}
