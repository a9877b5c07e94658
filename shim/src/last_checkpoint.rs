//! Where a pod is written to whose time is up: whole, synced and under its name, or not there.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

use curfew_config::units::quantity::format_size;
use runsc_bridge::RunscError;
use rustix::fs::{CWD, RenameFlags, renameat_with, statvfs};
use thiserror::Error;

use crate::record::SandboxRecord;

/// Why a pod whose time is up wasn't written down.
#[derive(Debug, Error)]
pub(crate) enum LastCheckpointError {
    #[error("there is no sandbox")]
    NoSandbox,
    #[error("its container doesn't run")]
    NotRunning,
    #[error("another checkpoint is being written")]
    Another,
    #[error("several of its containers run, and such a pod cannot be restored")]
    Several,
    #[error("the sandbox uses {needed}, and {} has {free} left", dir.display())]
    NoSpace { dir: PathBuf, needed: String, free: String },
    #[error("it takes more than checkpoint.max_size = {most}")]
    TooLarge { most: String },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Runsc(#[from] RunscError),
}

/// The place of one pod's checkpoint.
#[derive(Debug, Clone)]
pub(crate) struct LastCheckpoint {
    dir: PathBuf,
    /// Where it is once it is whole.
    path: PathBuf,
    unfinished: PathBuf,
    most: u64,
}

/// Between the pod's name and the sandbox's; in no name of a whole one.
const UNFINISHED: &str = ".tmp-";
/// Far longer than one takes that is still being written.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

impl LastCheckpoint {
    /// That of a sandbox; `None` where the node has no place for it.
    pub(crate) fn of(record: &SandboxRecord) -> Option<Self> {
        let dir = record.policy.checkpoint.dir.clone()?;
        let sandbox = record.sandbox.as_str();
        let name = record.pod.as_ref().map_or(sandbox, |pod| pod.uid.as_str());
        let (path, unfinished) = (dir.join(name), dir.join(format!("{name}{UNFINISHED}{sandbox}")));
        Some(Self { dir, path, unfinished, most: record.policy.checkpoint.max_size })
    }

    /// Where it is while it is written.
    pub(crate) fn unfinished(&self) -> &Path {
        &self.unfinished
    }

    /// Makes the directory to be written to, for a sandbox that uses so many bytes.
    ///
    /// # Errors
    /// The place isn't root's alone, or has too little room.
    pub(crate) async fn prepare(self, memory: u64) -> Result<(), LastCheckpointError> {
        blocking(move || self.make(memory)).await
    }

    fn make(&self, memory: u64) -> Result<(), LastCheckpointError> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).map_err(io_error(&self.dir))?;
        let found = fs::symlink_metadata(&self.dir).map_err(io_error(&self.dir))?;
        let is_ours = found.is_dir() && found.uid() == nix::unistd::geteuid().as_raw();
        if !is_ours || found.mode() & 0o022 != 0 {
            let source = io::Error::new(
                io::ErrorKind::PermissionDenied,
                "must be a directory that only root can write",
            );
            return Err(LastCheckpointError::Io { path: self.dir.clone(), source });
        }
        let space = statvfs(&self.dir).map_err(io::Error::from).map_err(io_error(&self.dir))?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if free < memory {
            let (needed, free) = (format_size(memory), format_size(free));
            return Err(LastCheckpointError::NoSpace { dir: self.dir.clone(), needed, free });
        }
        // A shim may have died over an earlier one.
        remove(&self.unfinished);
        DirBuilder::new().mode(0o700).create(&self.unfinished).map_err(io_error(&self.unfinished))
    }

    /// As [`Self::check_size`], where nobody may wait for a disk.
    ///
    /// # Errors
    /// As [`Self::check_size`].
    pub(crate) async fn keeps_to_its_size(self) -> Result<(), LastCheckpointError> {
        blocking(move || self.check_size()).await
    }

    /// # Errors
    /// It is larger than it may be.
    pub(crate) fn check_size(&self) -> Result<(), LastCheckpointError> {
        let size = |file: fs::DirEntry| {
            file.metadata().map_or(0, |of| of.len().max(of.blocks().saturating_mul(512)))
        };
        let files = fs::read_dir(&self.unfinished).into_iter().flatten().flatten();
        match files.map(size).fold(0, u64::saturating_add) > self.most {
            true => Err(LastCheckpointError::TooLarge { most: format_size(self.most) }),
            false => Ok(()),
        }
    }

    /// Has what was written survive the node, and gives it its name. What had it before is gone. Returns where it is.
    ///
    /// # Errors
    /// It is too large, or the system says something; it has no name then.
    pub(crate) async fn keep(self) -> Result<PathBuf, LastCheckpointError> {
        blocking(move || self.finish()).await
    }

    fn finish(&self) -> Result<PathBuf, LastCheckpointError> {
        self.check_size()?;
        let synced = || {
            for file in fs::read_dir(&self.unfinished)? {
                File::open(file?.path())?.sync_all()?;
            }
            File::open(&self.unfinished)?.sync_all()
        };
        synced().map_err(io_error(&self.unfinished))?;
        let renamed = || {
            match renameat_with(CWD, &self.unfinished, CWD, &self.path, RenameFlags::EXCHANGE) {
                Err(rustix::io::Errno::NOENT) => fs::rename(&self.unfinished, &self.path)?,
                // What was there before is where this one was.
                result => result.map(|()| remove(&self.unfinished))?,
            }
            File::open(&self.dir)?.sync_all()
        };
        renamed().map_err(io_error(&self.path))?;
        Ok(self.path.clone())
    }

    /// Removes what was being written.
    pub(crate) async fn discard(self) {
        let _ = blocking(move || {
            remove(&self.unfinished);
            Ok(())
        })
        .await;
    }

    /// As [`Self::discard`], for who may wait.
    pub(crate) fn discard_now(&self) {
        remove(&self.unfinished);
    }
}

