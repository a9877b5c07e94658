//! Execs that cannot be: each has its code, and the container goes on.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use harness::{Code, ExecSpec, Harness, RpcError, Signal, Spec, Status, Task};
use serde_json::json;

harness::on_curfew_alone![
    an_exec_before_start_or_after_the_end_is_refused,
    an_exec_that_describes_nothing_runnable_is_refused,
    an_exec_that_cannot_start_says_why_and_can_be_deleted,
    closing_stdin_twice_is_no_error,
    a_resize_without_a_terminal_is_refused,
    an_exec_of_an_unknown_container_is_not_found,
];

fn refused(task: &Task, spec: &ExecSpec) -> RpcError {
    task.exec(spec).map(drop).unwrap_err()
}

fn an_exec_before_start_or_after_the_end_is_refused(h: &Harness) {
    let task = h.create(Spec::sleeper());
    assert_eq!(refused(&task, &ExecSpec::new(["true"])).code, Code::FailedPrecondition);
    task.start().unwrap();
    let exec = task.exec(&ExecSpec::new(["true"])).unwrap();
    task.kill(Signal::SIGKILL).unwrap();
    task.wait().unwrap();
    assert_eq!(refused(&task, &ExecSpec::new(["true"])).code, Code::NotFound);
    // Registered while it ran, and now too late.
    assert_ne!(exec.start().unwrap_err().code, Code::NoAnswer);
    task.delete().unwrap();
}

fn an_exec_that_describes_nothing_runnable_is_refused(h: &Harness) {
    let task = h.start(Spec::sleeper());
    let big = "x".repeat(65 << 10);
    let specs = [
        ("args", ExecSpec::new(["true"]).edit(|process| process["args"] = json!([]))),
        ("cwd", ExecSpec::new(["true"]).edit(|process| process["cwd"] = json!("relative"))),
        ("uid", ExecSpec::new(["true"]).edit(|process| process["user"]["uid"] = json!(u32::MAX))),
        ("larger", ExecSpec::new(["true"]).edit(|process| process["env"] = json!([format!("A={big}")]))),
        ("malformed", ExecSpec::new(["true"]).edit(|process| process["args"] = json!("true"))),
    ];
    for (words, spec) in specs {
        let error = refused(&task, &spec);
        assert_eq!(error.code, Code::InvalidArgument, "{words}: {error}");
        assert!(error.message.contains(words), "{words}: {error}");
        assert!(!error.message.contains(&big[..100]), "a variable's value was told");
    }
    assert_eq!(task.state().unwrap().status, Status::Running);
    task.end().unwrap();
}

fn an_exec_that_cannot_start_says_why_and_can_be_deleted(h: &Harness) {
    let task = h.start(Spec::sleeper());
    for (status, spec) in [
        (127, ExecSpec::new(["/no/such/program"])),
        (126, ExecSpec::new(["true"]).edit(|process| process["cwd"] = json!("/no/such/directory"))),
    ] {
        let exec = task.exec(&spec).unwrap();
        let error = exec.start().unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument, "{error}");
        assert_eq!(exec.wait().unwrap().status, status);
        exec.delete().unwrap();
    }
    task.end().unwrap();
}

fn closing_stdin_twice_is_no_error(h: &Harness) {
    let task = h.start(Spec::new(["cat"]).stdio(harness::Stdio::WithStdin));
    let exec = task.exec(&ExecSpec::new(["cat"]).stdio(harness::Stdio::WithStdin)).unwrap();
    exec.start().unwrap();
    exec.close_io().unwrap();
    exec.close_io().unwrap();
    assert_eq!(exec.wait().unwrap().status, 0);
    exec.delete().unwrap();
    task.close_io().unwrap();
    task.close_io().unwrap();
    assert_eq!(task.wait().unwrap().status, 0);
    task.delete().unwrap();
}

fn a_resize_without_a_terminal_is_refused(h: &Harness) {
    let task = h.start(Spec::sleeper());
    let exec = task.exec(&ExecSpec::new(["sleep", "1000"])).unwrap();
    exec.start().unwrap();
    assert_eq!(exec.resize(80, 24).unwrap_err().code, Code::FailedPrecondition);
    exec.kill(Signal::SIGKILL).unwrap();
    exec.wait().unwrap();
    exec.delete().unwrap();
    task.end().unwrap();
}

fn an_exec_of_an_unknown_container_is_not_found(h: &Harness) {
    let task = h.start(Spec::sleeper());
    let shim = harness::shim::Shim::of(&h.containerd, task.id()).unwrap();
    let mut request = containerd_shim_protos::api::ExecProcessRequest::new();
    request.id = "unknown".into();
    request.exec_id = "e".into();
    let mut process = containerd_shim_protos::protobuf::well_known_types::any::Any::new();
    process.type_url = "types.containerd.io/opencontainers/runtime-spec/1/Process".into();
    process.value = br#"{"args":["true"]}"#.to_vec();
    request.spec = Some(process).into();
    let error = RpcError::from(shim.tasks().exec(harness::shim::limit(), &request).unwrap_err());
    assert_eq!(error.code, Code::NotFound);
    request.id = task.id().into();
    request.spec.as_mut().unwrap().type_url = "something.else".into();
    let error = RpcError::from(shim.tasks().exec(harness::shim::limit(), &request).unwrap_err());
    assert_eq!(error.code, Code::InvalidArgument);
    drop(shim);
    task.end().unwrap();
}
