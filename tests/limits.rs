//! Limits of a container and of a pod, where the kernel keeps them: in the cgroup that the sandbox is in, and above it.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(clippy::disallowed_methods, reason = "a pod's cgroup, which a test makes as kubelet does")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use harness::{Harness, Spec, Task, cgroup, machine, proc};
use serde_json::{Value, json};

harness::on_curfew_alone![
    limits_of_a_container_are_in_the_cgroup_that_its_sandbox_is_in,
    limits_of_a_pod_hold_for_the_cgroup_that_its_sandbox_is_in,
];

const MEMORY: u64 = 128 << 20;
/// In microseconds of [`PERIOD`]: half a CPU.
const QUOTA: u64 = 50_000;
const PERIOD: u64 = 100_000;

/// The directory of process `pid`'s cgroup, in the hierarchy that has the controller with this file.
fn directory(pid: u32, [v1, v2]: [&str; 2]) -> PathBuf {
    let file = if cgroup::is_v2() { v2 } else { v1 };
    cgroup::of_process(pid, file).unwrap_or_else(|| panic!("process {pid} is in no cgroup with {file}"))
}

fn memory_directory(pid: u32) -> PathBuf {
    directory(pid, ["memory.limit_in_bytes", "memory.max"])
}

fn cpu_directory(pid: u32) -> PathBuf {
    directory(pid, ["cpu.cfs_quota_us", "cpu.max"])
}

fn read(directory: &Path, file: &str) -> Option<String> {
    fs::read_to_string(directory.join(file)).ok().map(|text| text.trim().to_owned())
}

/// A cgroup's own limit in bytes; `None` where there is none.
fn memory(directory: &Path) -> Option<u64> {
    let text = read(directory, "memory.max").or_else(|| read(directory, "memory.limit_in_bytes"))?;
    text.parse().ok().filter(|limit| *limit < 1 << 62)
}

/// A cgroup's own quota in thousandths of a CPU; `None` where there is none.
fn cpu(directory: &Path) -> Option<u64> {
    let v1 = || {
        Some(format!("{} {}", read(directory, "cpu.cfs_quota_us")?, read(directory, "cpu.cfs_period_us")?))
    };
    let text = read(directory, "cpu.max").or_else(v1)?;
    let (quota, period) = text.split_once(' ')?;
    Some(quota.parse::<u64>().ok()? * 1000 / period.parse::<u64>().ok()?)
}

/// The least of the limits that a cgroup and those above it have.
fn effective(directory: &Path, limit: impl Fn(&Path) -> Option<u64>) -> Option<u64> {
    directory.ancestors().filter_map(limit).min()
}

/// The sandbox's process and the gofers are in `directory`, and in none of another test.
fn is_where_all_of_the_sandbox_is(
    h: &Harness,
    directory: impl Fn(u32) -> PathBuf,
    expected: &Path,
    gofers: usize,
) {
    let all = proc::of_test(h.containerd.namespace(), h.containerd.pid());
    let named = |name: &str| all.iter().filter(|p| p.command.starts_with(name)).collect::<Vec<_>>();
    assert_eq!((named("runsc-sandbox").len(), named("runsc-gofer").len()), (1, gofers), "{all:#?}");
    for process in named("runsc-") {
        assert_eq!(directory(process.pid.unsigned_abs()), expected, "{process:#?}");
    }
}

fn with_limits(spec: Spec) -> Spec {
    spec.memory(MEMORY)
        .edit(|json| json["linux"]["resources"]["cpu"] = json!({ "quota": QUOTA, "period": PERIOD }))
}

fn limits_of_a_container_are_in_the_cgroup_that_its_sandbox_is_in(h: &Harness) {
    let task = h.start(with_limits(Spec::sleeper().id("own")));
    let own = cgroup::path(h.containerd.namespace(), "own");
    let (memory_dir, cpu_dir) = (memory_directory(task.pid()), cpu_directory(task.pid()));
    assert!(memory_dir.ends_with(&own) && cpu_dir.ends_with(&own), "{memory_dir:?} {cpu_dir:?}");
    assert_eq!((memory(&memory_dir), cpu(&cpu_dir)), (Some(MEMORY), Some(500)));
    is_where_all_of_the_sandbox_is(h, memory_directory, &memory_dir, 1);
    is_where_all_of_the_sandbox_is(h, cpu_directory, &cpu_dir, 1);
    task.end().unwrap();
}

