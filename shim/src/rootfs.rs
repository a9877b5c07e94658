//! A container's root file system: the mounts that containerd hands over, made and unmade.
//!
//! Everything here runs on the shim's only thread and between two awaits, which is what makes the change of the
//! working directory for long overlay options safe.

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
};
use thiserror::Error;

/// The kernel copies one page of mount options, the closing nul included.
const LONGEST_DATA: usize = 4095;

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

/// A root file system that cannot be set up.
#[derive(Debug, Error)]
pub(crate) enum RootfsError {
    /// The mount point cannot be made.
    #[error("cannot make mount point {}: {source}", path.display())]
    MountPoint { path: PathBuf, source: io::Error },
    /// A target that leaves the root file system.
    #[error("mount target {target:?} isn't below the root file system")]
    Target { target: String },
    /// The options are too long for the kernel, however they are written.
    #[error("{length} bytes of options for the {kind} mount are more than the kernel takes")]
    OptionsTooLong { kind: String, length: usize },
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

fn mount_one(rootfs: &Path, one: &RootfsMount) -> Result<(), RootfsError> {
    let target = target_below(rootfs, &one.target)?;
    let options = parse_options(&one.options);
    let working_directory = Compacted::new(one, &options)?;
    let failed = |errno| RootfsError::Mount {
        kind: one.kind.clone(),
        mount_source: one.source.clone(),
        target: target.clone(),
        errno,
    };
    let kind = (one.kind != "bind").then_some(one.kind.as_str());
    let first = options.flags - if kind.is_none() { MsFlags::MS_RDONLY } else { MsFlags::empty() };
    working_directory
        .during(|data| mount(Some(one.source.as_str()), &target, kind, first, data))
        .map_err(failed)?;
    // A bind mount takes its flags only at a remount.
    let remount = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if kind.is_none() && options.flags.intersects(remount) {
        let flags = options.flags.intersection(remount) | MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
        mount(None::<&str>, &target, None::<&str>, flags, None::<&str>).map_err(failed)?;
    }
    Ok(())
}

fn target_below(rootfs: &Path, target: &str) -> Result<PathBuf, RootfsError> {
    let relative = target.trim_start_matches('/');
    if Path::new(relative).components().any(|c| c == std::path::Component::ParentDir) {
        return Err(RootfsError::Target { target: target.to_owned() });
    }
    Ok(if relative.is_empty() { rootfs.to_owned() } else { rootfs.join(relative) })
}

#[derive(Debug, PartialEq, Eq)]
struct Options {
    flags: MsFlags,
    data: Vec<String>,
}

/// Splits options into the kernel's flags and the file system's own data.
fn parse_options(options: &[String]) -> Options {
    let mut parsed = Options { flags: MsFlags::empty(), data: Vec::new() };
    for option in options {
        match flag_of(option) {
            Some((true, flag)) => parsed.flags.insert(flag),
            Some((false, flag)) => parsed.flags.remove(flag),
            // Hints for user space, which the kernel would refuse.
            None if option.is_empty() || option == "defaults" || option.starts_with("X-containerd.") => {}
            None => parsed.data.push(option.clone()),
        }
    }
    parsed
}

/// The kernel's flag for an option, and whether the option sets or clears it.
fn flag_of(option: &str) -> Option<(bool, MsFlags)> {
    Some(match option {
        "ro" => (true, MsFlags::MS_RDONLY),
        "rw" => (false, MsFlags::MS_RDONLY),
        "nosuid" => (true, MsFlags::MS_NOSUID),
        "suid" => (false, MsFlags::MS_NOSUID),
        "nodev" => (true, MsFlags::MS_NODEV),
        "dev" => (false, MsFlags::MS_NODEV),
        "noexec" => (true, MsFlags::MS_NOEXEC),
        "exec" => (false, MsFlags::MS_NOEXEC),
        "sync" => (true, MsFlags::MS_SYNCHRONOUS),
        "async" => (false, MsFlags::MS_SYNCHRONOUS),
        "dirsync" => (true, MsFlags::MS_DIRSYNC),
        "mand" => (true, MsFlags::MS_MANDLOCK),
        "nomand" => (false, MsFlags::MS_MANDLOCK),
        "noatime" => (true, MsFlags::MS_NOATIME),
        "atime" => (false, MsFlags::MS_NOATIME),
        "nodiratime" => (true, MsFlags::MS_NODIRATIME),
        "diratime" => (false, MsFlags::MS_NODIRATIME),
        "relatime" => (true, MsFlags::MS_RELATIME),
        "norelatime" => (false, MsFlags::MS_RELATIME),
        "strictatime" => (true, MsFlags::MS_STRICTATIME),
        "nostrictatime" => (false, MsFlags::MS_STRICTATIME),
        "bind" => (true, MsFlags::MS_BIND),
        "rbind" => (true, MsFlags::MS_BIND | MsFlags::MS_REC),
        _ => return None,
    })
}

/// Mount data that fits the kernel's page: an image of many layers names each of them, and their common directory is
/// left out by mounting from there.
struct Compacted {
    directory: Option<PathBuf>,
    data: String,
}

impl Compacted {
    fn new(one: &RootfsMount, options: &Options) -> Result<Self, RootfsError> {
        let data = options.data.join(",");
        if data.len() <= LONGEST_DATA {
            return Ok(Self { directory: None, data });
        }
        let too_long = RootfsError::OptionsTooLong { kind: one.kind.clone(), length: data.len() };
        if one.kind != "overlay" {
            return Err(too_long);
        }
        let lower = options.data.iter().find_map(|option| option.strip_prefix("lowerdir="));
        let Some(directory) = lower.and_then(common_directory) else { return Err(too_long) };
        let prefix = format!("{}/", directory.display());
        let shorter: Vec<String> = options.data.iter().map(|option| relative_to(option, &prefix)).collect();
        let data = shorter.join(",");
        if data.len() > LONGEST_DATA {
            return Err(too_long);
        }
        Ok(Self { directory: Some(directory), data })
    }