/// Removes what has been left unfinished by shims or nodes that died over it.
pub(crate) fn sweep(dir: &Path) {
    let is_old = |entry: &fs::DirEntry| {
        let touched = entry.metadata().and_then(|of| of.modified()).ok();
        touched.and_then(|touched| touched.elapsed().ok()).is_some_and(|age| age > LONGEST)
    };
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let unfinished = entries.filter(|entry| entry.file_name().to_string_lossy().contains(UNFINISHED));
    unfinished.filter(is_old).for_each(|entry| remove(&entry.path()));
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> LastCheckpointError + use<> {
    let path = path.to_owned();
    move |source| LastCheckpointError::Io { path, source }
}

fn remove(path: &Path) {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            log::error!("cannot remove {}: {error}", path.display());
        }
        _ => {}
    }
}

/// Disks may take their time.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LastCheckpointError> + Send + 'static,
) -> Result<T, LastCheckpointError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        let source = io::Error::other(error);
        Err(LastCheckpointError::Io { path: PathBuf::new(), source })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(dir: &Path) -> LastCheckpoint {
        let (path, unfinished) = (dir.join("uid"), dir.join("uid.tmp-s"));
        LastCheckpoint { dir: dir.to_owned(), path, unfinished, most: 100 }
    }

    fn write(place: &LastCheckpoint, name: &str, content: &[u8]) {
        crate::durable::replace(&place.unfinished.join(name), content).unwrap();
    }

    #[test]
    fn a_checkpoint_has_its_name_when_it_is_whole_and_takes_an_older_ones_place() {
        let dir = tempfile::tempdir().unwrap();
        let at = LastCheckpoint { most: 1 << 20, ..place(&dir.path().join("c")) };
        for content in [&b"first"[..], b"second"] {
            at.make(1).unwrap();
            write(&at, "checkpoint.img", content);
            assert_eq!(at.finish().unwrap(), at.path);
            assert_eq!(fs::read(at.path.join("checkpoint.img")).unwrap(), content);
            assert_eq!(fs::read_dir(&at.dir).unwrap().count(), 1);
        }
        assert_eq!(fs::metadata(&at.dir).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(&at.path).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn one_that_is_too_large_gets_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let at = place(dir.path());
        at.make(1).unwrap();
        at.check_size().unwrap();
        write(&at, "pages.img", &[1; 101]);
        assert!(matches!(at.finish(), Err(LastCheckpointError::TooLarge { .. })));
        at.discard_now();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_was_left_unfinished_long_ago_is_swept_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for (name, age) in [("uid", 2), ("uid.tmp-old", 2), ("uid.tmp-new", 0)] {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            let touched = std::time::SystemTime::now() - age * LONGEST;
            File::open(path).unwrap().set_modified(touched).unwrap();
        }
        sweep(dir.path());
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().map(|of| of.file_name()).collect();
        left.sort();
        assert_eq!(left, ["uid", "uid.tmp-new"]);
    }

    #[test]
    fn a_place_that_is_not_roots_alone_or_has_no_room_is_refused() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(place(dir.path()).make(u64::MAX), Err(LastCheckpointError::NoSpace { .. })));
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        symlink(dir.path(), dir.path().join("link")).unwrap();
        for name in ["open", "link"] {
            let error = place(&dir.path().join(name)).make(1).unwrap_err();
            assert!(matches!(error, LastCheckpointError::Io { .. }), "{name}: {error}");
            assert!(error.to_string().contains(name));
        }
    }
}
