//! Who reads an entry and writes it anew is alone with it.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    hash::Hasher,
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    time::{Duration, Instant},
};

use super::{Ledger, LedgerError};

/// Into how many parts the pods fall. A disk that hangs under one of them stops a part of the node, and the files don't
/// become more with the pods.
const PARTS: u64 = 64;
/// How long another's reading and writing is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

impl Ledger {
    /// Keeps others from the pod's entry, until the file is dropped. Makes the directory.
    pub(super) fn locked(&self, uid: &str) -> Result<File, LedgerError> {
        let locked = || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
            self.lock_part(uid)
        };
        locked().map_err(|source| LedgerError::Unwritable { path: self.path(uid), source })
    }

    /// The same in a directory that is there.
    pub(super) fn lock_part(&self, uid: &str) -> io::Result<File> {
        let mut hasher = fnv::FnvHasher::default();
        hasher.write(uid.as_bytes());
        let part = self.dir.join(format!(".lock-{:02}", hasher.finish() % PARTS));
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.custom_flags(libc::O_NOFOLLOW).open(part)?;
        let until = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(LOOK_AGAIN),
                Err(TryLockError::WouldBlock) => {
                    let message = format!("another process has been at it for {PATIENCE:?}");
                    return Err(io::Error::new(io::ErrorKind::TimedOut, message));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }
}
