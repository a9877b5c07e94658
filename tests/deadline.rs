//! The wall-clock limit: what runs into it ends with 124, on time, and nothing starts after it.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::time::{Duration, SystemTime};

use harness::{Code, Exit, Harness, Options, Runtime, Signal, Spec, Status, Task, with_options};

harness::on_curfew_alone![
    an_endless_script_ends_with_124_at_its_limit,
    a_workload_that_ignores_term_is_killed_after_its_grace,
    a_workload_that_obeys_term_ends_with_124_before_the_grace_is_over,
    a_program_that_ends_before_its_limit_keeps_its_exit_code,
    a_pod_ends_as_a_whole_and_its_clock_starts_with_the_workload,
    nothing_is_created_or_started_in_an_expired_pod,
    an_exit_before_the_limit_keeps_its_code_when_the_pod_expires,
    a_stopped_sandbox_is_ended_all_the_same,
    a_stopped_gofer_is_ended_all_the_same,
    a_malformed_or_unknown_annotation_is_refused_and_leaves_nothing,
    a_wish_above_the_class_is_clamped_and_logged,
];

const TIMEOUT: &str = "curfew.dev/timeout";
const GRACE: &str = "curfew.dev/grace";
/// Shared machines are noisy; the figures that are promised come from a benchmark.
const LATENESS: Duration = Duration::from_millis(500);

fn endless() -> Spec {
    Spec::new(["sh", "-c", "trap 'echo told' TERM; echo ready; while true; do sleep 0.05; done"])
}

/// When something is due: the clock starts somewhere between these two, within Start.
#[derive(Clone, Copy)]
struct Due {
    earliest: SystemTime,
    latest: SystemTime,
}

/// Starts a task whose end is due after `limit`.
fn started(h: &Harness, spec: Spec, limit: Duration) -> (Task, Due) {
    let task = h.create(spec);
    let earliest = SystemTime::now() + limit;
    task.start().unwrap();
    (task, Due { earliest, latest: SystemTime::now() + limit })
}

#[track_caller]
fn assert_on_time(exit: Exit, due: Due) {
    assert_eq!(exit.status, 124);
    let at = exit.at.unwrap();
    assert!(at >= due.earliest, "ended {:?} early", due.earliest.duration_since(at));
    assert!(at <= due.latest + LATENESS, "ended {:?} late", at.duration_since(due.latest));
}

fn an_endless_script_ends_with_124_at_its_limit(h: &Harness) {
    let spec = Spec::new(["python3", "-c", "while True: pass"]).image("python");
    let spec = spec.annotation(TIMEOUT, "1s").annotation(GRACE, "0s");
    let (task, due) = started(h, spec, Duration::from_secs(1));
    let exit = task.wait().unwrap();
    assert_on_time(exit, due);
    assert_eq!(task.delete().unwrap(), exit);
}

fn a_workload_that_ignores_term_is_killed_after_its_grace(h: &Harness) {
    let spec = endless().annotation(TIMEOUT, "1s").annotation(GRACE, "700ms");
    let (task, due) = started(h, spec, Duration::from_millis(1700));
    assert_on_time(task.wait().unwrap(), due);
    assert_eq!(task.stdout(), "ready\ntold\n");
    task.delete().unwrap();
}

fn a_workload_that_obeys_term_ends_with_124_before_the_grace_is_over(h: &Harness) {
    let script = "trap 'echo bye; exit 0' TERM; while true; do sleep 0.05; done";
    let spec = Spec::new(["sh", "-c", script]).annotation(TIMEOUT, "1s").annotation(GRACE, "10s");
    let (task, due) = started(h, spec, Duration::from_secs(1));
    assert_on_time(task.wait().unwrap(), due);
    assert_eq!(task.stdout(), "bye\n");
    task.delete().unwrap();
}

fn a_program_that_ends_before_its_limit_keeps_its_exit_code(h: &Harness) {
    let output = h.run(Spec::new(["sh", "-c", "exit 4"]).annotation(TIMEOUT, "30s"));
    assert_eq!(output.exit.status, 4);
}

fn a_pod_ends_as_a_whole_and_its_clock_starts_with_the_workload(h: &Harness) {
    let pause = Spec::sleeper().sandbox("pause").annotation(TIMEOUT, "1s").annotation(GRACE, "0s");
    let pause = h.start(pause);
    // Longer than the limit: a pause container doesn't use it up.
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(pause.state().unwrap().status, Status::Running);
    let workload = Spec::sleeper().container_of("pause", pause.pid());
    let (workload, due) = started(h, workload, Duration::from_secs(1));
    assert_on_time(workload.wait().unwrap(), due);
    assert_on_time(pause.wait().unwrap(), due);
    workload.delete().unwrap();
    pause.delete().unwrap();
}

