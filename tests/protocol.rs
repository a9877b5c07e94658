//! Version 3 of the task service, which a class may ask for: containerd 2.0 and later start no shim for a container of
//! a pod, and 1.7 refuses it.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::fs;
use std::time::Duration;

use harness::{Code, Harness, Runtime, Signal, Spec, Status, Task, proc::Process, rpc::poll, shim::Shim};

harness::with_protocol_3![
    a_plain_container_runs_to_its_end,
    a_pod_s_containers_come_and_go_with_one_start_of_the_shim,
    a_pod_outlives_a_crash_of_containerd,
    an_exit_while_containerd_is_down_is_not_lost,
    events_come_in_order_and_once,
    a_killed_shim_takes_its_pod_of_two_with_it,
];

mod v1_7 {
    #[test]
    fn version_3_is_refused_in_clear_words_and_leaves_nothing() {
        let class = "[protocol]\nversion = 3\n";
        let rule = super::version_3_is_refused_in_clear_words_and_leaves_nothing;
        harness::with_version(super::Runtime::Curfew, "CONTAINERD_1_7_VERSION", class, rule);
    }
}

const LIMIT: Duration = Duration::from_secs(5);
/// How long a shim may last that no containerd knows of.
const SHIM_WITHOUT_TASKS: Duration = Duration::from_secs(15);

fn killed(task: &Task) {
    task.kill(Signal::SIGKILL).unwrap();
    assert_eq!(task.wait().unwrap().status, 137);
    task.delete().unwrap();
}

fn workload(script: &str, pause: &Task) -> Spec {
    Spec::new(["sh", "-c", script]).container_of("pause", pause.pid())
}

/// The version in containerd's own note of the shim.
fn noted_version(h: &Harness, id: &str) -> String {
    let noted = fs::read_to_string(h.containerd.bundle(id).join("bootstrap.json")).unwrap();
    noted.replace(' ', "")
}

fn a_plain_container_runs_to_its_end(h: &Harness) {
    let task = h.start(Spec::new(["sh", "-c", "echo hello; exit 3"]));
    assert!(noted_version(h, task.id()).contains("\"version\":3"), "{}", noted_version(h, task.id()));
    let exit = task.wait().unwrap();
    assert_eq!(exit.status, 3);
    assert_eq!(task.stdout(), "hello\n");
    assert_eq!(task.delete().unwrap(), exit);
}

fn a_pod_s_containers_come_and_go_with_one_start_of_the_shim(h: &Harness) {
    let pause = h.start(Spec::sleeper().sandbox("pause"));
    for code in [5, 6] {
        let task = h.start(workload(&format!("echo in the pod; exit {code}"), &pause));
        // containerd's note that it started nothing for this one.
        let of = fs::read_to_string(h.containerd.bundle(task.id()).join("sandbox")).unwrap();
        assert_eq!(of, "pause");
        let exit = task.wait().unwrap();
        assert_eq!(exit.status, code);
        assert!(exit.at.is_some());
        assert_eq!(task.stdout(), "in the pod\n");
        assert_eq!(task.delete().unwrap(), exit);
        assert_eq!(pause.state().unwrap().status, Status::Running);
    }
    killed(&pause);
}

fn a_pod_outlives_a_crash_of_containerd(h: &Harness) {
    let pod = h.pod_of_two();
    h.containerd.kill9();
    h.containerd.restart();
    for task in [&pod.workload, &pod.pause] {
        assert_eq!(task.state().unwrap().status, Status::Running);
    }
    let another = h.start(workload("exit 4", &pod.pause));
    assert_eq!(another.wait().unwrap().status, 4);
    another.delete().unwrap();
    killed(&pod.workload);
    killed(&pod.pause);
}

fn an_exit_while_containerd_is_down_is_not_lost(h: &Harness) {
    let pause = h.start(Spec::sleeper().sandbox("pause"));
    let task = h.start(workload("sleep 0.3; exit 11", &pause));
    h.containerd.kill9();
    assert!(task.stdout_is_closed(LIMIT));
    h.containerd.restart();
    let exit = task.wait_for(LIMIT).unwrap();
    assert_eq!(exit.status, 11);
    assert!(exit.at.is_some());
    assert_eq!(task.delete().unwrap(), exit);
    killed(&pause);
}

fn events_come_in_order_and_once(h: &Harness) {
    let events = h.events();
    let pause = h.start(Spec::sleeper().sandbox("pause"));
    let task = h.start(workload("exit 5", &pause).id("workload"));
    let exit = task.wait().unwrap();
    task.delete().unwrap();
    killed(&pause);
    let all = events.wait_for(8);
    let in_order = ["create", "start", "exit", "delete"];
    for id in ["pause", "workload"] {
        assert_eq!(events.topics_of(id), in_order);
    }
    let exited = all.iter().find(|e| e.topic == "/tasks/exit" && e.container_id == "workload").unwrap();
    assert_eq!((exited.status, exited.exited_at), (5, exit.at));
}

fn a_killed_shim_takes_its_pod_of_two_with_it(h: &Harness) {
    let pod = h.pod_of_two();
    let pid = Shim::of(&h.containerd, "pause").unwrap().pid("pause").unwrap();
    Process::read(pid.cast_signed()).unwrap().signal(Signal::SIGKILL);
    // containerd calls `delete` for the sandbox's id alone.
    h.nothing_runs_within(LIMIT);
    // It still has the other one on its list, and forgets it when it is asked to delete it.
    let _ = pod.workload.delete_task();
    for task in [pod.workload, pod.pause] {
        let forgotten = || task.state().is_err_and(|error| error.code == Code::NotFound);
        poll(LIMIT, || forgotten().then_some(())).unwrap();
        task.container().delete().unwrap();
    }
}

fn version_3_is_refused_in_clear_words_and_leaves_nothing(h: &Harness) {
    let error = h.try_create(Spec::sleeper()).unwrap_err();
    assert!(error.message.contains("unsupported shim version (3)"), "{error}");
    // containerd neither connects to the shim nor calls its `delete`.
    h.nothing_runs_within(SHIM_WITHOUT_TASKS);
}
