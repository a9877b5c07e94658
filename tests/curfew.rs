//! Nothing outlives its limit, whatever dies or hangs on the node. Each test says how late the sandbox was gone, and sees
//! what was said of it: the exit code, the termination message, and that no other attempt is made.
#![allow(clippy::print_stderr, reason = "figures for whoever reads the log")]
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(clippy::disallowed_methods, reason = "a node's own files, and processors that are kept busy")]

#[path = "curfew/clock_steps.rs"]
mod clock_steps;
#[path = "curfew/lost.rs"]
mod lost;
#[path = "curfew/running.rs"]
mod running;

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime},
};

use harness::{Signal, cgroup};

use running::{
    BY_SHIM, Life, Running, SHORT, UID, is_refused, lateness, on_a_node, pause, recorded_due, say, says,
};

#[test]
fn on_time_where_nothing_is_wrong() {
    on_a_node(|h| {
        let running = Running::start(h, SHORT);
        running.is_gone(running.due(), lateness());
        running.ends_with_124(BY_SHIM);
    });
}

#[test]
fn on_time_though_the_workload_ignores_term() {
    on_a_node(|h| {
        let running = Running::start(h, Life { grace: 1, ..SHORT });
        running.is_gone(running.due() + Duration::from_secs(1), lateness());
        running.ends_with_124(BY_SHIM);
    });
}

#[test]
fn on_time_though_the_sandbox_is_stopped() {
    on_a_node(|h| {
        let running = Running::start(h, SHORT);
        running.signal("runsc-sandbox", Signal::SIGSTOP);
        running.is_gone(running.due(), lateness());
        running.ends_with_124(BY_SHIM);
    });
}

#[test]
fn on_time_though_the_gofer_is_stopped() {
    on_a_node(|h| {
        let running = Running::start(h, SHORT);
        running.signal("runsc-gofer", Signal::SIGSTOP);
        running.is_gone(running.due(), lateness());
        running.ends_with_124(BY_SHIM);
    });
}

#[test]
fn on_time_though_the_sandbox_is_paused() {
    on_a_node(|h| {
        // A container with siblings cannot be paused.
        let log = h.termination_log(UID, "endless");
        let alone = pause("alone", SHORT).bind(&log, "/dev/termination-log", &["rw"]);
        let task = h.start(alone.edit(|spec| {
            spec["annotations"].as_object_mut().unwrap().remove("io.kubernetes.cri.container-type");
            spec["annotations"].as_object_mut().unwrap().remove("io.kubernetes.cri.sandbox-id");
        }));
        let due = recorded_due(h, "alone");
        task.pause().unwrap();
        assert_eq!(task.wait_for(Duration::from_secs(20)).unwrap().status, 124);
        say(SystemTime::now().duration_since(due).unwrap_or_default(), lateness());
        says(&log, SHORT, "DeadlineExceeded");
        task.delete().unwrap();
        is_refused(h, SHORT);
    });
}

#[test]
fn on_time_though_the_cgroup_is_frozen() {
    on_a_node(|h| {
        let running = Running::start(h, SHORT);
        let (file, frozen) =
            if cgroup::is_v2() { ("cgroup.freeze", "1") } else { ("freezer.state", "FROZEN") };
        let directory = cgroup::of_process(running.pod.pause.pid(), file).unwrap();
        fs::write(directory.join(file), frozen).unwrap();
        running.is_gone(running.due(), lateness());
        running.ends_with_124(BY_SHIM);
    });
}

#[test]
fn on_time_though_the_processors_are_busy() {
    on_a_node(|h| {
        let busy = AtomicBool::new(true);
        let processors = std::thread::available_parallelism().unwrap().get();
        std::thread::scope(|scope| {
            for _ in 0..processors * 2 {
                scope.spawn(|| {
                    while busy.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            // Also if the test fails: the scope waits for its threads.
            let _idle_at_the_end = Idle(&busy);
            let running = Running::start(h, SHORT);
            running.is_gone(running.due(), lateness().max(Duration::from_secs(1)));
            busy.store(false, Ordering::Relaxed);
            running.ends_with_124(BY_SHIM);
        });
    });
}

/// Ends the threads that keep processors busy.
struct Idle<'a>(&'a AtomicBool);

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
