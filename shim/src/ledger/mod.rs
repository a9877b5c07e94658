//! The ledger: what the node remembers of a pod's time, whatever becomes of its shim, of containerd, and of the node.
//!
//! One file for each pod UID, which all attempts at a pod share: a new sandbox of it inherits the deadline, and one whose
//! time is up gets none. What cannot be read counts as a pod whose time is up. A file is kept for the retention after
//! the last attempt, refusal or deadline, and then swept by the next shim that starts.

mod entry;
mod lock;
mod sweep;

#[cfg(test)]
mod tests;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use thiserror::Error;

pub(crate) use self::entry::{Entry, PodName, Reason, Verdict};
use crate::{
    deadline::{escalate::Step, span::Span},
    durable,
};

/// Many times what an entry needs.
const LARGEST: u64 = 64 << 10;
const EXTENSION: &str = "json";

/// What the ledger says or doesn't.
#[derive(Debug, Error)]
pub(crate) enum LedgerError {
    #[error("ledger entry {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("cannot write ledger entry {}: {source}", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("pod {uid} has expired: {verdict}")]
    Expired { uid: String, verdict: Verdict },
}

impl LedgerError {
    /// Whether it is the entry itself that is no good, which it will be again.
    pub(crate) fn is_of_the_entry(&self) -> bool {
        match self {
            Self::Unreadable { source, .. } => is_no_entry(source),
            Self::Unwritable { .. } | Self::Expired { .. } => false,
        }
    }
}

fn is_no_entry(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::FileTooLarge)
}

/// The ledger in one directory.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    dir: PathBuf,
    retention: Duration,
}

impl Ledger {
    pub(crate) fn at(dir: &Path, retention: Duration) -> Self {
        Self { dir: dir.to_owned(), retention }
    }

    fn path(&self, uid: &str) -> PathBuf {
        self.dir.join(uid).with_extension(EXTENSION)
    }

    /// What is known of the pod; `None` if nothing is.
    ///
    /// # Errors
    /// [`LedgerError::Unreadable`], of whatever kind the entry is.
    pub(crate) fn read(&self, uid: &str) -> Result<Option<Entry>, LedgerError> {
        let path = self.path(uid);
        match durable::read_bounded(&path, LARGEST).and_then(|text| Entry::parse(&text)) {
            Ok(entry) => Ok(Some(entry)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(LedgerError::Unreadable { path, source }),
        }
    }

    /// All entries, and what is wrong with those that cannot be read.
    ///
    /// # Errors
    /// The directory cannot be read; that there is none is fine.
    pub(crate) fn all(&self) -> io::Result<Vec<Result<Entry, LedgerError>>> {
        let paths = match fs::read_dir(&self.dir) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let uids = paths
            .filter(|path| path.extension().is_some_and(|extension| extension == EXTENSION))
            .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
        Ok(uids.filter_map(|uid| self.read(&uid).transpose()).collect())
    }

    /// The time of a pod that a new attempt inherits; `None` if the pod has had none yet. Whoever is refused is
    /// remembered for the retention from now on.
    ///
    /// # Errors
    /// [`LedgerError::Expired`], and [`LedgerError::Unreadable`], which means the same.
    pub(crate) fn admit(&self, uid: &str) -> Result<Option<Span>, LedgerError> {
        let admitted = self.read(uid).and_then(|entry| entry.map_or(Ok(None), Entry::into_inherited));
        if admitted.is_err() {
            // Without that it is forgotten too early, which is no reason to say something else.
            let _ = self.renew(uid);
        }
        admitted
    }

    fn renew(&self, uid: &str) -> io::Result<()> {
        File::options().write(true).open(self.path(uid))?.set_modified(SystemTime::now())
    }

    /// Writes down the time of a pod whose workload is about to start, or has.
    ///
    /// # Errors
    /// [`LedgerError::Unwritable`]: nothing may run without an entry. [`LedgerError::Expired`] and
    /// [`LedgerError::Unreadable`] if it has become so since.
    pub(crate) fn write_span(&self, pod: &PodName, sandbox: &str, span: &Span) -> Result<(), LedgerError> {
        let _lock = self.locked(&pod.uid)?;
        let mut entry = Entry::new(pod.clone(), sandbox, Some(span.clone()), self.retention);
        if let Some(before) = self.read(&pod.uid)? {
            entry.cpu_used_ms = before.cpu_used_ms;
            before.into_inherited()?;
        }
        self.write(&entry)
    }

    /// The CPU time that earlier attempts at the pod have used, as far as it was written down.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn cpu_used(&self, uid: &str) -> Result<Duration, LedgerError> {
        let used = self.read(uid)?.map_or(0, |entry| entry.cpu_used_ms);
        Ok(Duration::from_millis(used))
    }

