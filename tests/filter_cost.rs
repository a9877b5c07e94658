//! What the outer filter costs a guest's system call: at most two parts in a hundred.
//!
//! Two sandboxes, one with the filter and one without, can't show that: two of one kind differ by ten parts and more, as the
//! sandbox's way to wait for its guest adapts. So what the filter costs is measured where it arises, in the host's calls
//! (`outer_filter/tests.rs` of the shim), and here, how many of those a guest's call takes.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::time::{Duration, Instant};

use harness::{Harness, Spec};

harness::on_curfew_alone![a_guests_system_call_takes_many_times_a_hosts];

const CALLS: u32 = 2000;
const BATCHES: u32 = 1000;

/// Says the nanoseconds of the best batch.
fn program() -> String {
    format!(
        "
import os, time
def batch():
    start = time.perf_counter_ns()
    for _ in range({CALLS}):
        os.getppid()
    return time.perf_counter_ns() - start
print(min(batch() for _ in range({BATCHES})))
"
    )
}

fn on_the_host() -> Duration {
    let batch = || {
        let start = Instant::now();
        for _ in 0..CALLS {
            std::hint::black_box(nix::unistd::getppid());
        }
        start.elapsed()
    };
    (0..BATCHES).map(|_| batch()).min().unwrap()
}

fn a_guests_system_call_takes_many_times_a_hosts(h: &Harness) {
    let out = h.run(Spec::new(["python3", "-c", &program()]).image("python"));
    assert_eq!(out.exit.status, 0, "{}", out.stderr);
    let (guest, host) = (Duration::from_nanos(out.stdout.trim().parse().unwrap()), on_the_host());
    assert!(guest >= host * 6, "{guest:?} in the guest, {host:?} on the host");
}
