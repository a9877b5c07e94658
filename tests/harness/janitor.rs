//! Ends and removes what bears a test's name, after the test and after tests that were killed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;

use crate::rpc::poll;
use crate::{cgroup, machine, proc};

/// The file in a test's directory whose lock its test holds.
pub(crate) const OWNER: &str = "owner";
/// What the names of all tests' directories begin with.
pub(crate) const PREFIX: &str = "curfew-";
/// The variable in containerd's environment that names the test's directory.
pub(crate) const MARK: &str = "CURFEW_TEST_DIR";

/// Whether a name or path bears the name of another test's directory, or of the demo's.
pub(crate) fn is_another_test_s(text: &str, namespace: &str) -> bool {
    let mut dirs = fs::read_dir("/tmp").into_iter().flatten().flatten();
    dirs.any(|dir| {
        let name = dir.file_name();
        let name = name.to_string_lossy();
        name.starts_with(PREFIX) && name != namespace && text.contains(&*name)
    })
}

/// Cleans up after harnesses that were killed: their directories have a lock that nobody holds.
pub fn sweep() {
    let dirs = fs::read_dir("/tmp").into_iter().flatten().flatten();
    for dir in dirs.map(|entry| entry.path()) {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with(PREFIX) || std::env::var_os("CURFEW_KEEP").is_some() {
            continue;
        }
        let Ok(owner) = File::open(dir.join(OWNER)) else { continue };
        if let Ok(_held) = Flock::lock(owner, FlockArg::LockExclusiveNonblock) {
            end_all(&dir, &name);
            remove(&dir);
        }
    }
}

/// Kills every process of that test, unmounts what is below its directory, removes its cgroups.
pub fn end_all(dir: &Path, namespace: &str) {
    // Stopped first: what is killed while it forks leaves a child that nothing names.
    let mut stopped = Vec::new();
    let ended = poll(Duration::from_secs(5), || {
        let left = proc::of_test(namespace, None);
        let signal = if left == stopped { Signal::SIGKILL } else { Signal::SIGSTOP };
        left.iter().for_each(|process| process.signal(signal));
        stopped = proc::of_test(namespace, None);
        stopped.iter().all(proc::Process::is_zombie).then_some(())
    });
    if ended.is_none() {
        eprint_line(&format!("processes of {namespace} do not end: {:#?}", proc::of_test(namespace, None)));
    }
    for mount in machine::mounts().iter().rev().filter(|mount| mount.is_below(dir)) {
        let _ = umount2(&mount.point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
    }
    cgroup::end_slice(namespace);
    // The children come after their parents in a sorted set.
    for cgroup in machine::cgroups().iter().rev() {
        if cgroup.components().any(|part| part.as_os_str() == namespace) {
            let _ = fs::remove_dir(cgroup);
        }
    }
    for root in machine::cgroup_roots() {
        // Fails as long as another test has a cgroup in it.
        let _ = fs::remove_dir(root.join("curfew-test"));
    }
    // runc's shim keeps its state outside.
    let _ = fs::remove_dir_all(Path::new("/run/containerd/runc").join(namespace));
}

/// Removes a test's directory, which must have no mounts in it any more.
pub fn remove(dir: &Path) {
    if let Some(mount) = machine::mounts().iter().find(|mount| mount.is_below(dir)) {
        eprint_line(&format!("not removing {}: {mount:?}", dir.display()));
        return;
    }
    if let Err(error) = fs::remove_dir_all(dir) {
        eprint_line(&format!("failed to remove {}: {error}", dir.display()));
    }
}

/// Whether overlayfs can be mounted on this directory's file system.
pub(crate) fn overlay_works(dir: &Path) -> bool {
    let base = dir.join("temp/overlay");
    let at = |sub: &str| -> PathBuf { base.join(sub) };
    let made = ["low", "up", "work", "all"].iter().all(|sub| fs::create_dir_all(at(sub)).is_ok());
    let base_name = base.display();
    let options = format!("lowerdir={base_name}/low,upperdir={base_name}/up,workdir={base_name}/work");
    let mounted = made
        && mount(Some("overlay"), &at("all"), Some("overlay"), MsFlags::empty(), Some(options.as_str()))
            .is_ok();
    if mounted {
        let _ = umount2(&at("all"), MntFlags::MNT_DETACH);
    }
    let _ = fs::remove_dir_all(&base);
    mounted
}

/// To the test's captured output.
#[allow(clippy::print_stderr, reason = "the test runner shows this beside the test's result")]
pub(crate) fn eprint_line(line: &str) {
    eprintln!("harness: {line}");
}