/// A pod's cgroup with its limits, as kubelet makes it before it asks for the pod's sandbox.
struct PodCgroup {
    /// The `cgroupsPath` of its containers, but for their ids.
    prefix: String,
    directories: Vec<PathBuf>,
}

impl PodCgroup {
    fn new(h: &Harness) -> Self {
        let namespace = h.containerd.namespace();
        if cgroup::is_by_systemd() {
            return Self::slice(namespace);
        }
        let path = format!("curfew-test/{namespace}/pod");
        let mut directories = Vec::new();
        for root in machine::cgroup_roots() {
            let directory = root.join(&path);
            // On version 2 a controller is there if all the way down says so.
            for parent in [root.clone(), root.join("curfew-test"), root.join("curfew-test").join(namespace)] {
                fs::create_dir_all(&parent).unwrap();
                if cgroup::is_v2() {
                    fs::write(parent.join("cgroup.subtree_control"), "+cpu +memory +pids").unwrap();
                }
            }
            fs::create_dir(&directory).unwrap();
            for (file, value) in [
                ("memory.limit_in_bytes", MEMORY.to_string()),
                ("memory.max", MEMORY.to_string()),
                ("cpu.cfs_period_us", PERIOD.to_string()),
                ("cpu.cfs_quota_us", QUOTA.to_string()),
                ("cpu.max", format!("{QUOTA} {PERIOD}")),
            ] {
                if directory.join(file).exists() {
                    fs::write(directory.join(file), value).unwrap();
                }
            }
            directories.push(directory);
        }
        Self { prefix: format!("/{path}/"), directories }
    }

    fn slice(namespace: &str) -> Self {
        let slice = format!("{namespace}-pod.slice");
        let systemctl =
            |words: &[&str]| assert!(Command::new("systemctl").args(words).status().unwrap().success());
        systemctl(&["start", &slice]);
        systemctl(&["set-property", "--runtime", &slice, "MemoryMax=128M", "CPUQuota=50%"]);
        Self { prefix: format!("{slice}:cri-containerd:"), directories: Vec::new() }
    }

    fn of(&self, spec: Spec, id: &str) -> Spec {
        let path = format!("{}{id}", self.prefix);
        spec.id(id).edit(|json: &mut Value| json["linux"]["cgroupsPath"] = json!(path))
    }

    /// The last part of a container's cgroup.
    fn last_part(id: &str) -> String {
        if cgroup::is_by_systemd() { format!("cri-containerd-{id}.scope") } else { id.to_owned() }
    }
}

impl Drop for PodCgroup {
    fn drop(&mut self) {
        for directory in &self.directories {
            let removed = fs::remove_dir(directory);
            assert!(removed.is_ok() || std::thread::panicking(), "{}: {removed:?}", directory.display());
        }
        if self.directories.is_empty() {
            let slice = self.prefix.split(':').next().unwrap();
            let stopped = Command::new("systemctl").args(["stop", slice]).status();
            assert!(stopped.is_ok_and(|status| status.success()) || std::thread::panicking());
        }
    }
}

fn limits_of_a_pod_hold_for_the_cgroup_that_its_sandbox_is_in(h: &Harness) {
    let pod = PodCgroup::new(h);
    let pause: Task = h.start(pod.of(Spec::sleeper().sandbox("pause"), "pause"));
    let workload = pod.of(Spec::sleeper().container_of("pause", pause.pid()), "workload");
    let workload = h.start(workload);
    let (memory_dir, cpu_dir) = (memory_directory(pause.pid()), cpu_directory(pause.pid()));
    for directory in [&memory_dir, &cpu_dir] {
        assert!(directory.ends_with(PodCgroup::last_part("pause")), "{}", directory.display());
    }
    // The pod's, and a node's ceiling or nothing in the sandbox's own.
    assert_eq!(
        (memory(memory_dir.parent().unwrap()), cpu(cpu_dir.parent().unwrap())),
        (Some(MEMORY), Some(500))
    );
    assert_eq!((effective(&memory_dir, memory), effective(&cpu_dir, cpu)), (Some(MEMORY), Some(500)));
    is_where_all_of_the_sandbox_is(h, memory_directory, &memory_dir, 2);
    is_where_all_of_the_sandbox_is(h, cpu_directory, &cpu_dir, 2);
    for task in [workload, pause] {
        task.end().unwrap();
    }
}
