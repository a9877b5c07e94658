//! The life of a task, as containerd's clients see it: the same rules for runc's
//! shim, which is the reference, and for Curfew's, on every containerd.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::time::{Duration, Instant};

use harness::leftovers::SETTLE_LIMIT;
use harness::{Code, Harness, Runtime, Signal, Spec, Status, shim::Shim};

harness::on_every_containerd! {
    both: [
        a_script_runs_and_its_output_and_exit_code_arrive,
        a_program_ended_by_kill_exits_with_137,
        a_program_ended_by_term_exits_with_143,
        wait_answers_at_once_for_an_exited_task_with_its_time,
        wait_delete_and_state_agree_on_the_exit,
        kill_of_an_exited_task_is_not_found,
        delete_of_a_running_task_is_a_failed_precondition,
        a_deleted_task_is_not_found,
        start_of_a_running_task_is_refused,
        a_second_create_with_the_same_id_already_exists,
        a_program_that_is_not_there_is_an_error_and_leaves_nothing,
        kill_of_a_created_task_ends_it_and_wait_returns,
        events_come_in_the_order_create_start_exit_delete,
        a_pod_has_one_shim_and_outlives_its_container,
        a_pod_s_container_ends_with_its_own_exit_code,
        state_answers_within_its_limit_and_says_the_phase,
        pids_of_a_running_task_are_never_empty,
        kill_all_ends_every_process_of_the_container,
    ],
    curfew: [a_created_task_can_be_deleted]
}

fn a_script_runs_and_its_output_and_exit_code_arrive(h: &Harness) {
    let task = h.create(Spec::new(["sh", "-c", "echo hello; exit 3"]));
    task.start().unwrap();
    assert_eq!(task.wait().unwrap().status, 3);
    assert_eq!(task.stdout(), "hello\n");
    assert_eq!(task.delete().unwrap().status, 3);
}

fn a_program_ended_by_kill_exits_with_137(h: &Harness) {
    let task = h.start(Spec::sleeper());
    task.kill(Signal::SIGKILL).unwrap();
    assert_eq!(task.wait().unwrap().status, 137);
    task.delete().unwrap();
}

fn a_program_ended_by_term_exits_with_143(h: &Harness) {
    // Pid 1 ignores what it has no handler for, so the program that ends is not pid 1.
    let script = "sh -c 'echo ready; exec sleep 1000' & trap 'kill -TERM $!' TERM; wait $!; wait $!";
    let task = h.start(Spec::new(["sh", "-c", script]));
    task.wait_for_output("ready");
    task.kill(Signal::SIGTERM).unwrap();
    assert_eq!(task.wait().unwrap().status, 143);
    task.delete().unwrap();
}

fn wait_answers_at_once_for_an_exited_task_with_its_time(h: &Harness) {
    let task = h.start(Spec::new(["true"]));
    let first = task.wait().unwrap();
    let asked = Instant::now();
    let again = task.wait_for(Duration::from_secs(2)).unwrap();
    assert!(asked.elapsed() < Duration::from_secs(1));
    assert!(first.at.is_some());
    assert_eq!(again, first);
    task.delete().unwrap();
}

fn wait_delete_and_state_agree_on_the_exit(h: &Harness) {
    let task = h.start(Spec::new(["sh", "-c", "exit 7"]));
    let waited = task.wait().unwrap();
    let state = task.state().unwrap();
    assert_eq!(state.status, Status::Stopped);
    assert_eq!(state.exit, waited);
    assert_eq!(task.delete().unwrap(), waited);
}

fn kill_of_an_exited_task_is_not_found(h: &Harness) {
    let task = h.start(Spec::new(["true"]));
    task.wait().unwrap();
    assert_eq!(task.kill(Signal::SIGTERM).unwrap_err().code, Code::NotFound);
    if h.runtime == Runtime::Curfew {
        // runc's shim has no error for this one.
        assert_eq!(task.kill_all(Signal::SIGKILL).unwrap_err().code, Code::NotFound);
    }
    task.delete().unwrap();
}

fn delete_of_a_running_task_is_a_failed_precondition(h: &Harness) {
    let task = h.start(Spec::sleeper());
    let code = task.delete_task().unwrap_err().code;
    match h.runtime {
        Runtime::Curfew => assert_eq!(code, Code::FailedPrecondition),
        // "cannot delete a running process", without a code.
        Runtime::Runc => assert_eq!(code, Code::Unknown),
    }
    assert_eq!(task.state().unwrap().status, Status::Running);
    task.kill(Signal::SIGKILL).unwrap();
    task.wait().unwrap();
    task.delete().unwrap();
}

fn a_deleted_task_is_not_found(h: &Harness) {
    let task = h.start(Spec::new(["true"]));
    task.wait().unwrap();
    task.delete_task().unwrap();
    assert_eq!(task.delete_task().unwrap_err().code, Code::NotFound);
    assert_eq!(task.state().unwrap_err().code, Code::NotFound);
    assert_eq!(task.kill(Signal::SIGKILL).unwrap_err().code, Code::NotFound);
    task.container().delete().unwrap();
}

fn start_of_a_running_task_is_refused(h: &Harness) {
    let task = h.start(Spec::sleeper());
    let code = task.start().unwrap_err().code;
    match h.runtime {
        Runtime::Curfew => assert_eq!(code, Code::FailedPrecondition),
        // runc's own words, passed on as they are.
        Runtime::Runc => assert_ne!(code, Code::NoAnswer),
    }
    task.kill(Signal::SIGKILL).unwrap();
    task.wait().unwrap();
    task.delete().unwrap();
}

