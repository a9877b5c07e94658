//! What a sandbox's process says when it breaks down: the runtime of its language prints that, and ends it.
//!
//! A FIFO in the sandbox's directory, which its process has for its standard error and the shim reads. So nothing of it can
//! fill a disk, whatever the process writes there, and it goes with the directory.

use std::{
    fs, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use nix::{sys::stat::Mode, unistd::mkfifo};
use rustix::fs::OFlags;
use tokio::{io::Interest, task::JoinHandle};

use crate::watched::{Watched, watch_for};

/// How much of it is kept, from its beginning. The rest is a trace of what each thread was doing.
const KEPT: usize = 8 << 10;
/// A pipe holds less than so many times what is read at once.
const READS: usize = 32;
/// What is repeated of it at most, in characters.
const REPEATED: usize = 300;
/// How lines begin that say what happened, and not where.
const HEADLINES: [&str; 4] = ["panic: ", "fatal error: ", "SIG", "runtime: "];

/// A sandbox's panic log.
#[derive(Debug)]
pub(crate) struct PanicLog {
    path: PathBuf,
    log: Arc<Log>,
    reader: JoinHandle<()>,
}

#[derive(Debug)]
struct Log {
    fifo: Watched,
    kept: Mutex<Vec<u8>>,
}

impl Drop for PanicLog {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl PanicLog {
    /// Makes it, in place of an earlier sandbox's.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn make(path: &Path) -> io::Result<Self> {
        // Most of the time there is none.
        let _ = fs::remove_file(path);
        mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)?;
        // For writing too: without a writer it would count as ended, before the sandbox has it.
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fifo = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
        let fifo = watch_for(fifo, Interest::READABLE)?;
        let log = Arc::new(Log { fifo, kept: Mutex::default() });
        let reader = tokio::spawn(read(log.clone()));
        Ok(Self { path: path.to_owned(), log, reader })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What the process, which has ended, said of that: one line without control characters.
    pub(crate) fn headline(&self) -> Option<String> {
        // Whoever else still writes isn't listened to for ever.
        (0..READS).take_while(|_| self.log.take(self.log.fifo.get_ref()).is_ok()).for_each(drop);
        headline(&self.log.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl PanicLog {
    /// Whether what has been said is of a breakdown, and not just a complaint.
    pub(crate) fn is_of_a_panic(&self) -> bool {
        let kept = self.log.kept.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&kept).lines().any(|line| is_headline(&line))
    }
}

impl Log {
    /// Reads what there is.
    fn take(&self, fifo: impl AsFd) -> io::Result<()> {
        let mut bytes = [0; 4096];
        let count = rustix::io::read(fifo, &mut bytes)?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let room = KEPT.saturating_sub(kept.len()).min(count);
        kept.extend_from_slice(&bytes[..room]);
        Ok(())
    }
}

/// Keeps whoever writes from waiting.
async fn read(log: Arc<Log>) {
    while let Ok(mut ready) = log.fifo.readable().await {
        if let Ok(Err(error)) = ready.try_io(|fifo| log.take(fifo.get_ref())) {
            return log::warn!("cannot read the sandbox's panic log: {error}");
        }
    }
}

fn is_headline(line: &&str) -> bool {
    HEADLINES.iter().any(|beginning| line.starts_with(beginning))
}

fn headline(log: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(log);
    let mut lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
    let line = text.lines().find(is_headline).or_else(|| lines.next_back())?;
    Some(line.chars().filter(|c| !c.is_control()).take(REPEATED).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    #[allow(clippy::disallowed_methods, reason = "the test is the process that breaks down")]
    async fn what_a_process_writes_never_makes_it_wait_and_its_headline_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("panic");
        for _ in 0..2 {
            let log = PanicLog::make(&path).unwrap();
            assert_eq!(log.headline(), None);
            let to = path.clone();
            let written = tokio::task::spawn_blocking(move || {
                let mut fifo = fs::OpenOptions::new().append(true).open(to).unwrap();
                fifo.write_all(b"\npanic: \x1b[31mlost\n\ngoroutine 1 [running]:\n").unwrap();
                (0..1000).for_each(|_| fifo.write_all(&[b'x'; 1000]).unwrap());
            });
            written.await.unwrap();
            assert_eq!(log.headline().as_deref(), Some("panic: [31mlost"));
            assert_eq!(log.log.kept.lock().unwrap().len(), KEPT);
        }
    }

    #[test]
    fn a_log_without_a_headline_gives_its_last_line() {
        assert_eq!(headline(b"one\ntwo\r\n \n").as_deref(), Some("two"));
        assert_eq!(headline(b"\n\n"), None);
        let long = headline(&[b'x'; 5000]).unwrap();
        assert_eq!(long.len(), REPEATED);
    }
}
