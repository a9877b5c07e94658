//! Stats and Update: what a container uses, and what it may.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use containerd_shim_protos::{
    api::{StatsRequest, UpdateTaskRequest},
    cgroups::metrics::Metrics,
    protobuf::{Message, well_known_types::any::Any},
};
use harness::{
    Code, ExecSpec, Harness, RpcError, Signal, Spec, Task, machine,
    rpc::poll,
    shim::{Shim, limit},
};

harness::on_curfew_alone![
    stats_grow_with_what_the_container_does_and_stay_until_delete,
    stats_of_a_pods_container_are_its_own,
    an_update_is_found_in_the_sandboxs_cgroup,
    an_update_that_makes_no_sense_is_refused_and_changes_nothing,
];

/// The figures of version 1, which is what the machine has.
fn figures(task: &Task) -> Metrics {
    let shim = Shim::of(task.containerd(), task.id()).unwrap();
    let request = StatsRequest { id: task.id().into(), ..StatsRequest::default() };
    let asked = Instant::now();
    let stats = shim.tasks().stats(limit(), &request).unwrap().stats.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(1));
    assert_eq!(stats.type_url, "io.containerd.cgroups.v1.Metrics");
    Metrics::parse_from_bytes(&stats.value).unwrap()
}

fn cpu(task: &Task) -> u64 {
    figures(task).cpu.usage.total
}

fn stats_grow_with_what_the_container_does_and_stay_until_delete(h: &Harness) {
    let task = h.start(Spec::new(["sh", "-c", "while true; do :; done"]));
    let before = cpu(&task);
    poll(Duration::from_secs(5), || (cpu(&task) > before + 200_000_000).then_some(())).unwrap();
    let running = figures(&task);
    assert!(running.memory.usage.usage > 1 << 20, "{running:?}");
    assert!(running.pids.current >= 2, "{running:?}");
    task.kill(Signal::SIGKILL).unwrap();
    task.wait().unwrap();
    assert!(cpu(&task) >= running.cpu.usage.total);
    task.delete().unwrap();
}

fn stats_of_a_pods_container_are_its_own(h: &Harness) {
    let pod = h.pod_with(Spec::new(["sh", "-c", "while true; do :; done"]).id("workload"));
    let before = cpu(&pod.workload);
    poll(Duration::from_secs(5), || (cpu(&pod.workload) > before).then_some(())).unwrap();
    assert!(cpu(&pod.pause) > 0);
    pod.delete();
}

fn update(task: &Task, resources: &str) -> Result<(), RpcError> {
    let shim = Shim::of(task.containerd(), task.id())?;
    let resources = Any {
        type_url: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources".into(),
        value: resources.as_bytes().to_vec(),
        ..Any::default()
    };
    let request = UpdateTaskRequest {
        id: task.id().into(),
        resources: Some(resources).into(),
        ..UpdateTaskRequest::default()
    };
    shim.tasks().update(limit(), &request)?;
    Ok(())
}

fn file(h: &Harness, id: &str, controller: &str, name: &str) -> String {
    let roots = machine::cgroup_roots();
    let root: &PathBuf = roots.iter().find(|root| root.ends_with(controller)).unwrap();
    let path = root.join("curfew-test").join(h.containerd.namespace()).join(id).join(name);
    fs::read_to_string(path).unwrap().trim().to_owned()
}

fn an_update_is_found_in_the_sandboxs_cgroup(h: &Harness) {
    let task = h.start(Spec::sleeper().id("u"));
    update(&task, r#"{"memory":{"limit":536870912},"cpu":{"quota":50000,"period":100000,"shares":512}}"#)
        .unwrap();
    assert_eq!(file(h, "u", "memory", "memory.limit_in_bytes"), "536870912");
    assert_eq!(file(h, "u", "cpu", "cpu.cfs_quota_us"), "50000");
    assert_eq!(file(h, "u", "cpu", "cpu.shares"), "512");
    assert_eq!(figures(&task).memory.usage.limit, 536_870_912);
    // Never above the node's own limits, of which the host's count of processes is none.
    let before = file(h, "u", "pids", "pids.max");
    update(&task, r#"{"memory":{"limit":-1},"cpu":{"quota":-1},"pids":{"limit":3}}"#).unwrap();
    assert_eq!(file(h, "u", "memory", "memory.limit_in_bytes"), (2_u64 << 30).to_string());
    assert_eq!(file(h, "u", "cpu", "cpu.cfs_quota_us"), "200000");
    assert_eq!(file(h, "u", "pids", "pids.max"), before);
    let exec =
        task.exec(&ExecSpec::new(["sh", "-c", "sleep 1 & sleep 1 & sleep 1 & wait; echo forked"])).unwrap();
    exec.start().unwrap();
    exec.wait().unwrap();
    assert!(exec.stderr().contains("can't fork"), "{}", exec.stderr());
    exec.delete().unwrap();
    task.end().unwrap();
}

fn an_update_that_makes_no_sense_is_refused_and_changes_nothing(h: &Harness) {
    let task = h.start(Spec::sleeper().id("u"));
    let before = file(h, "u", "cpu", "cpu.shares");
    for resources in [
        r#"{"memory":{"limit":-5}}"#,
        r#"{"memory":{"limit":1}}"#,
        r#"{"cpu":{"shares":1}}"#,
        r#"{"cpu":{"quota":5}}"#,
        r#"{"cpu":{"shares":512,"cpus":"0-"}}"#,
        r#"{"pids":{"limit":-7}}"#,
        r#"{"cpu":"#,
        "[]",
    ] {
        let error = update(&task, resources).unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument, "{resources}: {error}");
    }
    assert_eq!(file(h, "u", "cpu", "cpu.shares"), before);
    task.end().unwrap();
}
