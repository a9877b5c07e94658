//! What need not be remembered any more.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    path::Path,
    time::{Duration, SystemTime},
};

use super::{EXTENSION, Entry, LARGEST, Ledger, is_no_entry};
use crate::durable;

/// Sweeping is for the node, not for one pod: once in so long is enough, and sooner where less is remembered.
const AT_MOST_EVERY: Duration = Duration::from_secs(600);
/// Notes when it was done last.
const STAMP: &str = ".swept";
/// A file that was being written when its writer died.
const UNFINISHED: &str = "new";

impl Ledger {
    /// Removes what has been kept for long enough, unless somebody did so a short time ago. Says how much that was.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub(crate) fn sweep_now_and_then(&self) -> io::Result<usize> {
        let stamp = self.dir.join(STAMP);
        let age = fs::metadata(&stamp).and_then(|of| of.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age < AT_MOST_EVERY.min(self.retention)) || !self.dir.exists() {
            return Ok(0);
        }
        let stamp = File::options().write(true).create(true).truncate(false).open(stamp)?;
        stamp.set_modified(SystemTime::now())?;
        self.sweep()
    }

    /// Removes what has been kept for long enough. Says how much that was.
    ///
    /// # Errors
    /// The directory cannot be read. What cannot be removed stays.
    pub(crate) fn sweep(&self) -> io::Result<usize> {
        let now = SystemTime::now();
        let entries = fs::read_dir(&self.dir)?.flatten().map(|entry| entry.path());
        Ok(entries.filter(|path| self.is_swept(path, now)).count())
    }

    /// Removes the file if it has been kept for long enough, and says whether it was.
    fn is_swept(&self, path: &Path, now: SystemTime) -> bool {
        // Most are young, and need neither a lock nor to be read.
        let (kept, is_entry) = match path.extension().and_then(OsStr::to_str) {
            Some(UNFINISHED) => (AT_MOST_EVERY, false),
            Some(EXTENSION) => (self.retention, true),
            _ => return false,
        };
        let Some(uid) = path.file_stem().and_then(OsStr::to_str) else { return false };
        if !is_older(path, now, kept) {
            return false;
        }
        // A file that is being written bears the name of the one that it will replace.
        let Ok(_lock) = self.lock_part(uid.trim_end_matches(&format!(".{EXTENSION}"))) else { return false };
        // A new attempt may have come while the lock was waited for.
        let is_old = is_older(path, now, kept) && (!is_entry || is_over(path, now));
        is_old && fs::remove_file(path).is_ok()
    }
}

/// Whether the pod of this file need not be remembered any more. What cannot be read now may be later; what never can, since
/// it is no entry, is as old as its file.
fn is_over(path: &Path, now: SystemTime) -> bool {
    match durable::read_bounded(path, LARGEST).and_then(|text| Entry::parse(&text)) {
        // Its file alone says when somebody was refused.
        Ok(entry) => entry.is_old() && is_older(path, now, entry.retention()),
        Err(error) => is_no_entry(&error),
    }
}

fn is_past(since: SystemTime, now: SystemTime, keep: Duration) -> bool {
    now.duration_since(since).is_ok_and(|age| age > keep)
}

fn is_older(path: &Path, now: SystemTime, keep: Duration) -> bool {
    fs::metadata(path).and_then(|of| of.modified()).is_ok_and(|touched| is_past(touched, now, keep))
}
