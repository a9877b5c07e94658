//! Letting go of a FIFO that was written to.
//!
//! What is in a FIFO is lost with its last descriptor, and who opens it to read after that waits for ever. A short program
//! can be over before its reader has come, so the FIFO is kept until somebody reads it, for a bounded time.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

use nix::{
    fcntl::{OFlag, open},
    sys::stat::Mode,
};

use crate::readiness::has_reader;

/// How long a reader may take to come once the program has ended.
const READER: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Closes a FIFO that is open both ways, at once if somebody reads it.
pub(super) fn release(fifo: OwnedFd) {
    // Opened both ways it is its own reader, so another description is needed to see whether there is one.
    let path = format!("/proc/self/fd/{}", fifo.as_raw_fd());
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let Ok(writer) = open(path.as_str(), flags, Mode::empty()) else { return };
    drop(fifo);
    if has_reader(&writer) {
        return;
    }
    tokio::spawn(async move {
        let read = async {
            while !has_reader(&writer) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        // Nobody wants it, or somebody has it now: either way it closes.
        let _ = tokio::time::timeout(READER, read).await;
    });
}

#[cfg(test)]
mod tests {
    use std::{fs::OpenOptions, io::Read, os::unix::fs::OpenOptionsExt};

    use super::*;

    #[tokio::test]
    async fn what_was_written_waits_for_a_reader_that_comes_late() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        let fifo = open(&path, OFlag::O_RDWR | OFlag::O_NONBLOCK, Mode::empty()).unwrap();
        rustix::io::write(&fifo, b"last words").unwrap();
        release(fifo);
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        let mut text = [0; 64];
        assert_eq!(reader.read(&mut text).unwrap(), 10);
        tokio::time::sleep(Duration::from_millis(50)).await;
        // The end, and not "nothing at the moment".
        assert_eq!(reader.read(&mut text).unwrap(), 0);
    }

    #[tokio::test]
    async fn a_fifo_that_is_read_closes_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        let fifo = open(&path, OFlag::O_RDWR | OFlag::O_NONBLOCK, Mode::empty()).unwrap();
        let mut reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        release(fifo);
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
    }
}
