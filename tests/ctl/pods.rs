//! Pods as Kubernetes would make them, and what is done to them.

use std::time::Duration;

use harness::{Harness, Options, Runtime, Spec, Task, proc, rpc::poll, shim::Shim, with_options};
use serde_json::Value;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const CLASS: &str = "[timeout]\nraise = true\nmax = \"10m\"\ngrace = \"0s\"\n";
pub(crate) const NEVER_ENDS: &str = "trap '' TERM; while true; do :; done";
pub(crate) const WAITS: &str = "while true; do sleep 1000; done";

/// A test on a node that gives long lives and no grace.
pub(crate) fn on_a_node(test: impl FnOnce(&Harness)) {
    with_options(Runtime::Curfew, Options { class: CLASS.into(), ..Options::default() }, test);
}

pub(crate) fn uid(number: u32) -> String {
    format!("{number}a5c2c7e-1111-4222-8333-94f5d8c1a00{number}")
}

/// A pod's sandbox: `number` makes its ids, `title` is `NAMESPACE/NAME`.
pub(crate) fn sandbox(number: u32, title: &str, annotations: &[(&str, &str)]) -> Spec {
    let (namespace, name) = title.split_once('/').unwrap();
    let pause = Spec::sleeper()
        .sandbox(&format!("{number}b0e4d91c"))
        .annotation("io.kubernetes.cri.sandbox-uid", &uid(number))
        .annotation("io.kubernetes.cri.sandbox-name", name)
        .annotation("io.kubernetes.cri.sandbox-namespace", namespace);
    annotations
        .iter()
        .fold(pause, |pause, (key, value)| pause.annotation(&format!("curfew.dev/{key}"), value))
}

/// A running pod.
pub(crate) fn pod(
    h: &Harness,
    number: u32,
    title: &str,
    script: &str,
    annotations: &[(&str, &str)],
) -> Vec<Task> {
    let pause = h.start(sandbox(number, title, annotations));
    let workload = Spec::new(["sh", "-c", script]).id(format!("work{number}"));
    let workload = h.start(workload.container_of(pause.id(), pause.pid()));
    vec![pause, workload]
}

/// Waits for all of a pod, the workload first, which ended with `status`.
#[track_caller]
pub(crate) fn ended(tasks: &[Task], status: u32) {
    for task in tasks.iter().rev() {
        assert_eq!(task.wait_for(PATIENCE).unwrap().status, status, "{}", task.id());
    }
}

pub(crate) fn delete(tasks: &[Task]) {
    for task in tasks.iter().rev() {
        task.delete().unwrap();
    }
}

pub(crate) fn end(tasks: &[Task]) {
    for task in tasks.iter().rev() {
        task.end().unwrap();
    }
}

pub(crate) fn shim_of(h: &Harness, task: &Task) -> proc::Process {
    let pid = Shim::of(&h.containerd, task.id()).unwrap().pid(task.id()).unwrap();
    proc::Process::read(pid.cast_signed()).unwrap()
}

/// After a shim that containerd has cleaned up after.
#[track_caller]
pub(crate) fn forgotten(h: &Harness, tasks: &[Task]) {
    for task in tasks.iter().rev() {
        let is_gone = || (task.state().is_err() && !h.containerd.bundle(task.id()).exists()).then_some(());
        assert!(poll(PATIENCE, is_gone).is_some(), "containerd still knows {}", task.id());
        task.container().delete().unwrap();
    }
}

#[track_caller]
pub(crate) fn one<'a>(list: &'a Value, title: &str) -> &'a Value {
    let is_it = |pod: &&Value| {
        title == format!("{}/{}", pod["namespace"].as_str().unwrap(), pod["name"].as_str().unwrap())
    };
    list.as_array().unwrap().iter().find(is_it).unwrap_or_else(|| panic!("{title}: {list:#}"))
}
