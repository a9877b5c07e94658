//! Stats and Update: what a container uses, and what it may.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::{
    fs,
    time::{Duration, Instant},
};

use containerd_shim_protos::{
    api::{StatsRequest, UpdateTaskRequest},
    cgroups::metrics::Metrics as V1,
    cgroups_v2::metrics::Metrics as V2,
    protobuf::{Message, well_known_types::any::Any},
};
use harness::{
    Code, ExecSpec, Harness, RpcError, Signal, Spec, Status, Task, cgroup,
    rpc::poll,
    shim::{Shim, limit},
};
use serde_json::json;

harness::on_curfew_alone![
    stats_grow_with_what_the_container_does_and_stay_until_delete,
    stats_of_a_pods_container_are_its_own,
    stats_tell_of_being_held_back_and_of_being_killed,
    an_update_is_found_in_the_sandboxs_cgroup,
    an_update_outlives_containerd,
    an_update_that_makes_no_sense_is_refused_and_changes_nothing,
];

/// What both versions' figures have.
#[derive(Debug)]
struct Figures {
    cpu_ns: u64,
    memory: u64,
    memory_limit: u64,
    pids: u64,
    throttled_periods: u64,
    oom_kills: u64,
}

fn figures(task: &Task) -> Figures {
    let shim = Shim::of(task.containerd(), task.id()).unwrap();
    let request = StatsRequest { id: task.id().into(), ..StatsRequest::default() };
    let asked = Instant::now();
    let stats = shim.tasks().stats(limit(), &request).unwrap().stats.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(1));
    if cgroup::is_v2() {
        assert_eq!(stats.type_url, "io.containerd.cgroups.v2.Metrics");
        let found = V2::parse_from_bytes(&stats.value).unwrap();
        return Figures {
            cpu_ns: found.cpu.usage_usec * 1000,
            memory: found.memory.usage,
            memory_limit: found.memory.usage_limit,
            pids: found.pids.current,
            throttled_periods: found.cpu.nr_throttled,
            oom_kills: found.memory_events.oom_kill,
        };
    }
    assert_eq!(stats.type_url, "io.containerd.cgroups.v1.Metrics");
    let found = V1::parse_from_bytes(&stats.value).unwrap();
    Figures {
        cpu_ns: found.cpu.usage.total,
        memory: found.memory.usage.usage,
        memory_limit: found.memory.usage.limit,
        pids: found.pids.current,
        throttled_periods: found.cpu.throttling.throttled_periods,
        oom_kills: found.memory_oom_control.oom_kill,
    }
}

fn cpu(task: &Task) -> u64 {
    figures(task).cpu_ns
}

fn stats_grow_with_what_the_container_does_and_stay_until_delete(h: &Harness) {
    let task = h.start(Spec::new(["sh", "-c", "while true; do :; done"]));
    let before = cpu(&task);
    poll(Duration::from_secs(5), || (cpu(&task) > before + 200_000_000).then_some(())).unwrap();
    let running = figures(&task);
    assert!(running.memory > 1 << 20, "{running:?}");
    assert!(running.pids >= 2, "{running:?}");
    task.kill(Signal::SIGKILL).unwrap();
    task.wait().unwrap();
    // Also where the cgroup is gone by now: systemd removes a scope once it is empty.
    assert!(cpu(&task) >= running.cpu_ns);
    task.delete().unwrap();
}

fn stats_of_a_pods_container_are_its_own(h: &Harness) {
    let pod = h.pod_with(Spec::new(["sh", "-c", "while true; do :; done"]).id("workload"));
    let before = cpu(&pod.workload);
    poll(Duration::from_secs(5), || (cpu(&pod.workload) > before).then_some(())).unwrap();
    assert!(cpu(&pod.pause) > 0);
    let quiet = Spec::sleeper().id("quiet").memory(64 << 20).container_of(pod.pause.id(), pod.pause.pid());
    let quiet = h.start(quiet);
    let running = cpu(&pod.workload);
    pod.workload.kill(Signal::SIGKILL).unwrap();
    pod.workload.wait().unwrap();
    assert!(cpu(&pod.workload) >= running);
    // And without anybody to ask.
    pod.pause.kill(Signal::SIGKILL).unwrap();
    pod.pause.wait().unwrap();
    assert!(cpu(&pod.workload) >= running);
    // Of a container that nobody had asked for too.
    quiet.wait().unwrap();
    let figures = figures(&quiet);
    assert_eq!((figures.memory_limit, figures.oom_kills), (64 << 20, 0), "{figures:?}");
    quiet.delete().unwrap();
    pod.delete();
}

