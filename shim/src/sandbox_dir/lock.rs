//! The lock that says whether a sandbox's shim lives.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::{
        fs::{MetadataExt, OpenOptionsExt},
        net::UnixStream,
    },
    time::{Duration, Instant},
};

use super::SandboxDir;
use crate::process::{PidFd, ProcessName};

/// Whether a sandbox's shim lives.
#[derive(Debug)]
pub(crate) enum Lock {
    /// Nobody had the lock; now it is ours, until the last copy of the descriptor is closed.
    Taken(File),
    /// Another process has it: a living shim.
    Held,
}

impl SandboxDir {
    /// Tries to take the lock, making the lock file if it is missing.
    ///
    /// # Errors
    /// `NotFound` if the directory is missing.
    pub(crate) fn lock(&self) -> io::Result<Lock> {
        let path = self.0.join("lock");
        loop {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&path)?;
            let inode = file.metadata()?.ino();
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(Lock::Held),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // The directory may have been removed by the last holder and made anew since the file was opened.
            if fs::metadata(&path).is_ok_and(|m| m.ino() == inode) {
                // The name of the last holder.
                file.set_len(0)?;
                return Ok(Lock::Taken(file));
            }
        }
    }

    /// Takes the lock, or finds a shim that serves. Whoever else holds the lock, a `start` or a cleanup, is waited for.
    ///
    /// # Errors
    /// `NotFound` if the directory is missing, `TimedOut` if the other holder takes longer than `limit`.
    pub(crate) fn lock_or_served(&self, limit: Duration) -> io::Result<Lock> {
        let until = Instant::now() + limit;
        loop {
            match self.lock()? {
                // The lock alone doesn't tell a shim from a cleanup, nor from a shim that is dying.
                Lock::Held if !self.is_served() => {}
                lock @ (Lock::Held | Lock::Taken(_)) => return Ok(lock),
            }
            if Instant::now() >= until {
                let message = format!("another start or cleanup of {} takes too long", self.0.display());
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether the holder of the lock is a shim that lives. The shim has written its name into the lock file; before
    /// that, a socket that listens says that one is about to.
    pub(crate) fn is_served(&self) -> bool {
        let written = fs::read(self.0.join("lock")).unwrap_or_default();
        match serde_json::from_slice::<ProcessName>(&written) {
            Ok(shim) => shim.is_running(),
            Err(_) => UnixStream::connect(self.socket()).is_ok(),
        }
    }

    /// The shim that holds the lock, if it has signed it and lives.
    pub(crate) fn shim(&self) -> Option<PidFd> {
        let written = fs::read(self.0.join("lock")).ok()?;
        serde_json::from_slice::<ProcessName>(&written).ok()?.open()
    }

    /// Writes this process's name into the lock file, which it holds.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn sign_lock(mut lock: &File) -> io::Result<()> {
        let name = ProcessName::of(std::process::id().cast_signed())?;
        lock.write_all(&serde_json::to_vec(&name)?)
    }
}
