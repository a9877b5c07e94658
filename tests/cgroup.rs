//! The sandbox's own cgroup, and nobody else's.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(clippy::disallowed_methods, reason = "a test's own files and programs")]

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command},
};

use harness::{Code, Harness, Spec, cgroup, machine, proc};
use serde_json::json;

harness::on_curfew_alone![
    the_sandbox_and_its_gofer_are_in_the_containers_own_cgroup,
    a_spec_without_a_cgroup_gets_one_that_goes_with_it,
    a_cgroup_with_members_is_refused_for_any_container_of_a_pod,
    a_cgroup_path_that_is_none_is_refused,
    containerds_own_cgroup_survives_a_delete,
];

fn path_of(h: &Harness, id: &str) -> PathBuf {
    cgroup::path(h.containerd.namespace(), id)
}

fn the_sandbox_and_its_gofer_are_in_the_containers_own_cgroup(h: &Harness) {
    let task = h.start(Spec::sleeper().id("a"));
    let all = proc::of_test(h.containerd.namespace(), h.containerd.pid());
    let ours: Vec<_> = all.iter().filter(|p| p.command.starts_with("runsc-")).collect();
    assert!(ours.len() >= 2, "{ours:#?}");
    for process in ours {
        let memory =
            process.cgroups.lines().find(|line| line.contains(":memory:") || line.starts_with("0::"));
        assert!(memory.unwrap().ends_with(&*path_of(h, "a").to_string_lossy()), "{process:#?}");
    }
    task.end().unwrap();
}

fn a_spec_without_a_cgroup_gets_one_that_goes_with_it(h: &Harness) {
    let task = h.start(Spec::sleeper().edit(|spec| spec["linux"]["cgroupsPath"] = json!("")));
    let all = proc::of_test(h.containerd.namespace(), h.containerd.pid());
    let sandbox = all.iter().find(|p| p.command.starts_with("runsc-sandbox")).unwrap();
    assert!(sandbox.cgroups.contains(":/curfew/"), "{sandbox:#?}");
    task.end().unwrap();
}

/// A process of nobody's that sits in a cgroup, and the cgroup.
struct Canary {
    process: Child,
    cgroups: Vec<PathBuf>,
}

impl Canary {
    fn new(cgroups: Vec<PathBuf>) -> Self {
        let process = Command::new("sleep").arg("1000").spawn().unwrap();
        for cgroup in &cgroups {
            fs::create_dir_all(cgroup).unwrap();
            fs::write(cgroup.join("cgroup.procs"), process.id().to_string()).unwrap();
        }
        Self { process, cgroups }
    }

    fn is_alive(&self) -> bool {
        proc::Process::read(self.process.id().cast_signed()).is_some_and(|p| !p.is_zombie())
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        for cgroup in &self.cgroups {
            let removed =
                harness::rpc::poll(std::time::Duration::from_secs(2), || fs::remove_dir(cgroup).ok());
            assert!(removed.is_some() || std::thread::panicking(), "cannot remove {}", cgroup.display());
        }
    }
}

fn freezer(path: &str) -> PathBuf {
    let roots = machine::cgroup_roots();
    let root = roots.iter().find(|root| root.ends_with("freezer")).or(roots.first()).unwrap();
    root.join(path.trim_start_matches('/'))
}

fn a_cgroup_with_members_is_refused_for_any_container_of_a_pod(h: &Harness) {
    let path = format!("/curfew-test/{}/canary", h.containerd.namespace());
    let canary = Canary::new(vec![freezer(&path)]);
    let taken = |spec: &mut serde_json::Value| spec["linux"]["cgroupsPath"] = json!(path);
    let error = h.try_create(Spec::sleeper().edit(taken)).unwrap_err();
    assert_eq!(error.code, Code::FailedPrecondition, "{error}");
    let pause = h.start(Spec::sleeper().sandbox("pause"));
    let error = h.try_create(Spec::sleeper().container_of("pause", pause.pid()).edit(taken)).unwrap_err();
    assert_eq!(error.code, Code::FailedPrecondition, "{error}");
    assert!(canary.is_alive());
    pause.end().unwrap();
}

fn a_cgroup_path_that_is_none_is_refused(h: &Harness) {
    let refused = |path: &str| {
        let with_path = Spec::sleeper().edit(|spec| spec["linux"]["cgroupsPath"] = json!(path));
        let error = h.try_create(with_path).unwrap_err();
        assert!(error.message.contains("cgroupsPath"), "{error}");
        error
    };
    for path in [
        "/",
        "relative/path",
        "/a/../..",
        "a:b",
        "slice:prefix:name",
        "a.slice:b:c:d",
        "a.slice::c",
        "a.slice:../b:c",
    ] {
        let error = refused(path);
        assert_eq!(error.code, Code::InvalidArgument, "{path}: {error}");
    }
    if !cgroup::is_by_systemd() {
        let error = refused("a.slice:b:c");
        assert_eq!(error.code, Code::FailedPrecondition, "{error}");
        assert!(error.message.contains("systemd"), "{error}");
    }
}

/// In a hierarchy that runsc leaves alone, a sandbox stays in the cgroup of whoever started it.
fn containerds_own_cgroup_survives_a_delete(h: &Harness) {
    let path = format!("curfew-test-{}", h.containerd.namespace());
    let cgroups: Vec<PathBuf> = machine::cgroup_roots().iter().map(|root| root.join(&path)).collect();
    // cpuset takes nobody before it has its CPUs and memory nodes.
    let cgroups: Vec<PathBuf> =
        cgroups.into_iter().filter(|cgroup| !cgroup.starts_with("/sys/fs/cgroup/cpuset")).collect();
    let canary = Canary::new(cgroups.clone());
    let containerd = h.containerd.pid().unwrap();
    for cgroup in &cgroups {
        fs::write(cgroup.join("cgroup.procs"), containerd.to_string()).unwrap();
    }
    let output = h.run(Spec::new(["echo", "alive"]));
    assert_eq!(output.stdout, "alive\n");
    let task = h.start(Spec::sleeper().annotation("curfew.dev/timeout", "500ms"));
    assert_eq!(task.wait().unwrap().status, 124);
    task.delete().unwrap();
    assert!(canary.is_alive());
    assert_eq!(h.containerd.pid(), Some(containerd));
    assert!(proc::Process::read(containerd).is_some_and(|p| p.is_alive()));
    for cgroup in &cgroups {
        let root = cgroup.parent().unwrap();
        fs::write(root.join("cgroup.procs"), containerd.to_string()).unwrap();
    }
    // The shims' own: they end by themselves.
    let shims_gone = || proc::of_test(h.containerd.namespace(), Some(containerd)).len() <= 1;
    harness::rpc::poll(std::time::Duration::from_secs(5), || shims_gone().then_some(())).unwrap();
}
