//! Further processes in a running container.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use harness::{Code, ExecSpec, Harness, Signal, Spec, Status, Stdio, Task};

harness::on_both_runtimes![
    an_exec_s_output_and_exit_code_arrive,
    an_exec_s_end_leaves_the_container_running,
    a_second_exec_with_the_same_id_already_exists,
    a_registered_exec_runs_when_it_is_started,
    an_exec_ended_by_kill_exits_with_137,
    an_exec_s_events_come_in_order,
    stdin_reaches_an_exec_and_closing_it_is_its_end,
    the_container_s_end_ends_its_execs,
    an_unknown_exec_is_not_found,
];

fn end(task: &Task) {
    assert_eq!(task.end().unwrap().status, 137);
}

fn an_exec_s_output_and_exit_code_arrive(h: &Harness) {
    let task = h.start(Spec::sleeper());
    let exec = task.exec(&ExecSpec::new(["sh", "-c", "echo out; echo err >&2; exit 6"])).unwrap();
    exec.start().unwrap();
    let exit = exec.wait().unwrap();
    assert_eq!(exit.status, 6);
    assert!(exit.at.is_some());
    assert_eq!((exec.stdout().as_str(), exec.stderr().as_str()), ("out\n", "err\n"));
    assert_eq!(exec.delete().unwrap(), exit);
    end(&task);
}

fn an_exec_s_end_leaves_the_container_running(h: &Harness) {
    let task = h.start(Spec::sleeper());
    for _ in 0..3 {
        let exec = task.exec(&ExecSpec::new(["true"])).unwrap();
        exec.start().unwrap();
        assert_eq!(exec.wait().unwrap().status, 0);
        exec.delete().unwrap();
    }
    assert_eq!(task.state().unwrap().status, Status::Running);
    end(&task);
}

fn a_second_exec_with_the_same_id_already_exists(h: &Harness) {
    let task = h.start(Spec::sleeper());
    let spec = ExecSpec::new(["sleep", "1000"]).id("twice");
    let exec = task.exec(&spec).unwrap();
    assert_eq!(task.exec(&spec).unwrap_err().code, Code::AlreadyExists);
    exec.start().unwrap();
    assert_eq!(task.exec(&spec).unwrap_err().code, Code::AlreadyExists);
    exec.kill(Signal::SIGKILL).unwrap();
    exec.wait().unwrap();
    exec.delete().unwrap();
    end(&task);
}

fn a_registered_exec_runs_when_it_is_started(h: &Harness) {
    let task = h.start(Spec::sleeper());
    let exec = task.exec(&ExecSpec::new(["sleep", "1000"])).unwrap();
    assert_eq!(exec.state().unwrap().status, Status::Created);
    exec.start().unwrap();
    assert_eq!(exec.state().unwrap().status, Status::Running);
    exec.kill(Signal::SIGKILL).unwrap();
    exec.wait().unwrap();
    assert_eq!(exec.state().unwrap().status, Status::Stopped);
    exec.delete().unwrap();
    end(&task);
}

fn an_exec_ended_by_kill_exits_with_137(h: &Harness) {
    let task = h.start(Spec::sleeper());
    let exec = task.exec(&ExecSpec::new(["sh", "-c", "echo ready; exec sleep 1000"])).unwrap();
    exec.start().unwrap();
    exec.wait_for_output("ready");
    exec.kill(Signal::SIGKILL).unwrap();
    assert_eq!(exec.wait().unwrap().status, 137);
    assert_eq!(exec.kill(Signal::SIGKILL).unwrap_err().code, Code::NotFound);
    exec.delete().unwrap();
    end(&task);
}

fn an_exec_s_events_come_in_order(h: &Harness) {
    let events = h.events();
    let task = h.start(Spec::sleeper().id("ev"));
    let exec = task.exec(&ExecSpec::new(["sh", "-c", "exit 8"]).id("x")).unwrap();
    exec.start().unwrap();
    exec.wait().unwrap();
    let all = events.wait_for(5);
    assert_eq!(events.topics_of("ev"), ["create", "start", "exec-added", "exec-started", "exit"]);
    assert!(all[2..].iter().all(|event| event.exec_id == "x"), "{all:#?}");
    assert_eq!(all[4].status, 8);
    exec.delete().unwrap();
    end(&task);
}

fn stdin_reaches_an_exec_and_closing_it_is_its_end(h: &Harness) {
    let task = h.start(Spec::sleeper());
    let exec = task.exec(&ExecSpec::new(["cat"]).stdio(Stdio::WithStdin)).unwrap();
    exec.start().unwrap();
    exec.write_stdin(b"one\ntwo\n");
    exec.close_stdin();
    exec.close_io().unwrap();
    assert_eq!(exec.wait().unwrap().status, 0);
    assert_eq!(exec.stdout(), "one\ntwo\n");
    exec.delete().unwrap();
    end(&task);
}

fn the_container_s_end_ends_its_execs(h: &Harness) {
    let task = h.start(Spec::sleeper());
    let exec = task.exec(&ExecSpec::new(["sleep", "1000"])).unwrap();
    exec.start().unwrap();
    task.kill(Signal::SIGKILL).unwrap();
    assert_eq!(exec.wait().unwrap().status, 137);
    assert_eq!(task.wait().unwrap().status, 137);
    exec.delete().unwrap();
    task.delete().unwrap();
}

fn an_unknown_exec_is_not_found(h: &Harness) {
    let task = h.start(Spec::sleeper());
    let exec = task.exec(&ExecSpec::new(["true"])).unwrap();
    exec.start().unwrap();
    exec.wait().unwrap();
    exec.delete().unwrap();
    assert_eq!(exec.state().unwrap_err().code, Code::NotFound);
    assert_eq!(exec.delete().unwrap_err().code, Code::NotFound);
    end(&task);
}
