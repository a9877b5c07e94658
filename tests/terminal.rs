//! Terminals: of a plain container, of a pod's container, of an exec.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use harness::{Code, Exec, ExecSpec, Harness, Signal, Spec, Stdio, Task};

harness::on_both_runtimes![
    a_plain_container_has_a_terminal,
    a_pods_container_has_a_terminal,
    an_exec_has_a_terminal,
    a_new_size_reaches_a_plain_container,
    a_new_size_reaches_a_pods_container,
    a_new_size_reaches_an_exec,
    an_interrupt_key_ends_what_runs_in_a_plain_container,
    an_interrupt_key_ends_what_runs_in_a_pods_container,
    an_interrupt_key_ends_what_runs_in_an_exec,
    a_shell_survives_the_interrupt_of_its_job,
    a_shell_in_an_exec_survives_the_interrupt_of_its_job,
];

harness::on_curfew_alone![a_size_without_a_terminal_or_without_sense_is_refused];

/// Says what it is connected to, then what it is told, and its size each time that it changes.
const SCRIPT: &str = "trap 'echo size $(stty size)' WINCH; test -t 0 && test -t 1 && echo is a terminal; \
                      while true; do read line && echo \"got $line\"; done";
/// Ends by itself when it is interrupted.
const INTERRUPTED: &str = "trap 'echo interrupted; exit 7' INT; echo ready; while true; do sleep 0.1; done";

fn in_terminal(script: &str) -> Spec {
    Spec::new(["sh", "-c", script]).stdio(Stdio::Terminal)
}

/// A pod's sandbox, and a container in it.
fn pod_with(h: &Harness, workload: Spec) -> (Task, Task) {
    let pause = h.start(Spec::sleeper().sandbox("pause"));
    let workload = h.start(workload.container_of("pause", pause.pid()));
    (pause, workload)
}

fn exec_in(task: &Task, script: &str) -> Exec {
    let exec = task.exec(&ExecSpec::new(["sh", "-c", script]).stdio(Stdio::Terminal)).unwrap();
    exec.start().unwrap();
    exec
}

fn a_plain_container_has_a_terminal(h: &Harness) {
    let task = h.start(in_terminal(SCRIPT));
    task.wait_for_output("is a terminal");
    assert!(task.state().unwrap().terminal);
    task.write_stdin(b"hello\n");
    task.wait_for_output("got hello");
    task.end().unwrap();
}

fn a_pods_container_has_a_terminal(h: &Harness) {
    let (pause, workload) = pod_with(h, in_terminal(SCRIPT));
    workload.wait_for_output("is a terminal");
    workload.write_stdin(b"hello\n");
    workload.wait_for_output("got hello");
    workload.end().unwrap();
    pause.end().unwrap();
}

fn an_exec_has_a_terminal(h: &Harness) {
    let task = h.start(Spec::sleeper());
    let exec = exec_in(&task, "test -t 0 && echo is a terminal; read line; echo \"got $line\"; exit 5");
    exec.wait_for_output("is a terminal");
    exec.write_stdin(b"hello\n");
    assert_eq!(exec.wait().unwrap().status, 5);
    // With the echo of what was typed, and the terminal's line ends.
    assert_eq!(exec.stdout(), "is a terminal\r\nhello\r\ngot hello\r\n");
    exec.delete().unwrap();
    task.end().unwrap();
}

fn a_new_size_reaches_a_plain_container(h: &Harness) {
    let task = h.start(in_terminal(SCRIPT));
    task.wait_for_output("is a terminal");
    task.resize(132, 43).unwrap();
    task.wait_for_output("size 43 132");
    task.end().unwrap();
}

fn a_new_size_reaches_a_pods_container(h: &Harness) {
    let (pause, workload) = pod_with(h, in_terminal(SCRIPT));
    workload.wait_for_output("is a terminal");
    workload.resize(132, 43).unwrap();
    workload.wait_for_output("size 43 132");
    workload.end().unwrap();
    pause.end().unwrap();
}

fn a_new_size_reaches_an_exec(h: &Harness) {
    let task = h.start(Spec::sleeper());
    let exec = exec_in(&task, SCRIPT);
    exec.wait_for_output("is a terminal");
    exec.resize(132, 43).unwrap();
    exec.wait_for_output("size 43 132");
    exec.kill(Signal::SIGKILL).unwrap();
    exec.wait().unwrap();
    exec.delete().unwrap();
    task.end().unwrap();
}

fn an_interrupt_key_ends_what_runs_in_a_plain_container(h: &Harness) {
    let task = h.start(in_terminal(INTERRUPTED));
    task.wait_for_output("ready");
    task.write_stdin(b"\x03");
    assert_eq!(task.wait().unwrap().status, 7);
    assert!(task.stdout().contains("interrupted"), "{}", task.stdout());
    task.delete().unwrap();
}

fn an_interrupt_key_ends_what_runs_in_a_pods_container(h: &Harness) {
    let (pause, workload) = pod_with(h, in_terminal(INTERRUPTED));
    workload.wait_for_output("ready");
    workload.write_stdin(b"\x03");
    assert_eq!(workload.wait().unwrap().status, 7);
    assert!(workload.stdout().contains("interrupted"), "{}", workload.stdout());
    workload.delete().unwrap();
    pause.end().unwrap();
}

fn an_interrupt_key_ends_what_runs_in_an_exec(h: &Harness) {
    let task = h.start(Spec::sleeper());
    let exec = exec_in(&task, INTERRUPTED);
    exec.wait_for_output("ready");
    exec.write_stdin(b"\x03");
    assert_eq!(exec.wait().unwrap().status, 7);
    exec.delete().unwrap();
    task.end().unwrap();
}

fn a_shell_survives_the_interrupt_of_its_job(h: &Harness) {
    let task = h.start(Spec::new(["sh"]).stdio(Stdio::Terminal));
    task.write_stdin(b"echo rea''dy; sleep 1000\n");
    task.wait_for_output("ready");
    std::thread::sleep(std::time::Duration::from_millis(300));
    task.write_stdin(b"\x03");
    task.write_stdin(b"echo ali''ve; exit 3\n");
    task.wait_for_output("alive");
    assert_eq!(task.wait().unwrap().status, 3);
    task.delete().unwrap();
}

fn a_shell_in_an_exec_survives_the_interrupt_of_its_job(h: &Harness) {
    let task = h.start(Spec::sleeper());
    let exec = task.exec(&ExecSpec::new(["sh"]).stdio(Stdio::Terminal)).unwrap();
    exec.start().unwrap();
    exec.write_stdin(b"echo rea''dy; sleep 1000\n");
    exec.wait_for_output("ready");
    std::thread::sleep(std::time::Duration::from_millis(300));
    exec.write_stdin(b"\x03");
    exec.write_stdin(b"echo ali''ve; exit 3\n");
    exec.wait_for_output("alive");
    assert_eq!(exec.wait().unwrap().status, 3);
    exec.delete().unwrap();
    task.end().unwrap();
}

fn a_size_without_a_terminal_or_without_sense_is_refused(h: &Harness) {
    let task = h.start(Spec::sleeper());
    assert_eq!(task.resize(80, 24).unwrap_err().code, Code::FailedPrecondition);
    task.end().unwrap();
    let task = h.start(in_terminal(SCRIPT));
    task.wait_for_output("is a terminal");
    assert_eq!(task.resize(65_536, 24).unwrap_err().code, Code::InvalidArgument);
    for (width, height) in [(0, 0), (65_535, 65_535)] {
        task.resize(width, height).unwrap();
    }
    task.end().unwrap();
}
