//! A FIFO that reads and counts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;

use super::Result;

/// How long the whole output may take.
const LIMIT: Duration = Duration::from_secs(120);

/// A FIFO with a reader, which takes the time from the first byte to the last one expected.
#[derive(Debug)]
pub(crate) struct Meter {
    path: PathBuf,
    bytes: u64,
    done: Receiver<io::Result<Duration>>,
}

impl Meter {
    pub(crate) fn start(path: PathBuf, mib: u64) -> Result<Self> {
        nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
        // For writing too: so it is there before its first writer.
        let fifo = OpenOptions::new().read(true).write(true).open(&path)?;
        let (send, done) = channel();
        let bytes = mib << 20;
        std::thread::spawn(move || {
            // The receiver goes first only when the limit has passed.
            let _ = send.send(read(fifo, bytes));
        });
        Ok(Self { path, bytes, done })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A writer's end.
    pub(crate) fn writer(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(&self.path)
    }

    /// Waits for all of it; in megabytes a second.
    #[allow(clippy::cast_precision_loss, reason = "it is a rate in three digits")]
    pub(crate) fn rate(self) -> Result<f64> {
        let took = self.done.recv_timeout(LIMIT);
        let took = took.map_err(|_| format!("the output didn't come within {LIMIT:?}"))??;
        fs::remove_file(&self.path)?;
        Ok(self.bytes as f64 / 1e6 / took.as_secs_f64())
    }
}

fn read(mut fifo: File, mut left: u64) -> io::Result<Duration> {
    let mut buffer = vec![0; 1 << 16];
    let mut first = None;
    while left > 0 {
        let n = fifo.read(&mut buffer)?;
        first.get_or_insert_with(Instant::now);
        left = left.saturating_sub(n as u64);
    }
    Ok(first.map_or(Duration::ZERO, |first| first.elapsed()))
}
