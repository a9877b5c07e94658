//! The shim without containerd between: its binary's verbs, and calls that containerd would never make.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(clippy::disallowed_methods, reason = "a bundle's files are written as the test needs them")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use containerd_shim_protos::api::{
    CreateTaskRequest, DeleteRequest, DeleteResponse, KillRequest, ShutdownRequest, StateRequest, WaitRequest,
};
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::types::introspection::RuntimeInfo;
use harness::shim::{Shim, Verb, limit};
use harness::{Code, Harness, RpcError, Signal, Spec, Task, version};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(5);

harness::on_curfew_alone![
    version_is_one_line,
    info_answers_in_milliseconds_with_what_runsc_can_do,
    info_without_a_runsc_says_so_in_one_line,
    delete_of_what_is_not_there_succeeds_and_says_when,
    start_without_a_spec_fails_with_one_line,
    an_unknown_container_is_not_found,
    a_second_create_at_the_shim_itself_already_exists,
    ids_of_a_pod_that_runsc_would_confuse_are_refused,
    a_signal_that_does_not_exist_is_an_invalid_argument,
    the_shim_of_an_empty_pod_leaves,
    each_of_many_who_shut_an_empty_pod_down_is_answered,
];

fn bundle(h: &Harness, id: &str) -> PathBuf {
    let bundle = h.containerd.dir().join("temp").join(id);
    fs::create_dir_all(bundle.join("rootfs")).unwrap();
    bundle
}

fn version_is_one_line(h: &Harness) {
    for flag in ["-v", "-version"] {
        let said = Verb::new(h.containerd.dir(), [flag]).run(LIMIT).unwrap();
        assert!(said.status.unwrap().success());
        let text = String::from_utf8(said.stdout).unwrap();
        assert!(text.ends_with('\n') && text.lines().count() == 1, "{text:?}");
    }
}

fn info_answers_in_milliseconds_with_what_runsc_can_do(h: &Harness) {
    let runsc = version::runsc().parent().unwrap().display().to_string();
    let info = || Verb::new(h.containerd.dir(), ["-info"]);
    let said = info().env("PATH", &runsc).run(LIMIT).unwrap();
    assert!(said.status.unwrap().success(), "{}", String::from_utf8_lossy(&said.stderr));
    let features = features(&said.stdout);
    for (list, entry) in [
        ("/mountOptions", "ro"),
        ("/linux/namespaces", "pid"),
        ("/linux/capabilities", "CAP_NET_RAW"),
        ("/linux/seccomp/actions", "SCMP_ACT_ERRNO"),
    ] {
        let listed = features.pointer(list).and_then(Value::as_array).unwrap();
        assert!(listed.iter().any(|name| name == entry), "{list}: {listed:?}");
    }
    assert_eq!(features["ociVersionMin"], "1.0.0");
    let text = features.to_string();
    for not_ours in ["\"user\"", "idmap", "rro", "hooks", "dev.gvisor"] {
        assert!(!text.contains(not_ours), "{not_ours}");
    }
    assert!(said.took < Duration::from_millis(200), "-info took {:?}", said.took);
}

/// The features in `-info`'s answer.
fn features(answer: &[u8]) -> Value {
    let info = RuntimeInfo::parse_from_bytes(answer).unwrap();
    assert_eq!(info.name, "io.containerd.curfew.v1");
    serde_json::from_slice(&info.features.value).unwrap()
}

fn info_without_a_runsc_says_so_in_one_line(h: &Harness) {
    let said = Verb::new(h.containerd.dir(), ["-info"]).env("PATH", "/nonexistent").run(LIMIT).unwrap();
    assert_eq!(said.status.unwrap().code(), Some(1));
    let text = String::from_utf8([said.stdout, said.stderr].concat()).unwrap();
    assert!(text.lines().count() == 1 && text.contains("no runsc"), "{text:?}");
}

fn delete_of_what_is_not_there_succeeds_and_says_when(h: &Harness) {
    let bundle = bundle(h, "gone");
    let said = Verb::of(&h.containerd, "gone", &bundle, "delete").run(LIMIT).unwrap();
    assert!(said.status.unwrap().success(), "{}", String::from_utf8_lossy(&said.stderr));
    let answer = DeleteResponse::parse_from_bytes(&said.stdout).unwrap();
    assert!(answer.exited_at.seconds > 0);
}