    /// Writes down how much CPU time all attempts at the pod have used, this one among them, unless more is known.
    ///
    /// # Errors
    /// As [`Self::write_span`].
    pub(crate) fn write_cpu_used(
        &self,
        pod: &PodName,
        sandbox: &str,
        used: Duration,
    ) -> Result<(), LedgerError> {
        let used = u64::try_from(used.as_millis()).unwrap_or(u64::MAX);
        self.change(pod, sandbox, |entry| entry.cpu_used_ms = entry.cpu_used_ms.max(used))
    }

    /// Writes down where the pod was written to.
    ///
    /// # Errors
    /// As [`Self::write_span`].
    pub(crate) fn write_checkpoint(
        &self,
        pod: &PodName,
        sandbox: &str,
        path: PathBuf,
    ) -> Result<(), LedgerError> {
        self.change(pod, sandbox, |entry| entry.checkpoint = Some(path))
    }

    fn change(
        &self,
        pod: &PodName,
        sandbox: &str,
        change: impl FnOnce(&mut Entry),
    ) -> Result<(), LedgerError> {
        let _lock = self.locked(&pod.uid)?;
        let entry = self.read(&pod.uid)?;
        let mut entry = entry.unwrap_or_else(|| Entry::new(pod.clone(), sandbox, None, self.retention));
        change(&mut entry);
        self.write(&entry)
    }

    /// Writes down that the pod's time is up, unless that was known.
    ///
    /// # Errors
    /// As [`Self::write_span`]; the deadline itself, where it was one, still stands.
    pub(crate) fn write_verdict(
        &self,
        pod: &PodName,
        sandbox: &str,
        verdict: Verdict,
    ) -> Result<(), LedgerError> {
        self.write_verdict_and_end(pod, sandbox, verdict, None)
    }

    /// As [`Self::write_verdict`] and [`Self::write_end`] at once.
    ///
    /// # Errors
    /// As [`Self::write_verdict`].
    pub(crate) fn write_verdict_and_end(
        &self,
        pod: &PodName,
        sandbox: &str,
        verdict: Verdict,
        ended_by: Option<Step>,
    ) -> Result<(), LedgerError> {
        self.change(pod, sandbox, |entry| {
            entry.verdict.get_or_insert(verdict);
            entry.ended_by = entry.ended_by.or(ended_by);
        })
    }

    /// Writes down what ended the last sandbox of a pod whose time was up, unless that was known.
    ///
    /// # Errors
    /// As [`Self::write_span`].
    pub(crate) fn write_end(&self, pod: &PodName, sandbox: &str, step: Step) -> Result<(), LedgerError> {
        self.change(pod, sandbox, |entry| {
            entry.ended_by.get_or_insert(step);
        })
    }

    fn write(&self, entry: &Entry) -> Result<(), LedgerError> {
        let path = self.path(&entry.pod.uid);
        let text = serde_json::to_vec(&entry.dated()).map_err(io::Error::other);
        let written = text.and_then(|text| durable::replace(&path, &text));
        written.map_err(|source| LedgerError::Unwritable { path, source })
    }
}
