//! When a copy is over.
//!
//! While its process runs, a copy goes on for as long as the reader likes. Once the process has ended, what is in its pipe
//! at that moment is still copied, for a bounded time: a child that it left behind may write for ever.

use std::{io, time::Duration};

use tokio::{sync::watch, time::Instant};

use crate::watched::Watched;

/// How long the reader may take for what is left once the process has ended.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(10);

/// Tells a copy that its process has ended, and what is left to do then.
pub(super) struct Drain {
    ended: watch::Receiver<bool>,
    rest: Option<Rest>,
}

struct Rest {
    bytes: usize,
    until: Instant,
}

/// What a pipe holds. Of a terminal nothing tells: some of its output may still be on its way through the kernel.
fn held_by(source: &Watched) -> usize {
    if rustix::termios::isatty(source.get_ref()) {
        return usize::MAX;
    }
    let bytes = rustix::io::ioctl_fionread(source.get_ref()).unwrap_or(0);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

impl Drain {
    pub(super) fn new(ended: watch::Receiver<bool>) -> Self {
        Self { ended, rest: None }
    }

    /// How much of `source` is still to be copied, once its process has ended; `None` before that.
    pub(super) fn rest(&mut self, source: &Watched) -> Option<usize> {
        if self.rest.is_none() && *self.ended.borrow() {
            self.rest = Some(Rest { bytes: held_by(source), until: Instant::now() + LAST_WORDS });
        }
        let rest = self.rest.as_ref()?;
        Some(if Instant::now() < rest.until { rest.bytes } else { 0 })
    }

    /// Notes that so much of the rest has been read.
    pub(super) fn took(&mut self, bytes: usize) {
        if let Some(rest) = &mut self.rest {
            rest.bytes = rest.bytes.saturating_sub(bytes);
        }
    }

    /// Waits until there is something to read, or the process has ended. Says whether to go on.
    pub(super) async fn readable(&mut self, source: &Watched) -> bool {
        tokio::select! {
            ready = source.readable() => ready.is_ok(),
            // Whoever could say so has gone: nothing more is wanted.
            changed = self.ended.changed() => changed.is_ok(),
        }
    }

    /// Waits for a slow reader: for as long as it likes while the process runs, and a bounded time after it.
    pub(super) async fn writable(&mut self, sink: &Watched) -> io::Result<()> {
        while !*self.ended.borrow_and_update() {
            tokio::select! {
                ready = sink.writable() => return ready.map(drop),
                changed = self.ended.changed() => changed.map_err(|_| io::ErrorKind::BrokenPipe)?,
            }
        }
        let until = self.rest.as_ref().map_or_else(|| Instant::now() + LAST_WORDS, |rest| rest.until);
        let ready = tokio::time::timeout_at(until, sink.writable()).await;
        ready.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?.map(drop)
    }
}