fn start_without_a_spec_fails_with_one_line(h: &Harness) {
    let bundle = bundle(h, "none");
    let said = Verb::of(&h.containerd, "none", &bundle, "start").run(LIMIT).unwrap();
    assert!(!said.status.unwrap().success());
    // containerd shows both to the user, one after the other.
    let text = [said.stdout, said.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(text.lines().count(), 1, "{text:?}");
}

fn with_shim(h: &Harness, check: impl FnOnce(&Task, &Shim)) {
    let task = h.start(Spec::sleeper());
    let shim = Shim::of(&h.containerd, task.id()).unwrap();
    check(&task, &shim);
    drop(shim);
    task.kill(Signal::SIGKILL).unwrap();
    task.wait().unwrap();
    task.delete().unwrap();
}

fn an_unknown_container_is_not_found(h: &Harness) {
    with_shim(h, |_, shim| {
        let mut request = StateRequest::new();
        request.id = "unknown".into();
        let error = shim.tasks().state(limit(), &request).unwrap_err();
        assert_eq!(RpcError::from(error).code, Code::NotFound);
    });
}

fn a_second_create_at_the_shim_itself_already_exists(h: &Harness) {
    with_shim(h, |task, shim| {
        let mut request = CreateTaskRequest::new();
        request.id = task.id().into();
        request.bundle = h.containerd.bundle(task.id()).display().to_string();
        let error = shim.tasks().create(limit(), &request).unwrap_err();
        assert_eq!(RpcError::from(error).code, Code::AlreadyExists);
    });
}

fn a_signal_that_does_not_exist_is_an_invalid_argument(h: &Harness) {
    with_shim(h, |task, shim| {
        for signal in [0, 65, 1 << 20, u32::MAX] {
            let mut request = KillRequest::new();
            request.id = task.id().into();
            request.signal = signal;
            let error = shim.tasks().kill(limit(), &request).unwrap_err();
            assert_eq!(RpcError::from(error).code, Code::InvalidArgument, "signal {signal}");
        }
    });
}

fn ids_of_a_pod_that_runsc_would_confuse_are_refused(h: &Harness) {
    let pause = h.start(Spec::sleeper().sandbox("pause"));
    let of_pod = |id: &str| Spec::sleeper().id(id).container_of("pause", pause.pid());
    let long = h.start(of_pod("worker-10"));
    for id in ["worker-1", "worker-100", "paus", "pause-2"] {
        let error = h.try_create(of_pod(id)).unwrap_err();
        assert_eq!(error.code, Code::FailedPrecondition, "{id}: {error}");
        assert!(error.message.contains("begins with"), "{id}: {error}");
    }
    let other = h.start(of_pod("worker-2"));
    for task in [other, long, pause] {
        task.end().unwrap();
    }
}

/// Has the only task of a pod deleted behind the back of a containerd that has died. Returns the connection.
fn empty_pod(h: &Harness, task: &Task) -> Shim {
    let shim = Shim::of(&h.containerd, task.id()).unwrap();
    h.containerd.kill9();
    let id = || task.id().to_owned();
    let kill = KillRequest { id: id(), signal: 9, ..KillRequest::default() };
    shim.tasks().kill(limit(), &kill).unwrap();
    shim.tasks().wait(limit(), &WaitRequest { id: id(), ..WaitRequest::default() }).unwrap();
    shim.tasks().delete(limit(), &DeleteRequest { id: id(), ..DeleteRequest::default() }).unwrap();
    shim
}

/// Soon without anybody, and later with a connection that nobody uses: a containerd that was started while a pod was made
/// connects, gives that up, and may keep the connection.
fn the_shim_of_an_empty_pod_leaves(h: &Harness) {
    for (stays_connected, within) in [(false, 15), (true, 40)] {
        let task = h.start(Spec::sleeper().id(format!("empty-{stays_connected}")));
        let shim = Some(empty_pod(h, &task)).filter(|_| stays_connected);
        h.nothing_runs_within(Duration::from_secs(within));
        drop(shim);
        h.containerd.restart();
        task.container().delete().unwrap();
    }
}

/// As CRI does, which has a pod's sandbox and its last container cleaned up at the same time.
fn each_of_many_who_shut_an_empty_pod_down_is_answered(h: &Harness) {
    let task = h.start(Spec::sleeper());
    let shims: Vec<Shim> = (0..8).map(|_| Shim::of(&h.containerd, task.id()).unwrap()).collect();
    drop(empty_pod(h, &task));
    let request = ShutdownRequest { id: task.id().into(), now: true, ..ShutdownRequest::default() };
    let begin = std::sync::Barrier::new(shims.len());
    let sandboxes = h.containerd.state_dir().join("s");
    std::thread::scope(|scope| {
        for shim in shims {
            let (request, begin, sandboxes) = (&request, &begin, &sandboxes);
            scope.spawn(move || {
                begin.wait();
                let asked = std::time::Instant::now();
                let answer = shim.tasks().shutdown(limit(), request);
                assert!(asked.elapsed() < LIMIT);
                // It may be gone by then, which says the same.
                let refused = answer.err().filter(|error| matches!(error, ttrpc::Error::RpcStatus(_)));
                assert!(refused.is_none(), "{refused:?}");
                assert_eq!(std::fs::read_dir(sandboxes).map_or(0, Iterator::count), 0);
            });
        }
    });
    h.nothing_runs_within(LIMIT);
    h.containerd.restart();
    task.container().delete().unwrap();
}
