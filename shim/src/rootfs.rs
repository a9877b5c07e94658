//! A container's root file system: the mounts that containerd hands over, made and unmade.
//!
//! Mounting changes the working directory for long overlay options. The shim has one thread for work that may take
//! its time, so only one mount is made at once, and nothing else in the shim uses a relative path.

mod loop_device;
mod options;

use std::{
    fs::DirBuilder,
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::DirBuilderExt,
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use thiserror::Error;

use self::{
    loop_device::LoopDevice,
    options::{Compacted, parse_options},
};

/// One mount, as containerd describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RootfsMount {
    /// The file system's type; `bind` for a bind mount.
    pub(crate) kind: String,
    pub(crate) source: String,
    /// Where below the root file system it goes; empty for the root itself.
    pub(crate) target: String,
    pub(crate) options: Vec<String>,
}

/// What is at a path in a root file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
}

/// A root file system that cannot be set up.
#[derive(Debug, Error)]
pub(crate) enum RootfsError {
    /// The mount point cannot be made.
    #[error("cannot make mount point {}: {source}", path.display())]
    MountPoint { path: PathBuf, source: io::Error },
    /// A target that isn't a directory in the root file system.
    #[error("mount target {target:?} in the root file system: {source}")]
    Target { target: String, source: io::Error },
    /// The options are too long for the kernel, however they are written.
    #[error("{length} bytes of options for the {kind} mount are more than the kernel takes")]
    OptionsTooLong { kind: String, length: usize },
    /// The shim is ending.
    #[error("given up: the shim ends")]
    Abandoned,
    /// The image file has no block device.
    #[error("cannot show {} as a block device: {source}", image.display())]
    Loop { image: PathBuf, source: io::Error },
    /// The kernel refused the mount.
    #[error("cannot mount {kind} {mount_source:?} on {}: {errno}", target.display())]
    Mount { kind: String, mount_source: String, target: PathBuf, errno: Errno },
    /// A mount doesn't go away.
    #[error("cannot unmount {}: {errno}", path.display())]
    Unmount { path: PathBuf, errno: Errno },
}

/// Where a bundle's root file system is mounted.
pub(crate) fn mount_point(bundle: &Path) -> PathBuf {
    bundle.join("rootfs")
}

/// Mounts all of `mounts` on `rootfs`, which is made if it is missing. On failure nothing stays mounted.
///
/// # Errors
/// [`RootfsError`] names the mount that failed.
pub(crate) fn mount_all(rootfs: &Path, mounts: &[RootfsMount]) -> Result<(), RootfsError> {
    if mounts.is_empty() {
        return Ok(());
    }
    if let Err(source) = DirBuilder::new().recursive(true).mode(0o711).create(rootfs) {
        return Err(RootfsError::MountPoint { path: rootfs.to_owned(), source });
    }
    for one in mounts {
        if let Err(error) = mount_one(rootfs, one) {
            // The first error is the one to report; what is left shows in the leak check of `delete`.
            let _ = unmount_all(rootfs);
            return Err(error);
        }
    }
    Ok(())
}

/// Unmounts everything mounted on `rootfs`. A path that is no mount point, or gone, is fine.
///
/// # Errors
/// [`RootfsError::Unmount`] if the kernel keeps it.
pub(crate) fn unmount_all(rootfs: &Path) -> Result<(), RootfsError> {
    loop {
        let unmounted = match umount2(rootfs, MntFlags::UMOUNT_NOFOLLOW) {
            // Somebody still looks at it: it goes away with the last of them.
            Err(Errno::EBUSY) => umount2(rootfs, MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH),
            result => result,
        };
        match unmounted {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(RootfsError::Unmount { path: rootfs.to_owned(), errno }),
        }
    }
}

/// What is at a path, seen as the root file system itself has it: a link in the image leads to nowhere outside. `None`
/// where nothing is, or something else.
pub(crate) fn kind_in(rootfs: &Path, path: &Path) -> Option<Kind> {
    let root = openat(
        CWD,
        rootfs,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    );
    let relative = path.strip_prefix("/").ok()?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = openat2(root.ok()?, relative, flags, Mode::empty(), resolve).ok()?;
    let kind = FileType::from_raw_mode(fstat(found).ok()?.st_mode);
    let of_file = kind.is_file().then_some(Kind::File);
    of_file.or(kind.is_dir().then_some(Kind::Directory))
}

/// [`mount_all`] on another thread: a file system may take its time, and the pod's time limit must not wait for it.
pub(crate) async fn mount_elsewhere(rootfs: PathBuf, mounts: Vec<RootfsMount>) -> Result<(), RootfsError> {
    elsewhere(move || mount_all(&rootfs, &mounts)).await
}

/// [`unmount_all`] on another thread.
pub(crate) async fn unmount_elsewhere(rootfs: PathBuf) -> Result<(), RootfsError> {
    elsewhere(move || unmount_all(&rootfs)).await
}

async fn elsewhere(
    work: impl FnOnce() -> Result<(), RootfsError> + Send + 'static,
) -> Result<(), RootfsError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(RootfsError::Abandoned))
}

fn mount_one(rootfs: &Path, one: &RootfsMount) -> Result<(), RootfsError> {
    let target_fd = open_target(rootfs, &one.target)?;
    let target = PathBuf::from(format!("/proc/self/fd/{}", target_fd.as_raw_fd()));
    let options = parse_options(&one.options);
    let compacted = Compacted::new(one, &options)?;
    let failed = |errno| RootfsError::Mount {
        kind: one.kind.clone(),
        mount_source: one.source.clone(),
        target: rootfs.join(one.target.trim_start_matches('/')),
        errno,
    };
    let kind = (one.kind != "bind").then_some(one.kind.as_str());
    let first = if kind.is_none() { options.flags - MsFlags::MS_RDONLY } else { options.flags };
    // Kept until the mount holds it.
    let device = options.on_loop.then(|| attach(one, options.flags)).transpose()?;
    let source = device.as_ref().map_or(Path::new(&one.source), LoopDevice::path);
    compacted.during(|data| mount(Some(source), &target, kind, first, data)).map_err(failed)?;
    // A bind mount takes its flags only at a remount.
    let remount = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if kind.is_none() && options.flags.intersects(remount) {
        let flags = options.flags.intersection(remount) | MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
        // The first descriptor is of the directory below the mount.
        let mounted = open_target(rootfs, &one.target)?;
        let mounted = format!("/proc/self/fd/{}", mounted.as_raw_fd());
        mount(None::<&str>, mounted.as_str(), None::<&str>, flags, None::<&str>).map_err(failed)?;
    }
    Ok(())
}

fn attach(one: &RootfsMount, flags: MsFlags) -> Result<LoopDevice, RootfsError> {
    let image = Path::new(&one.source);
    LoopDevice::attach(image, flags.contains(MsFlags::MS_RDONLY))
        .map_err(|source| RootfsError::Loop { image: image.to_owned(), source })
}

/// Opens a mount's target as the root file system itself has it: a link in the image leads to nowhere outside.
fn open_target(rootfs: &Path, target: &str) -> Result<OwnedFd, RootfsError> {
    let failed = |e: rustix::io::Errno| RootfsError::Target { target: target.to_owned(), source: e.into() };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, rootfs, flags | OFlags::NOFOLLOW, Mode::empty()).map_err(failed)?;
    let target = target.trim_start_matches('/');
    if target.is_empty() {
        return Ok(root);
    }
    openat2(root, target, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
        .map_err(failed)
}

#[cfg(test)]
mod tests;
