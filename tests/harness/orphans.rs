//! This process as the init of what its tests start.
//!
//! Shims leave their parent, and a killed shim leaves its sandbox. Here they get
//! the test as their new parent instead of pid 1: so whatever a test started is
//! below it in the process tree, and is reaped at once, as a machine's init does
//! (which in a container may be anything).

use std::collections::HashMap;
use std::sync::Once;
use std::time::{Duration, Instant};

use nix::sys::prctl::set_child_subreaper;
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::{Pid, getpgid, getpgrp};

use crate::proc;

/// Whoever waits for a child of his own has done so by then.
const WAITED_FOR: Duration = Duration::from_millis(1500);

/// Makes this process the parent of orphans and starts to reap them.
pub(crate) fn adopt() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        set_child_subreaper(true).expect("every process may adopt its orphans");
        std::thread::spawn(reap_for_ever);
    });
}

fn reap_for_ever() {
    let mut seen: HashMap<i32, Instant> = HashMap::new();
    loop {
        // Says that there is something to reap, and may say for long that it is what somebody here waits for.
        let _ = waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
        let own = Pid::this().as_raw();
        let zombies: Vec<i32> =
            proc::all().into_iter().filter(|p| p.parent == own && p.is_zombie()).map(|p| p.pid).collect();
        seen.retain(|pid, _| zombies.contains(pid));
        for pid in zombies {
            let since = *seen.entry(pid).or_insert_with(Instant::now);
            let pid = Pid::from_raw(pid);
            if is_orphan(pid) || since.elapsed() > WAITED_FOR {
                let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What this process starts itself is in its process group; containerd gives shims their own, once they have been
/// executed. (So a test must not put its own children in a group or session of their own.)
fn is_orphan(pid: Pid) -> bool {
    getpgid(Some(pid)).is_ok_and(|group| group != getpgrp())
}
