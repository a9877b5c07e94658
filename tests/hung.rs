//! A shim or a watchdog that is there and does nothing, and what is known of a container that ended before its shim.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::{os::unix::fs::MetadataExt, path::Path, time::Duration};

use harness::{
    Code, Harness, Pod, Signal, Spec, Status,
    proc::{Process, of_test},
    rpc::poll,
    shim::Shim,
};

harness::on_curfew_alone![
    a_shim_that_hangs_beyond_its_pods_time_is_ended_and_cleaned_up_after,
    a_watchdog_that_does_not_answer_is_replaced,
    a_container_that_ended_before_its_shim_keeps_its_exit,
    curfewctl_ends_a_pod_with_a_shim_that_does_not_answer,
    reap_ends_a_pod_that_has_lost_its_ledger_entry_and_no_other,
    a_watchdog_lets_go_of_a_sandbox_that_has_ended,
];

const PATIENCE: Duration = Duration::from_secs(20);

const UID: &str = "0f5c2c7e-1111-4222-8333-94f5d8c1a003";

fn pod(h: &Harness, timeout: &str) -> Pod {
    let pause = Spec::sleeper().sandbox("pause").annotation("curfew.dev/timeout", timeout);
    let pause = pause.annotation("io.kubernetes.cri.sandbox-uid", UID);
    let pause = h.start(pause.annotation("curfew.dev/grace", "0s"));
    let workload = h.start(Spec::sleeper().id("workload").container_of("pause", pause.pid()));
    Pod { pause, workload }
}

fn shim(h: &Harness) -> Process {
    Process::read(Shim::of(&h.containerd, "pause").unwrap().pid("pause").unwrap().cast_signed()).unwrap()
}

fn watchdogs(h: &Harness) -> Vec<Process> {
    let all = of_test(h.containerd.namespace(), h.containerd.pid());
    all.into_iter().filter(|process| process.command.ends_with(" watchdog")).collect()
}

fn is_forgotten(h: &Harness, pod: &Pod) {
    for task in [&pod.workload, &pod.pause] {
        let forgotten = || task.state().is_err_and(|error| error.code == Code::NotFound);
        assert!(poll(PATIENCE, || forgotten().then_some(())).is_some(), "{}", task.id());
        task.container().delete().unwrap();
    }
    h.nothing_runs_within(Duration::from_secs(5));
}

fn a_shim_that_hangs_beyond_its_pods_time_is_ended_and_cleaned_up_after(h: &Harness) {
    let events = h.events();
    let pod = pod(h, "1s");
    let shim = shim(h);
    shim.signal(Signal::SIGSTOP);
    assert!(poll(PATIENCE, || (!shim.is_alive()).then_some(())).is_some(), "the shim hangs on");
    let seen =
        events.wait_until("both exits", |all| all.iter().filter(|e| e.topic == "/tasks/exit").count() >= 2);
    let exits: Vec<_> = seen.iter().filter(|event| event.topic == "/tasks/exit").collect();
    assert!(exits.iter().all(|exit| exit.status == 124), "{exits:#?}");
    is_forgotten(h, &pod);
}

fn a_watchdog_that_does_not_answer_is_replaced(h: &Harness) {
    let pod = pod(h, "1h");
    let [stopped] = watchdogs(h).try_into().unwrap();
    stopped.signal(Signal::SIGSTOP);
    // Of whose gofer it is told.
    let shim = shim(h);
    let another = h.start(Spec::sleeper().id("another").container_of("pause", pod.pause.pid()));
    assert!(poll(PATIENCE, || (!stopped.is_alive()).then_some(())).is_some(), "nobody has noticed");
    let new = poll(PATIENCE, || watchdogs(h).into_iter().find(|found| found.pid != stopped.pid));
    let new = new.expect("another watchdog");
    // It knows what the one before did, with nobody else there to end anything.
    let sandbox = of_test(h.containerd.namespace(), h.containerd.pid());
    let sandbox: Vec<_> =
        sandbox.into_iter().filter(|process| process.command.starts_with("runsc-")).collect();
    assert!(sandbox.len() >= 3, "{sandbox:#?}");
    h.containerd.kill9();
    shim.signal(Signal::SIGKILL);
    let gone = poll(PATIENCE, || sandbox.iter().all(|process| !process.is_alive()).then_some(()));
    assert!(gone.is_some(), "{sandbox:#?}");
    assert!(poll(PATIENCE, || (!new.is_alive()).then_some(())).is_some(), "{new:#?}");
    h.containerd.restart();
    is_forgotten(h, &pod);
    another.container().delete().unwrap();
}

