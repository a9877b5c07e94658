//! containerd goes and comes back; shims and tasks don't notice.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::time::Duration;

use harness::{Harness, Signal, Spec, Status};

harness::on_both_runtimes![
    a_task_outlives_a_restart_of_containerd,
    a_task_outlives_a_crash_of_containerd,
    output_written_while_containerd_is_down_is_complete,
];

// With runc's shim containerd finds no process of the task and forgets it.
harness::on_curfew_alone![an_exit_while_containerd_is_down_is_not_lost];

fn a_task_outlives_a_restart_of_containerd(h: &Harness) {
    let task = h.start(Spec::sleeper());
    h.containerd.restart();
    assert_eq!(task.state().unwrap().status, Status::Running);
    task.kill(Signal::SIGKILL).unwrap();
    assert_eq!(task.wait().unwrap().status, 137);
    task.delete().unwrap();
}

fn a_task_outlives_a_crash_of_containerd(h: &Harness) {
    let task = h.start(Spec::sleeper());
    h.containerd.kill9();
    h.containerd.restart();
    assert_eq!(task.state().unwrap().status, Status::Running);
    task.kill(Signal::SIGKILL).unwrap();
    assert_eq!(task.wait().unwrap().status, 137);
    task.delete().unwrap();
}

fn an_exit_while_containerd_is_down_is_not_lost(h: &Harness) {
    let task = h.start(Spec::new(["sh", "-c", "sleep 0.3; exit 11"]));
    h.containerd.kill9();
    std::thread::sleep(Duration::from_millis(600));
    h.containerd.restart();
    let exit = task.wait_for(Duration::from_secs(2)).unwrap();
    assert_eq!(exit.status, 11);
    assert!(exit.at.is_some());
    task.delete().unwrap();
}

fn output_written_while_containerd_is_down_is_complete(h: &Harness) {
    let task =
        h.start(Spec::new(["sh", "-c", "echo before; sleep 0.4; echo between; sleep 0.4; echo after"]));
    task.wait_for_output("before");
    h.containerd.kill9();
    task.wait_for_output("between");
    h.containerd.restart();
    assert_eq!(task.wait().unwrap().status, 0);
    assert_eq!(task.stdout(), "before\nbetween\nafter\n");
    task.delete().unwrap();
}
