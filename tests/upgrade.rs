//! A new shim is installed while pods of the old one run: they go on, and the two understand each other.
//! `CURFEW_OLD_SHIM` names a binary to begin with; without it the new one is a copy of the old.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(clippy::disallowed_methods, reason = "an installer's steps, made by hand")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::{Harness, Signal, Spec, Status, Task, proc::Process, rpc::poll, shim::Shim, version};

harness::on_every_containerd! {
    curfew: [
        a_container_joins_a_pod_of_the_shim_before,
        a_pod_of_the_shim_before_outlives_a_crash_of_containerd,
        a_killed_shim_of_before_is_cleaned_up_by_the_new_one,
        a_pod_outlives_a_move_of_the_shim_to_another_directory,
        a_pod_keeps_its_protocol_when_its_class_gets_another,
    ]
}

const LIMIT: Duration = Duration::from_secs(5);

fn shim_of(h: &Harness, id: &str) -> Process {
    let pid = Shim::of(&h.containerd, id).unwrap().pid(id).unwrap();
    Process::read(pid.cast_signed()).unwrap()
}

fn program(shim: &Process) -> PathBuf {
    fs::read_link(format!("/proc/{}/exe", shim.pid)).unwrap()
}

fn say(h: &Harness, pause: &Task) {
    let output = h.run(Spec::new(["echo", "said"]).container_of("pause", pause.pid()));
    assert_eq!((output.exit.status, output.stdout.as_str()), (0, "said\n"));
}

fn killed(task: &Task) {
    task.kill(Signal::SIGKILL).unwrap();
    assert_eq!(task.wait().unwrap().status, 137);
    task.delete().unwrap();
}

/// A pod of two under the old shim, and then the new one installed.
fn upgraded(h: &Harness) -> harness::Pod {
    let installed = h.containerd.install_shim(&version::old_shim());
    let pod = h.pod_of_two();
    assert_eq!(program(&shim_of(h, "pause")), installed);
    h.containerd.install_shim(&version::shim());
    assert_ne!(program(&shim_of(h, "pause")), installed);
    pod
}

fn a_container_joins_a_pod_of_the_shim_before(h: &Harness) {
    let pod = upgraded(h);
    let (before, after) = (shim_of(h, "pause"), h.start(Spec::sleeper().id("after")));
    // Its `start` and, when it is gone, its `delete` are the new binary's.
    say(h, &pod.pause);
    assert_eq!(shim_of(h, "pause").pid, before.pid);
    assert_eq!(program(&shim_of(h, "after")), h.containerd.dir().join("bin/containerd-shim-curfew-v1"));
    killed(&pod.workload);
    assert_eq!(pod.pause.state().unwrap().status, Status::Running);
    killed(&pod.pause);
    killed(&after);
}

fn a_pod_of_the_shim_before_outlives_a_crash_of_containerd(h: &Harness) {
    let pod = upgraded(h);
    let before = shim_of(h, "pause");
    h.containerd.kill9();
    h.containerd.restart();
    assert_eq!(shim_of(h, "pause").pid, before.pid);
    say(h, &pod.pause);
    killed(&pod.workload);
    killed(&pod.pause);
}

fn a_killed_shim_of_before_is_cleaned_up_by_the_new_one(h: &Harness) {
    let pod = upgraded(h);
    shim_of(h, "pause").signal(Signal::SIGKILL);
    h.nothing_runs_within(LIMIT);
    for task in [pod.workload, pod.pause] {
        poll(LIMIT, || task.state().is_err().then_some(())).unwrap();
        task.container().delete().unwrap();
    }
}

fn a_pod_outlives_a_move_of_the_shim_to_another_directory(h: &Harness) {
    let at = |name: &str| h.containerd.dir().join(name);
    let install = |directory: &Path, shim: &Path| {
        fs::create_dir(directory).unwrap();
        fs::copy(shim, directory.join("containerd-shim-curfew-v1")).unwrap();
        // In one step, as an installer that keeps versions side by side does.
        symlink(directory, at("link")).unwrap();
        fs::rename(at("link"), at("bin")).unwrap();
    };
    fs::remove_dir(at("bin")).unwrap();
    install(&at("v1"), &version::old_shim());
    let pod = h.pod_of_two();
    install(&at("v2"), &version::shim());
    fs::remove_dir_all(at("v1")).unwrap();
    say(h, &pod.pause);
    h.containerd.kill9();
    h.containerd.restart();
    say(h, &pod.pause);
    killed(&pod.workload);
    shim_of(h, "pause").signal(Signal::SIGKILL);
    h.nothing_runs_within(LIMIT);
    poll(LIMIT, || pod.pause.state().is_err().then_some(())).unwrap();
    pod.pause.container().delete().unwrap();
}

fn a_pod_keeps_its_protocol_when_its_class_gets_another(h: &Harness) {
    let pause = h.start(Spec::sleeper().sandbox("pause"));
    let class = fs::read_to_string(h.containerd.class_file()).unwrap();
    fs::write(h.containerd.class_file(), class + "[protocol]\nversion = 3\n").unwrap();
    let workload = h.start(Spec::sleeper().container_of("pause", pause.pid()));
    assert_eq!(shim_of(h, workload.id()).pid, shim_of(h, "pause").pid);
    // containerd before 2.0 keeps no such note, and takes no version 3.
    if let Ok(noted) = fs::read_to_string(h.containerd.bundle(workload.id()).join("bootstrap.json")) {
        assert!(noted.replace(' ', "").contains("\"version\":2"), "{noted}");
    }
    killed(&workload);
    killed(&pause);
}
