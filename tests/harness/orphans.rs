//! This process as the init of what its tests start.
//!
//! Shims leave their parent, and a killed shim leaves its sandbox. Here they get
//! the test as their new parent instead of pid 1: so whatever a test started is
//! below it in the process tree, and is reaped at once, as a machine's init does
//! (which in a container may be anything).

use std::sync::Once;
use std::time::Duration;

use nix::sys::prctl::set_child_subreaper;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, getpgid, getpgrp};

/// Makes this process the parent of orphans and starts to reap them.
pub(crate) fn adopt() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        set_child_subreaper(true).expect("every process may adopt its orphans");
        std::thread::spawn(reap_for_ever);
    });
}

fn reap_for_ever() {
    loop {
        let ended = waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
        let pid = ended.ok().as_ref().and_then(WaitStatus::pid);
        let reaped = pid.filter(|pid| is_orphan(*pid)).map(|pid| waitpid(pid, None));
        if reaped.is_none() {
            // No children, or one that somebody here waits for.
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// What this process starts itself is in its process group; containerd gives shims their own.
/// (So a test must not put its own children in a group or session of their own.)
fn is_orphan(pid: Pid) -> bool {
    getpgid(Some(pid)).is_ok_and(|group| group != getpgrp())
}