fn a_container_that_ended_before_its_shim_keeps_its_exit(h: &Harness) {
    let pod = pod(h, "1h");
    let short = h.start(Spec::new(["sh", "-c", "exit 7"]).id("short").container_of("pause", pod.pause.pid()));
    assert_eq!(short.wait_for(PATIENCE).unwrap().status, 7);
    let events = h.events();
    shim(h).signal(Signal::SIGKILL);
    let of = |id: &str, all: &[harness::Event]| {
        all.iter()
            .rfind(|event| event.topic == "/tasks/exit" && event.container_id == id)
            .map(|exit| exit.status)
    };
    let seen = events
        .wait_until("the exits", |all| ["pause", "workload", "short"].iter().all(|id| of(id, all).is_some()));
    assert_eq!(["pause", "workload", "short"].map(|id| of(id, &seen)), [Some(137), Some(137), Some(7)]);
    is_forgotten(h, &pod);
    short.container().delete().unwrap();
}

fn curfewctl_ends_a_pod_with_a_shim_that_does_not_answer(h: &Harness) {
    let pod = pod(h, "1h");
    let sockets = std::fs::read_dir(h.containerd.state_dir().join("s")).unwrap().flatten();
    let sockets: Vec<_> = sockets.map(|dir| dir.path().join("operator.sock")).collect();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert!(sockets.iter().all(|path| (mode(path), mode(path.parent().unwrap())) == (0o600, 0o700)));
    shim(h).signal(Signal::SIGSTOP);
    let said = h.ctl(&["kill", UID]);
    assert!(said.contains("is gone, with its shim"), "{said}");
    is_forgotten(h, &pod);
}

fn reap_ends_a_pod_that_has_lost_its_ledger_entry_and_no_other(h: &Harness) {
    let pod = pod(h, "1h");
    let entry = h.containerd.dir().join("ledger").join(UID).with_extension("json");
    assert!(entry.exists());
    // Longer than a pod may have none while it starts.
    std::thread::sleep(Duration::from_secs(16));
    assert_eq!(h.ctl(&["reap"]), "");
    std::fs::remove_file(entry).unwrap();
    let would = h.ctl(&["reap", "--dry-run"]);
    assert!(would.contains("would end sandbox") && would.contains("no ledger entry"), "{would}");
    assert!(shim(h).is_alive());
    let said = h.ctl(&["reap"]);
    assert!(said.contains("no ledger entry"), "{said}");
    is_forgotten(h, &pod);
}

fn a_watchdog_lets_go_of_a_sandbox_that_has_ended(h: &Harness) {
    let place = format!("/curfew-test/{}/reused", h.containerd.namespace());
    let there = |id: &str| {
        let spec = Spec::sleeper().id(id);
        spec.edit(|spec| spec["linux"]["cgroupsPath"] = place.as_str().into())
    };
    let watched = h.start(there("watched").annotation("curfew.dev/timeout", "2s"));
    watched.kill(Signal::SIGKILL).unwrap();
    assert_eq!(watched.wait_for(PATIENCE).unwrap().status, 137);
    // In the cgroup that it had, which its watchdog would kill at the end of its time.
    let other = h.start(there("other"));
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(other.state().unwrap().status, Status::Running);
    other.end().unwrap();
    watched.delete().unwrap();
}