fn nothing_is_created_or_started_in_an_expired_pod(h: &Harness) {
    // The grace keeps the sandbox alive while the pod has expired already.
    let pause = Spec::sleeper().sandbox("pause").annotation(TIMEOUT, "500ms").annotation(GRACE, "5s");
    let pause = h.start(pause);
    let workload = h.start(endless().container_of("pause", pause.pid()));
    let created = h.create(Spec::sleeper().container_of("pause", pause.pid()));
    workload.wait_for_output("told");
    let refused = h.try_create(Spec::sleeper().container_of("pause", pause.pid())).unwrap_err();
    assert_eq!(refused.code, Code::FailedPrecondition);
    assert!(refused.message.contains("500ms"), "{refused}");
    assert_eq!(created.start().unwrap_err().code, Code::FailedPrecondition);
    workload.kill(Signal::SIGKILL).unwrap();
    for task in [workload, created, pause] {
        assert_eq!(task.wait().unwrap().status, 124);
        task.delete().unwrap();
    }
}

fn an_exit_before_the_limit_keeps_its_code_when_the_pod_expires(h: &Harness) {
    let pause = Spec::sleeper().sandbox("pause").annotation(TIMEOUT, "1s").annotation(GRACE, "0s");
    let pause = h.start(pause);
    let early = h.start(Spec::new(["sh", "-c", "exit 6"]).container_of("pause", pause.pid()));
    assert_eq!(early.wait().unwrap().status, 6);
    assert_eq!(pause.wait().unwrap().status, 124);
    assert_eq!(early.delete().unwrap().status, 6);
    pause.delete().unwrap();
}

/// The processes of the test whose name begins so.
fn processes(h: &Harness, name: &str) -> Vec<harness::proc::Process> {
    let all = harness::proc::of_test(h.containerd.namespace(), h.containerd.pid()).into_iter();
    all.filter(|process| process.command.starts_with(name)).collect()
}

fn a_stopped_process_holds_nothing_up(h: &Harness, name: &str) {
    let spec = endless().annotation(TIMEOUT, "1s").annotation(GRACE, "0s");
    let (task, due) = started(h, spec, Duration::from_secs(1));
    let stopped = processes(h, name);
    assert!(!stopped.is_empty(), "no {name} found");
    stopped.iter().for_each(|process| process.signal(Signal::SIGSTOP));
    assert_on_time(task.wait().unwrap(), due);
    task.delete().unwrap();
}

fn a_stopped_sandbox_is_ended_all_the_same(h: &Harness) {
    a_stopped_process_holds_nothing_up(h, "runsc-sandbox");
}

fn a_stopped_gofer_is_ended_all_the_same(h: &Harness) {
    a_stopped_process_holds_nothing_up(h, "runsc-gofer");
}

fn a_malformed_or_unknown_annotation_is_refused_and_leaves_nothing(h: &Harness) {
    for (key, value) in [
        (TIMEOUT, "10 minutes"),
        (TIMEOUT, "10"),
        (TIMEOUT, "0s"),
        (TIMEOUT, "-1s"),
        (TIMEOUT, "1s "),
        (TIMEOUT, "\u{661}0m"),
        (TIMEOUT, ""),
        (GRACE, "soon"),
        ("curfew.dev/pids", "6\u{664}"),
        ("curfew.dev/shm-size", "1Gi "),
        ("curfew.dev/timeuot", "1s"),
    ] {
        let refused = h.try_create(Spec::sleeper().annotation(key, value)).unwrap_err();
        assert_eq!(refused.code, Code::InvalidArgument, "{key}={value:?}: {refused}");
        assert!(refused.message.contains(key), "{refused}");
        let words = if key.ends_with("timeuot") { "known are" } else { value };
        assert!(refused.message.contains(words), "{refused}");
    }
}

fn a_wish_above_the_class_is_clamped_and_logged(h: &Harness) {
    let task = h.start(Spec::sleeper().annotation(TIMEOUT, "20h"));
    let log = h.containerd.log();
    assert!(log.contains("20h0m0s") && log.contains("10m0s"), "{log}");
    task.kill(Signal::SIGKILL).unwrap();
    task.wait().unwrap();
    task.delete().unwrap();
}

#[test]
fn a_class_without_an_annotation_has_a_limit_too() {
    let class = "[timeout]\ndefault = \"1s\"\ngrace = \"0s\"\n".to_owned();
    with_options(Runtime::Curfew, Options { class, ..Options::default() }, |h| {
        let (task, due) = started(h, Spec::sleeper(), Duration::from_secs(1));
        assert_on_time(task.wait().unwrap(), due);
        task.delete().unwrap();
    });
}
