//! Pause and Resume.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::time::{Duration, Instant};

use harness::{Code, ExecSpec, Harness, Signal, Spec, Status, Task};

harness::on_both_runtimes![
    a_paused_container_does_nothing_until_it_is_resumed,
    pausing_and_resuming_are_events_in_order,
];

harness::on_curfew_alone![
    a_paused_container_refuses_what_needs_it_to_run,
    a_kill_ends_a_paused_container_at_once,
    a_container_with_siblings_that_run_is_not_paused,
    pausing_does_not_stop_the_clock,
];

const TICKING: &str = "while true; do echo tick; sleep 0.05; done";

fn ticks(task: &Task) -> usize {
    task.stdout_so_far().len()
}

fn a_paused_container_does_nothing_until_it_is_resumed(h: &Harness) {
    let task = h.start(Spec::new(["sh", "-c", TICKING]));
    task.wait_for_output("tick");
    task.pause().unwrap();
    assert_eq!(task.state().unwrap().status, Status::Paused);
    std::thread::sleep(Duration::from_millis(200));
    let before = ticks(&task);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(ticks(&task), before);
    task.resume().unwrap();
    assert_eq!(task.state().unwrap().status, Status::Running);
    std::thread::sleep(Duration::from_millis(500));
    assert!(ticks(&task) > before);
    task.end().unwrap();
}

fn pausing_and_resuming_are_events_in_order(h: &Harness) {
    let events = h.events();
    let task = h.start(Spec::sleeper().id("p"));
    task.pause().unwrap();
    task.resume().unwrap();
    task.kill(Signal::SIGKILL).unwrap();
    task.wait().unwrap();
    events.wait_for(5);
    assert_eq!(events.topics_of("p")[..5], ["create", "start", "paused", "resumed", "exit"]);
    task.delete().unwrap();
}

fn a_paused_container_refuses_what_needs_it_to_run(h: &Harness) {
    let task = h.start(Spec::sleeper());
    assert_eq!(task.resume().unwrap_err().code, Code::FailedPrecondition);
    task.pause().unwrap();
    assert_eq!(task.pause().unwrap_err().code, Code::FailedPrecondition);
    let exec = task.exec(&ExecSpec::new(["true"]));
    assert_eq!(exec.map(drop).unwrap_err().code, Code::FailedPrecondition);
    assert_eq!(task.delete_task().unwrap_err().code, Code::FailedPrecondition);
    task.resume().unwrap();
    task.end().unwrap();
}

fn a_kill_ends_a_paused_container_at_once(h: &Harness) {
    let task = h.start(Spec::sleeper());
    task.pause().unwrap();
    let asked = Instant::now();
    task.kill(Signal::SIGKILL).unwrap();
    assert_eq!(task.wait().unwrap().status, 137);
    assert!(asked.elapsed() < Duration::from_secs(2));
    task.delete().unwrap();
}

fn a_container_with_siblings_that_run_is_not_paused(h: &Harness) {
    let pod = h.pod_of_two();
    assert_eq!(pod.workload.pause().unwrap_err().code, Code::FailedPrecondition);
    assert_eq!(pod.workload.state().unwrap().status, Status::Running);
    pod.delete();
}

fn pausing_does_not_stop_the_clock(h: &Harness) {
    let spec = Spec::sleeper().annotation("curfew.dev/timeout", "1s").annotation("curfew.dev/grace", "0s");
    let task = h.start(spec);
    task.pause().unwrap();
    let asked = Instant::now();
    assert_eq!(task.wait().unwrap().status, 124);
    assert!(asked.elapsed() < Duration::from_secs(2));
    task.delete().unwrap();
}