fn stats_tell_of_being_held_back_and_of_being_killed(h: &Harness) {
    let slow = json!({ "cpu": { "quota": 20_000, "period": 100_000 } });
    let busy =
        Spec::new(["sh", "-c", "while true; do :; done"]).edit(|json| json["linux"]["resources"] = slow);
    let task = h.start(busy);
    poll(Duration::from_secs(10), || (figures(&task).throttled_periods > 0).then_some(())).unwrap();
    assert_eq!(figures(&task).oom_kills, 0);
    task.end().unwrap();

    let task = h.start(Spec::new(["dd", "if=/dev/zero", "of=/eaten", "bs=1M"]).memory(128 << 20));
    assert_eq!(task.wait_for(Duration::from_secs(90)).unwrap().status, 137);
    // With systemd the scope may be gone before it can be asked; the event still tells.
    if !cgroup::is_by_systemd() {
        assert!(figures(&task).oom_kills > 0);
    }
    task.delete().unwrap();

    // A pod's container, which the shim ends, or the kernel with its sandbox where it is faster.
    let pause = h.start(Spec::sleeper().sandbox("pause"));
    let eater = Spec::new(["sh", "-c", "dd if=/dev/zero of=/dev/shm/eaten bs=1M count=100; sleep 1000"]);
    let eater = h.start(eater.id("eater").memory(32 << 20).container_of("pause", pause.pid()));
    assert_eq!(eater.wait_for(Duration::from_secs(90)).unwrap().status, 137);
    let figures = figures(&eater);
    assert_eq!((figures.memory_limit, figures.oom_kills), (32 << 20, 1), "{figures:?}");
    eater.delete().unwrap();
    let _ = pause.kill(Signal::SIGKILL);
    pause.wait().unwrap();
    pause.delete().unwrap();
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

/// A file of the sandbox's cgroup, of which the first name is version 1's and the second version 2's.
fn file(task: &Task, [v1, v2]: [&str; 2]) -> String {
    let name = if cgroup::is_v2() { v2 } else { v1 };
    let directory = cgroup::of_process(task.pid(), name).unwrap_or_else(|| panic!("no {name}"));
    fs::read_to_string(directory.join(name)).unwrap().trim().to_owned()
}

const MEMORY: [&str; 2] = ["memory.limit_in_bytes", "memory.max"];
const QUOTA: [&str; 2] = ["cpu.cfs_quota_us", "cpu.max"];
const SHARES: [&str; 2] = ["cpu.shares", "cpu.weight"];
const PIDS: [&str; 2] = ["pids.max", "pids.max"];

/// A quota as the version writes it.
fn quota(us: u64) -> String {
    if cgroup::is_v2() { format!("{us} 100000") } else { us.to_string() }
}

fn cannot_have_four_processes(task: &Task) {
    let exec =
        task.exec(&ExecSpec::new(["sh", "-c", "sleep 1 & sleep 1 & sleep 1 & wait; echo forked"])).unwrap();
    exec.start().unwrap();
    exec.wait().unwrap();
    assert!(exec.stderr().contains("can't fork"), "{}", exec.stderr());
    exec.delete().unwrap();
}

fn an_update_is_found_in_the_sandboxs_cgroup(h: &Harness) {
    let task = h.start(Spec::sleeper().id("u"));
    update(&task, r#"{"memory":{"limit":536870912},"cpu":{"quota":50000,"period":100000,"shares":512}}"#)
        .unwrap();
    assert_eq!(file(&task, MEMORY), "536870912");
    assert_eq!(file(&task, QUOTA), quota(50_000));
    assert_eq!(file(&task, SHARES), if cgroup::is_v2() { "59" } else { "512" });
    assert_eq!(figures(&task).memory_limit, 536_870_912);
    // Never above the node's own limits, of which the host's count of processes is none.
    let before = file(&task, PIDS);
    update(&task, r#"{"memory":{"limit":-1},"cpu":{"quota":-1},"pids":{"limit":3}}"#).unwrap();
    assert_eq!(file(&task, MEMORY), (2_u64 << 30).to_string());
    assert_eq!(file(&task, QUOTA), quota(200_000));
    assert_eq!(file(&task, PIDS), before);
    cannot_have_four_processes(&task);
    task.end().unwrap();
}

fn an_update_outlives_containerd(h: &Harness) {
    let task = h.start(Spec::sleeper());
    update(&task, r#"{"memory":{"limit":268435456},"pids":{"limit":3}}"#).unwrap();
    h.containerd.kill9();
    h.containerd.restart();
    assert_eq!(task.state().unwrap().status, Status::Running);
    assert_eq!(file(&task, MEMORY), "268435456");
    assert_eq!(figures(&task).memory_limit, 268_435_456);
    cannot_have_four_processes(&task);
    task.end().unwrap();
}

fn an_update_that_makes_no_sense_is_refused_and_changes_nothing(h: &Harness) {
    let task = h.start(Spec::sleeper().id("u"));
    let before = file(&task, SHARES);
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
    assert_eq!(file(&task, SHARES), before);
    task.end().unwrap();
}