fn a_second_create_with_the_same_id_already_exists(h: &Harness) {
    let task = h.start(Spec::sleeper());
    assert_eq!(task.container().create().unwrap_err().code, Code::AlreadyExists);
    assert_eq!(task.state().unwrap().status, Status::Running);
    task.kill(Signal::SIGKILL).unwrap();
    task.wait().unwrap();
    task.delete().unwrap();
}

fn a_program_that_is_not_there_is_an_error_and_leaves_nothing(h: &Harness) {
    // runc looks for the program at Create, runsc at Start.
    match h.try_create(Spec::new(["/no/such/program"])) {
        Err(error) => assert_ne!(error.code, Code::NoAnswer),
        Ok(task) => {
            assert_eq!(task.start().unwrap_err().code, Code::InvalidArgument);
            // As containerd's client does after a Start that failed.
            let _ = task.kill(Signal::SIGKILL);
            task.wait().unwrap();
            task.delete().unwrap();
        }
    }
}

fn kill_of_a_created_task_ends_it_and_wait_returns(h: &Harness) {
    let task = h.create(Spec::sleeper());
    let waiting = task.wait_in_background();
    task.kill(Signal::SIGKILL).unwrap();
    let exit = waiting.join().unwrap().unwrap();
    assert_eq!(exit.status, 137);
    assert!(exit.at.is_some());
    task.delete().unwrap();
}

fn a_created_task_can_be_deleted(h: &Harness) {
    // So it can with runc, whose shim then waits ten seconds for the end of the output.
    let task = h.create(Spec::sleeper());
    assert_eq!(task.state().unwrap().status, Status::Created);
    task.delete().unwrap();
}

fn events_come_in_the_order_create_start_exit_delete(h: &Harness) {
    let events = h.events();
    let task = h.create(Spec::new(["sh", "-c", "exit 5"]).id("ev"));
    let pid = task.start().unwrap();
    let exit = task.wait().unwrap();
    task.delete().unwrap();
    let all = match h.runtime {
        Runtime::Curfew => events.wait_for(4),
        // runc's shim may be shut down before its last event has left.
        Runtime::Runc => events.wait_for(3),
    };
    let in_order = ["create", "start", "exit", "delete"];
    assert_eq!(events.topics_of("ev")[..all.len()], in_order[..all.len()]);
    let exited = all.iter().find(|event| event.topic == "/tasks/exit").unwrap();
    assert_eq!((exited.status, exited.pid), (5, pid));
    assert_eq!(exited.exec_id, "");
    assert_eq!(exited.exited_at, exit.at);
    // Nothing comes twice.
    std::thread::sleep(Duration::from_millis(100));
    assert!(events.all().len() <= 4, "{:#?}", events.all());
}

fn a_pod_has_one_shim_and_outlives_its_container(h: &Harness) {
    let pod = h.pod_of_two();
    let shim = |id: &str| Shim::of(&h.containerd, id).unwrap().address().to_owned();
    assert_eq!(shim(pod.pause.id()), shim(pod.workload.id()));
    pod.workload.kill(Signal::SIGKILL).unwrap();
    assert_eq!(pod.workload.wait().unwrap().status, 137);
    assert_eq!(pod.pause.state().unwrap().status, Status::Running);
    pod.workload.delete().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(pod.pause.state().unwrap().status, Status::Running);
    pod.pause.kill(Signal::SIGKILL).unwrap();
    assert_eq!(pod.pause.wait().unwrap().status, 137);
    pod.pause.delete().unwrap();
}

fn a_pod_s_container_ends_with_its_own_exit_code(h: &Harness) {
    let pod = h.pod_with(Spec::new(["sh", "-c", "echo in the pod; exit 9"]));
    assert_eq!(pod.workload.wait().unwrap().status, 9);
    assert_eq!(pod.workload.stdout(), "in the pod\n");
    pod.delete();
}

fn state_answers_within_its_limit_and_says_the_phase(h: &Harness) {
    let task = h.create(Spec::sleeper());
    let phase = || {
        let asked = Instant::now();
        let state = task.state().unwrap();
        assert!(asked.elapsed() < SETTLE_LIMIT, "State took {:?}", asked.elapsed());
        state.status
    };
    assert_eq!(phase(), Status::Created);
    task.start().unwrap();
    assert_eq!(phase(), Status::Running);
    task.kill(Signal::SIGKILL).unwrap();
    task.wait().unwrap();
    assert_eq!(phase(), Status::Stopped);
    task.delete().unwrap();
}

fn pids_of_a_running_task_are_never_empty(h: &Harness) {
    let task = h.start(Spec::sleeper());
    let pid = task.state().unwrap().pid;
    assert!(task.pids().unwrap().contains(&pid));
    task.kill(Signal::SIGKILL).unwrap();
    task.wait().unwrap();
    task.delete().unwrap();
}

fn kill_all_ends_every_process_of_the_container(h: &Harness) {
    let task = h.start(Spec::new(["sh", "-c", "sleep 1000 & sleep 1000 & echo ready; wait"]));
    task.wait_for_output("ready");
    task.kill_all(Signal::SIGKILL).unwrap();
    assert_eq!(task.wait().unwrap().status, 137);
    assert_eq!(task.stdout(), "ready\n");
    task.delete().unwrap();
}
