//! A pod that is started before anybody needs it, and gets its deadline when somebody claims it.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::{
    fs,
    time::{Duration, Instant},
};

use harness::{Code, Harness, Options, Runtime, Spec, Status, Task, rpc::poll, volume::Volume, with_options};
use serde_json::Value;

const UID: &str = "0f5c2c7e-1111-4222-8333-94f5d8c1a005";
const PATIENCE: Duration = Duration::from_secs(20);
const SECOND: Duration = Duration::from_secs(1);

fn with_max(max: &str, test: impl FnOnce(&Harness, &Volume)) {
    let class = format!("[timeout]\nmax = \"{max}\"\ngrace = \"0s\"\n");
    let node = "version = 1\n[pod]\nhost_path = \"allow\"\n".into();
    with_options(Runtime::Curfew, Options { class, node, ..Options::default() }, |h| {
        test(h, &Volume::make(h.containerd.dir(), UID, "deadline").unwrap());
    });
}

fn pause(id: &str) -> Spec {
    let pause = Spec::sleeper().sandbox(id).annotation("io.kubernetes.cri.sandbox-uid", UID);
    pause.annotation("curfew.dev/deadline-file", "/etc/podinfo/deadline")
}

fn workload(volume: &Volume, id: &str, pause: &Task) -> Spec {
    let workload = Spec::sleeper().id(id).bind(volume.dir(), "/etc/podinfo", &["rbind", "ro"]);
    workload.container_of(pause.id(), pause.pid())
}

fn shown(h: &Harness) -> (String, f64, f64) {
    // It may complain of an entry that was spoilt on purpose.
    let shown = h.curfewctl(&["show", UID, "-o", "json"]).stdout;
    let shown: Value = serde_json::from_slice(&shown).unwrap();
    let seconds = |key: &str| shown[key].as_f64().unwrap();
    (shown["state"].as_str().unwrap().to_owned(), seconds("limit_seconds"), seconds("left_seconds"))
}

/// Waits for the end of both, which must come so long after `since`, or somewhat later.
#[track_caller]
fn ends(tasks: [Task; 2], since: Instant, after: Duration) {
    for task in tasks {
        assert_eq!(task.wait_for(PATIENCE).unwrap().status, 124, "{}", task.id());
        task.delete().unwrap();
    }
    let took = since.elapsed();
    assert!(took + SECOND / 2 > after && took < after + SECOND * 2, "{took:?} instead of {after:?}");
}

#[test]
fn a_pod_that_waits_for_its_claim_is_not_idle_and_one_that_has_it_may_be() {
    with_max("1h", |h, volume| {
        let pause = h.start(pause("pause").annotation("curfew.dev/idle-timeout", "2s"));
        let task = h.start(workload(volume, "warm", &pause));
        std::thread::sleep(5 * SECOND);
        assert_eq!(task.state().unwrap().status, Status::Running);
        volume.update("10m").unwrap();
        ends([task, pause], Instant::now(), 2 * SECOND);
        let refused =
            h.try_create(Spec::sleeper().sandbox("again").annotation("io.kubernetes.cri.sandbox-uid", UID));
        let refused = refused.unwrap_err();
        assert!(
            refused.message.contains("IdleTimeout") && refused.code == Code::FailedPrecondition,
            "{refused}"
        );
    });
}

#[test]
fn another_attempt_at_a_pod_that_waits_waits_for_what_is_left() {
    with_max("9s", |h, volume| {
        let first = h.start(pause("first"));
        h.start(workload(volume, "one", &first)).end().unwrap();
        std::thread::sleep(3 * SECOND);
        first.end().unwrap();
        let second = h.start(pause("second"));
        let task = h.start(workload(volume, "two", &second));
        let (state, limit, left) = shown(h);
        assert!(state == "waiting" && limit == 9.0 && left < 6.0, "{state} {limit} {left}");
        // And has all of its own from the claim on.
        std::thread::sleep(2 * SECOND);
        volume.update("8s").unwrap();
        ends([task, second], Instant::now(), 8 * SECOND);
    });
}

#[test]
fn what_the_file_says_between_create_and_start_counts_from_the_start() {
    with_max("1h", |h, volume| {
        let pause = h.start(pause("pause"));
        let task = h.create(workload(volume, "warm", &pause));
        volume.update("3s").unwrap();
        std::thread::sleep(2 * SECOND);
        task.start().unwrap();
        assert_eq!(shown(h).0, "running");
        ends([task, pause], Instant::now(), 3 * SECOND);
    });
}

#[test]
fn a_moment_that_has_passed_ends_a_pod_as_it_starts() {
    with_max("1h", |h, volume| {
        volume.update("2020-01-02T03:04:05Z").unwrap();
        let pause = h.start(pause("pause"));
        let task = h.create(workload(volume, "warm", &pause));
        // Whether or not that is seen to start.
        let _ = task.start();
        ends([task, pause], Instant::now(), Duration::ZERO);
    });
}

#[test]
fn a_claim_counts_once_it_can_be_written_down_and_not_before() {
    with_max("1h", |h, volume| {
        let pause = h.start(pause("pause"));
        let task = h.start(workload(volume, "warm", &pause));
        let entry = h.containerd.dir().join("ledger").join(UID).with_extension("json");
        let aside = entry.with_extension("aside");
        fs::rename(&entry, &aside).unwrap();
        fs::create_dir(&entry).unwrap();
        volume.update("30m").unwrap();
        let says = |words: &str| h.containerd.log().contains(words).then_some(());
        assert!(poll(PATIENCE, || says("cannot do as the deadline file says")).is_some());
        assert_eq!(shown(h).0, "waiting");
        fs::remove_dir(&entry).unwrap();
        fs::rename(&aside, &entry).unwrap();
        // The file is read again, without a change.
        assert!(poll(PATIENCE, || (shown(h).0 == "running").then_some(())).is_some(), "{:?}", shown(h));
        task.end().unwrap();
        pause.end().unwrap();
    });
}
