//! The shim's log: lines to the FIFO in the bundle, which containerd copies to its own.
//!
//! Writing never blocks: a containerd that is down or slow loses lines and holds nobody up.

use std::{
    fmt::Write as _,
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use log::{LevelFilter, Log, Metadata, Record, kv};

/// Lines up to this length reach the FIFO whole or not at all.
const LONGEST_LINE: usize = libc::PIPE_BUF;

struct BundleLog {
    fifo: PathBuf,
    open: Mutex<Option<File>>,
}

/// Sends the log to the FIFO of `bundle`.
pub(crate) fn start(bundle: &Path, debug: bool) {
    let fifo = bundle.join("log");
    let logger = Box::leak(Box::new(BundleLog { fifo, open: Mutex::new(None) }));
    // Only a second call could fail, and there is one.
    if log::set_logger(logger).is_ok() {
        log::set_max_level(if debug { LevelFilter::Debug } else { LevelFilter::Info });
    }
}

fn open_fifo(path: &Path) -> Option<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
    OpenOptions::new().write(true).custom_flags(flags).open(path).ok()
}

/// One line in containerd's own form, without a time: its reader stamps it.
fn line(record: &Record<'_>) -> String {
    struct Pairs(String);
    impl<'kvs> kv::VisitSource<'kvs> for Pairs {
        fn visit_pair(&mut self, key: kv::Key<'kvs>, value: kv::Value<'kvs>) -> Result<(), kv::Error> {
            let _ = write!(self.0, " {key}={:?}", value.to_string());
            Ok(())
        }
    }
    let level = match record.level() {
        log::Level::Error => "error",
        log::Level::Warn => "warning",
        log::Level::Info => "info",
        log::Level::Debug => "debug",
        log::Level::Trace => "trace",
    };
    let mut pairs = Pairs(format!("level={level} msg={:?}", record.args().to_string()));
    let _ = record.key_values().visit(&mut pairs);
    let mut line = pairs.0;
    if line.len() >= LONGEST_LINE {
        let cut = (0..LONGEST_LINE - 4).rev().find(|i| line.is_char_boundary(*i)).unwrap_or(0);
        line.truncate(cut);
        line.push_str("...");
    }
    line.push('\n');
    line
}

impl Log for BundleLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // The RPC library reports every peer that disconnects as an error.
        metadata.level() <= log::max_level() && !metadata.target().starts_with("ttrpc")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.is_none() {
            *open = open_fifo(&self.fifo);
        }
        if let Some(fifo) = open.as_mut() {
            // A full pipe or a reader that is gone loses this line; the next one may find a reader again.
            let _ = fifo.write_all(line(record).as_bytes());
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_quotes_what_could_break_it_and_names_its_keys() {
        let pairs = [("container", "c1")];
        let record = Record::builder()
            .level(log::Level::Warn)
            .args(format_args!("a \"b\"\nc"))
            .key_values(&pairs)
            .build();
        assert_eq!(line(&record), "level=warning msg=\"a \\\"b\\\"\\nc\" container=\"c1\"\n");
    }

    #[test]
    fn a_long_line_is_cut_to_what_a_pipe_takes_whole() {
        let long = "ä".repeat(5000);
        let cut = line(&Record::builder().level(log::Level::Info).args(format_args!("{long}")).build());
        assert!(cut.len() <= LONGEST_LINE && cut.ends_with("...\n"));
    }

    #[test]
    fn a_full_pipe_loses_lines_and_blocks_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("log");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&fifo).unwrap();
        let logger = BundleLog { fifo, open: Mutex::new(None) };
        log::set_max_level(LevelFilter::Info);
        for _ in 0..1000 {
            logger.log(&Record::builder().level(log::Level::Info).args(format_args!("{:0>1000}", 1)).build());
        }
    }
}
