//! A sandbox's directory on the node, and the lock that says whether its shim lives.
//!
//! ```text
//! <state dir>/s/<16 hex>/  0700
//!     lock         held by the shim for its life
//!     record.json  what `delete` needs when the shim is gone
//!     task.sock    the Task service
//!     operator.sock  what curfewctl asks for
//!     guest/       0755, what its containers see of it, if anything
//!     panic        a FIFO, to which the sandbox's process says why it breaks down
//!     r/           runsc's --root
//! <state dir>/shared/      0700, what all sandboxes of the node use
//!     empty        0444, covers what a container is not to see
//! ```
//! The name is a hash of namespace and sandbox id, so that the socket's path has a known, short length.

mod lock;

use std::{
    fs::{self, DirBuilder, OpenOptions, Permissions},
    hash::Hasher,
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use runsc_bridge::{ContainerId, SandboxId, SandboxPaths};

pub(crate) use self::lock::Lock;
use crate::cgroup::OWN_PARENT;

/// How often the removal of a directory is tried in which something appears meanwhile.
const REMOVALS: u32 = 3;

/// The path of a sandbox's directory and of what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SandboxDir(PathBuf);

/// The file that is empty for every sandbox of the node.
pub(crate) fn empty_file(state_dir: &Path) -> PathBuf {
    state_dir.join("shared/empty")
}

impl SandboxDir {
    /// The directory of sandbox `id` in containerd's `namespace`, below `state_dir`.
    pub(crate) fn of(state_dir: &Path, namespace: &str, id: &SandboxId) -> Self {
        let mut hasher = fnv::FnvHasher::default();
        hasher.write(namespace.as_bytes());
        hasher.write(b"/");
        hasher.write(id.as_str().as_bytes());
        Self(state_dir.join("s").join(format!("{:016x}", hasher.finish())))
    }

    /// A directory whose path is known already.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Those of all sandboxes of a node.
    ///
    /// # Errors
    /// The directory of them cannot be read; that there is none is fine.
    pub(crate) fn all(state_dir: &Path) -> io::Result<Vec<Self>> {
        match fs::read_dir(state_dir.join("s")) {
            // One that is being removed has another name.
            Ok(entries) => Ok(entries
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_none())
                .map(Self)
                .collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Which directory it is, as device and inode; `None` if there is none.
    pub(crate) fn identity(&self) -> Option<(u64, u64)> {
        fs::metadata(&self.0).map(|of| (of.dev(), of.ino())).ok()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn record(&self) -> PathBuf {
        self.0.join("record.json")
    }

    pub(crate) fn operator_socket(&self) -> PathBuf {
        self.0.join("operator.sock")
    }

    /// Where the Task service is.
    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("task.sock")
    }

    /// What containers see, to be made where they are to see anything.
    pub(crate) fn guest(&self) -> PathBuf {
        self.0.join("guest")
    }

    /// Makes that, for the sandbox's users whoever they are.
    ///
    /// # Errors
    /// Also for something else in the way.
    pub(crate) fn make_guest(&self) -> io::Result<()> {
        let guest = self.guest();
        match DirBuilder::new().mode(0o755).create(&guest) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let found = fs::symlink_metadata(&guest)?;
        if !found.is_dir() || found.uid() != nix::unistd::geteuid().as_raw() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        // The modes of new directories are the umask's too.
        fs::set_permissions(&guest, Permissions::from_mode(0o755))
    }

    /// Where the sandbox's process says why it breaks down.
    pub(crate) fn panic_log(&self) -> PathBuf {
        self.0.join("panic")
    }

    /// Where runsc sends the terminal of `container` to. Short, whatever the id's length.
    pub(crate) fn console_socket(&self, container: &ContainerId) -> PathBuf {
        let mut hasher = fnv::FnvHasher::default();
        hasher.write(container.as_str().as_bytes());
        self.0.join(format!("tty-{:016x}", hasher.finish()))
    }

    /// A cgroup path for a container that brings none.
    pub(crate) fn own_cgroup(&self, container: &str) -> String {
        let name = self.0.file_name().unwrap_or_default().to_string_lossy();
        format!("/{OWN_PARENT}/{name}-{container}")
    }

    /// runsc's view of the directory.
    pub(crate) fn runsc_paths(&self) -> SandboxPaths {
        let state_dir = self.0.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
        SandboxPaths::new(&self.0, &state_dir.join("shared"))
    }

    /// Makes the directory, and the ones above and beside it, with mode 0700.
    ///
    /// # Errors
    /// Also for a directory in the way that isn't ours alone.
    pub(crate) fn make(&self) -> io::Result<()> {
        let paths = self.runsc_paths();
        for directory in [paths.shared(), &self.0, paths.root()] {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            let found = fs::symlink_metadata(directory)?;
            let ours = found.is_dir() && found.uid() == nix::unistd::geteuid().as_raw();
            if !ours || found.mode() & 0o022 != 0 {
                let message = format!("{} must be a directory that only root can write", directory.display());
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
            }
        }
        make_empty(&paths.shared().join("empty"))
    }

    /// Empties runsc's root of what a killed runsc left there.
    ///
    /// # Errors
    /// What could not be removed or made again.
    pub(crate) fn reset_runsc_root(&self) -> io::Result<()> {
        let root = self.runsc_paths().root().to_owned();
        fs::remove_dir_all(&root)?;
        DirBuilder::new().mode(0o700).create(root)
    }

    /// Removes the directory and all that is in it. Taken out of the way first, so that a new sandbox of the same
    /// name never meets a half-removed one.
    ///
    /// # Errors
    /// What could not be removed; a directory that is gone already is fine.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let aside = self.0.with_extension(format!("removed-{}", std::process::id()));
        match fs::rename(&self.0, &aside) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
            // A dying watchdog may leave its note there meanwhile.
            Ok(()) => (1..REMOVALS)
                .find_map(|_| fs::remove_dir_all(&aside).ok())
                .map_or_else(|| fs::remove_dir_all(&aside), Ok),
        }
    }
}

/// Makes the file, or sees that the one that is there is empty: it covers files that nobody is to read.
fn make_empty(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o444).custom_flags(libc::O_NOFOLLOW);
    match options.open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        // The modes of new files are the umask's too.
        Ok(file) => file.set_permissions(Permissions::from_mode(0o444))?,
        Err(_) => {}
    }
    let found = fs::symlink_metadata(path)?;
    if !found.is_file() || found.len() != 0 || found.mode() & 0o222 != 0 {
        let message = format!("{} must be an empty file that nobody can write", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> (tempfile::TempDir, SandboxDir) {
        let state = tempfile::tempdir().unwrap();
        let dir = SandboxDir::of(state.path(), "k8s.io", &SandboxId::new("abc").unwrap());
        dir.make().unwrap();
        (state, dir)
    }

    #[test]
    fn namespace_and_id_make_the_name() {
        let of = |ns, id| SandboxDir::of(Path::new("/run/curfew"), ns, &SandboxId::new(id).unwrap());
        assert_eq!(of("k8s.io", "a").path().file_name().unwrap().len(), 16);
        assert_ne!(of("k8s.io", "a"), of("default", "a"));
        assert_eq!(of("k8s.io", "a"), of("k8s.io", "a"));
    }

    #[test]
    fn the_lock_tells_a_living_holder_from_a_dead_one() {
        let (_state, dir) = made();
        let Lock::Taken(held) = dir.lock().unwrap() else { panic!("nobody had it") };
        assert!(matches!(dir.lock().unwrap(), Lock::Held));
        drop(held);
        assert!(matches!(dir.lock().unwrap(), Lock::Taken(_)));
    }

    #[test]
    fn a_removed_directory_leaves_nothing_and_can_be_made_again_under_a_holder() {
        let (state, dir) = made();
        let held = dir.lock().unwrap();
        dir.remove().unwrap();
        assert_eq!(fs::read_dir(state.path().join("s")).unwrap().count(), 0);
        dir.make().unwrap();
        assert!(matches!(dir.lock().unwrap(), Lock::Taken(_)));
        drop(held);
        dir.remove().unwrap();
        dir.remove().unwrap();
    }

    #[test]
    fn the_empty_file_is_empty_or_refused() {
        let (state, dir) = made();
        let path = empty_file(state.path());
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.len(), found.mode() & 0o777), (0, 0o444));
        dir.make().unwrap();
        fs::remove_file(&path).unwrap();
        crate::durable::replace(&path, b"x").unwrap();
        assert!(dir.make().is_err());
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert!(dir.make().is_err());
    }

    #[test]
    fn a_state_directory_that_others_can_write_is_refused() {
        let (state, dir) = made();
        fs::set_permissions(state.path().join("shared"), Permissions::from_mode(0o777)).unwrap();
        assert_eq!(dir.make().unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
