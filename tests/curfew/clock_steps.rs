//! Clocks that are set while a pod's time runs. Only in a machine that is the test's alone: others would see it too.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

use crate::running::{BY_SHIM, Life, Running, lateness, on_a_node, say};

const HOUR: i64 = 3600;
/// Long enough for a look at it halfway.
const LIFE: Life = Life { limit: 8, grace: 0 };

/// The wall's clock, set by so many seconds until this is dropped.
struct Step(i64);

impl Step {
    fn by(seconds: i64) -> Self {
        step(seconds);
        Self(seconds)
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        step(-self.0);
    }
}

fn step(seconds: i64) {
    let now = clock_gettime(ClockId::Realtime);
    clock_settime(ClockId::Realtime, Timespec { tv_sec: now.tv_sec + seconds, ..now }).unwrap();
}

/// Whether the clock may be set: `scripts/vm` says so of its machines.
fn is_ours() -> bool {
    let is_ours = std::env::var_os("CURFEW_MAY_SET_CLOCK").is_some();
    if !is_ours {
        eprintln!("skipped: others would see the clock step too; scripts/vm test curfew does it");
    }
    is_ours
}

/// A pod whose time runs while the clock is set by so many seconds.
fn ends_on_time_over_a_step_of(seconds: i64) {
    if !is_ours() {
        return;
    }
    on_a_node(|h| {
        let running = Running::start(h, LIFE);
        let started = Instant::now();
        let stepped = Step::by(seconds);
        std::thread::sleep(Duration::from_secs(LIFE.limit / 2));
        assert!(running.is_there(), "it has ended halfway");
        running.wait_until_gone();
        let due = started + Duration::from_secs(LIFE.limit);
        assert!(Instant::now() + Duration::from_millis(500) > due, "{:?} early", due.elapsed());
        say(due.elapsed(), lateness());
        running.ends_with_124(BY_SHIM);
        // As it was, and the other way round.
        drop(stepped);
        crate::running::is_refused(h, LIFE);
        let _stepped = Step::by(-seconds);
        crate::running::is_refused(h, LIFE);
    });
}

#[test]
fn on_time_though_the_clock_is_set_forward() {
    ends_on_time_over_a_step_of(HOUR);
}

#[test]
fn on_time_though_the_clock_is_set_back() {
    ends_on_time_over_a_step_of(-HOUR);
}
