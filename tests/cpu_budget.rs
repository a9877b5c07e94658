//! A pod's budget of CPU time is for all attempts at it together.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(clippy::disallowed_methods, reason = "the ledger's file")]

use std::{fs, time::Duration};

use harness::{Code, Harness, Signal, Spec, Task, proc::Process, rpc::poll, shim::Shim};
use serde_json::Value;

harness::on_curfew_alone![
    a_second_attempt_has_what_the_first_has_left_and_a_third_nothing,
    what_a_pod_has_used_is_known_though_its_shim_was_killed,
];

const UID: &str = "0f5c2c7e-1111-4222-8333-94f5d8c1a004";
const PATIENCE: Duration = Duration::from_secs(30);

fn pause(id: &str, budget: &str) -> Spec {
    let pause = Spec::sleeper().sandbox(id).annotation("io.kubernetes.cri.sandbox-uid", UID);
    pause.annotation("curfew.dev/grace", "0s").annotation("curfew.dev/cpu-budget", budget)
}

fn noted(h: &Harness) -> Option<Duration> {
    let text = fs::read(h.containerd.dir().join("ledger").join(UID).with_extension("json")).ok()?;
    let entry: Value = serde_json::from_slice(&text).ok()?;
    Some(Duration::from_millis(entry["cpu_used_ms"].as_u64()?))
}

#[track_caller]
fn end(tasks: [Task; 2]) {
    for task in tasks {
        task.wait_for(PATIENCE).unwrap();
        task.delete().unwrap();
    }
}

#[track_caller]
fn is_refused(h: &Harness, budget: &str) {
    let refused = h.try_create(pause("another", budget)).unwrap_err();
    assert_eq!(refused.code, Code::FailedPrecondition, "{refused}");
    assert!(refused.message.contains("CPUBudgetExceeded"), "{refused}");
}

fn a_second_attempt_has_what_the_first_has_left_and_a_third_nothing(h: &Harness) {
    let first = h.start(pause("first", "3s"));
    let words = ["timeout", "1", "sh", "-c", "while true; do :; done"];
    let workload = h.start(Spec::new(words).id("one").container_of("first", first.pid()));
    workload.wait_for(PATIENCE).unwrap();
    let _ = first.kill(Signal::SIGKILL);
    end([workload, first]);
    let used = noted(h).unwrap();
    assert!(used > Duration::from_millis(500) && used < Duration::from_secs(3), "{used:?}");

    let second = h.start(pause("second", "3s"));
    let busy = Spec::new(["sh", "-c", "while true; do :; done"]);
    let workload = h.start(busy.id("two").container_of("second", second.pid()));
    assert_eq!(workload.wait_for(PATIENCE).unwrap().status, 124);
    end([workload, second]);
    let all = noted(h).unwrap();
    // Two processors for two looks at the most, and what it takes to be gone.
    assert!(all >= Duration::from_secs(3) && all < Duration::from_millis(3800), "{used:?}, then {all:?}");
    is_refused(h, "3s");
}

fn what_a_pod_has_used_is_known_though_its_shim_was_killed(h: &Harness) {
    let pause_task = h.start(pause("pause", "1h"));
    let busy = Spec::new(["sh", "-c", "while true; do :; done"]);
    let workload = h.start(busy.id("busy").container_of("pause", pause_task.pid()));
    std::thread::sleep(Duration::from_secs(2));
    let shim = Shim::of(&h.containerd, "pause").unwrap().pid("pause").unwrap();
    Process::read(shim.cast_signed()).unwrap().signal(Signal::SIGKILL);
    for task in [&workload, &pause_task] {
        let forgotten = || task.state().is_err_and(|error| error.code == Code::NotFound);
        assert!(poll(PATIENCE, || forgotten().then_some(())).is_some(), "{}", task.id());
        task.container().delete().unwrap();
    }
    h.nothing_runs_within(PATIENCE);
    let used = noted(h).unwrap();
    assert!(used > Duration::from_millis(700) && used < Duration::from_secs(6), "{used:?}");
    // It may use less than that in all, and so has used it up.
    is_refused(h, "500ms");
    // That stands, whatever else it asks for.
    is_refused(h, "1h");
}
