use super::*;

#[test]
fn a_target_is_found_in_the_root_file_system_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let (rootfs, canary) = (dir.path().join("rootfs"), dir.path().join("canary"));
    std::fs::create_dir_all(rootfs.join("usr")).unwrap();
    std::fs::create_dir(&canary).unwrap();
    std::os::unix::fs::symlink(&canary, rootfs.join("link")).unwrap();
    let found = |target: &str| {
        let fd = open_target(&rootfs, target).ok()?;
        std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()
    };
    assert_eq!(found("").unwrap(), rootfs);
    assert_eq!(found("/usr").unwrap(), rootfs.join("usr"));
    assert_eq!(found("/../../usr").unwrap(), rootfs.join("usr"));
    assert_eq!(found("link"), None);
}

#[test]
fn a_path_that_is_no_mount_point_is_unmounted_already() {
    let dir = tempfile::tempdir().unwrap();
    unmount_all(dir.path()).unwrap();
    unmount_all(Path::new("/nonexistent/rootfs")).unwrap();
}

fn mounts_below(directory: &Path) -> usize {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.lines().filter(|line| line.contains(directory.to_str().unwrap())).count()
}

/// An image file with an empty ext4.
fn image_in(directory: &Path) -> PathBuf {
    let image = directory.join("image");
    std::fs::File::create_new(&image).unwrap().set_len(4 << 20).unwrap();
    #[allow(clippy::disallowed_methods, reason = "a test's own tool")]
    let made = std::process::Command::new("/sbin/mkfs.ext4").arg("-q").arg(&image).status().unwrap();
    assert!(made.success());
    image
}

#[test]
fn an_image_file_is_mounted_by_a_loop_device_that_goes_with_the_mount() {
    let dir = tempfile::tempdir().unwrap();
    let rootfs = dir.path().join("rootfs");
    let image = image_in(dir.path());
    let mount = RootfsMount {
        kind: "ext4".into(),
        source: image.display().to_string(),
        options: vec!["ro".into(), "loop".into()],
        ..RootfsMount::default()
    };
    mount_all(&rootfs, &[mount]).unwrap();
    assert!(rootfs.join("lost+found").is_dir());
    unmount_all(&rootfs).unwrap();
    assert_eq!(mounts_below(dir.path()), 0);
    let devices = std::fs::read_dir("/sys/block").unwrap().flatten();
    let backing = devices.filter_map(|d| std::fs::read_to_string(d.path().join("loop/backing_file")).ok());
    assert!(!backing.collect::<String>().contains(image.to_str().unwrap()));
}

#[test]
fn a_bind_mount_is_read_only_where_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (source, rootfs) = (dir.path().join("source"), dir.path().join("rootfs"));
    std::fs::create_dir(&source).unwrap();
    let mount = RootfsMount {
        kind: "bind".into(),
        source: source.display().to_string(),
        options: vec!["rbind".into(), "ro".into()],
        ..RootfsMount::default()
    };
    mount_all(&rootfs, &[mount]).unwrap();
    let written = std::fs::File::create_new(rootfs.join("file"));
    unmount_all(&rootfs).unwrap();
    assert_eq!(written.unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
}

#[test]
fn a_mount_that_fails_takes_the_ones_before_it_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let rootfs = dir.path().join("rootfs");
    let good = RootfsMount { kind: "tmpfs".into(), source: "tmpfs".into(), ..RootfsMount::default() };
    let bad = RootfsMount { kind: "no-such-filesystem".into(), ..good.clone() };
    assert!(matches!(mount_all(&rootfs, &[good, bad]), Err(RootfsError::Mount { .. })));
    assert_eq!(mounts_below(dir.path()), 0);
}

#[test]
fn what_is_at_a_path_is_seen_from_the_root_file_system() {
    use std::{fs, os::unix::fs::symlink};
    let dir = tempfile::tempdir().unwrap();
    let rootfs = dir.path().join("rootfs");
    fs::create_dir_all(rootfs.join("etc/dir")).unwrap();
    crate::durable::replace(&rootfs.join("etc/file"), b"").unwrap();
    crate::durable::replace(&dir.path().join("outside"), b"").unwrap();
    symlink("/etc/file", rootfs.join("absolute")).unwrap();
    symlink("../../../../outside", rootfs.join("etc/up")).unwrap();
    symlink(dir.path().join("outside"), rootfs.join("out")).unwrap();
    symlink("/proc/self/cwd/etc/passwd", rootfs.join("magic")).unwrap();
    nix::unistd::mkfifo(&rootfs.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (path, kind) in [
        ("/etc/file", Some(Kind::File)),
        ("/etc/dir", Some(Kind::Directory)),
        ("/absolute", Some(Kind::File)),
        ("/etc/up", None),
        ("/out", None),
        ("/magic", None),
        ("/fifo", None),
        ("/missing", None),
    ] {
        assert_eq!(kind_in(&rootfs, Path::new(path)), kind, "{path}");
    }
    symlink(&rootfs, dir.path().join("link")).unwrap();
    assert_eq!(kind_in(&dir.path().join("link"), Path::new("/etc/file")), None);
}