    fn during(&self, mount: impl FnOnce(Option<&str>) -> nix::Result<()>) -> nix::Result<()> {
        let data = (!self.data.is_empty()).then_some(self.data.as_str());
        let Some(directory) = &self.directory else { return mount(data) };
        nix::unistd::chdir(directory)?;
        let mounted = mount(data);
        nix::unistd::chdir("/")?;
        mounted
    }
}

fn relative_to(option: &str, prefix: &str) -> String {
    match option.split_once('=') {
        Some((key @ ("lowerdir" | "upperdir" | "workdir"), paths)) => {
            let shorter: Vec<&str> = paths.split(':').map(|p| p.strip_prefix(prefix).unwrap_or(p)).collect();
            format!("{key}={}", shorter.join(":"))
        }
        _ => option.to_owned(),
    }
}

/// The deepest directory that holds all of `lower`, a list of layers.
fn common_directory(lower: &str) -> Option<PathBuf> {
    let mut layers = lower.split(':').map(Path::new);
    let mut common = layers.next()?.parent()?.to_owned();
    for layer in layers {
        while !layer.starts_with(&common) {
            common = common.parent()?.to_owned();
        }
    }
    common.parent().is_some().then_some(common)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(options: &[&str]) -> Vec<String> {
        options.iter().map(|o| (*o).to_owned()).collect()
    }

    fn overlay_of(layers: usize) -> RootfsMount {
        let directory = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots";
        let lower: Vec<String> = (0..layers).map(|n| format!("{directory}/{n}/fs")).collect();
        RootfsMount {
            kind: "overlay".into(),
            options: vec![format!("lowerdir={}", lower.join(":")), format!("upperdir={directory}/u/fs")],
            ..RootfsMount::default()
        }
    }

    #[test]
    fn flags_go_to_the_kernel_and_the_rest_to_the_file_system() {
        let options =
            parse_options(&strings(&["rbind", "ro", "nosuid", "lowerdir=/a", "X-containerd.x", "suid"]));
        assert_eq!(options.flags, MsFlags::MS_BIND | MsFlags::MS_REC | MsFlags::MS_RDONLY);
        assert_eq!(options.data, ["lowerdir=/a"]);
    }

    #[test]
    fn an_image_of_many_layers_fits_the_kernels_page() {
        let one = overlay_of(120);
        let compacted = Compacted::new(&one, &parse_options(&one.options)).unwrap();
        assert!(compacted.directory.unwrap().ends_with("snapshots"));
        assert!(compacted.data.starts_with("lowerdir=0/fs:1/fs:"));
        assert!(compacted.data.ends_with("upperdir=u/fs"));
    }

    #[test]
    fn options_that_do_not_fit_are_refused() {
        let one = overlay_of(1000);
        let result = Compacted::new(&one, &parse_options(&one.options));
        assert!(matches!(result, Err(RootfsError::OptionsTooLong { .. })));
    }

    #[test]
    fn a_target_stays_below_the_root_file_system() {
        let rootfs = Path::new("/b/rootfs");
        assert_eq!(target_below(rootfs, "/usr").unwrap(), Path::new("/b/rootfs/usr"));
        assert!(matches!(target_below(rootfs, "a/../../x"), Err(RootfsError::Target { .. })));
    }

    #[test]
    fn a_path_that_is_no_mount_point_is_unmounted_already() {
        let dir = tempfile::tempdir().unwrap();
        unmount_all(dir.path()).unwrap();
        unmount_all(Path::new("/nonexistent/rootfs")).unwrap();
    }
}
