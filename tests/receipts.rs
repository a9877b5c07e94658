//! What a pod leaves said of its end: receipts, and the sandbox's own breakdown.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(clippy::disallowed_methods, reason = "a pod's termination logs, as kubelet makes them")]

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

use harness::{Harness, Options, Pod, Runtime, Signal, Spec, Task, proc::Process, with_options};
use serde_json::Value;

const UID: &str = "0f5c2c7e-1111-4222-8333-94f5d8c1a003";
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the pods' directories of kubelet are the test's own, with these keys in the class.
#[track_caller]
fn with_kubelet(class: &str, test: impl FnOnce(&Harness)) {
    let node = "version = 1\n[pod]\nhost_path = \"allow\"\n".into();
    with_options(Runtime::Curfew, Options { node, class: class.into(), ..Options::default() }, test);
}

fn script(script: &str, log: &Path) -> Spec {
    Spec::new(["sh", "-c", script]).bind(log, "/dev/termination-log", &["rw"])
}

fn pause(h: &Harness) -> Task {
    h.start(Spec::sleeper().sandbox("pause").annotation("io.kubernetes.cri.sandbox-uid", UID))
}

#[track_caller]
fn message(log: &Path) -> Value {
    let line = fs::read_to_string(log).unwrap();
    assert_eq!(line.lines().count(), 1, "{line:?}");
    serde_json::from_str(&line).unwrap()
}

#[test]
fn a_class_that_asks_for_receipts_gets_one_at_every_end() {
    with_kubelet("[termination]\nreceipts = true\n", |h| {
        let pause = pause(h);
        for (name, words, status, reason) in [
            ("fine", "true", 0, "Completed"),
            ("wrong", "exit 3", 3, "Error"),
            ("killed", "sleep 1000", 137, "Error"),
        ] {
            let log = h.termination_log(UID, name);
            let task = h.start(script(words, &log).id(name).container_of("pause", pause.pid()));
            if status == 137 {
                task.kill(Signal::SIGKILL).unwrap();
            }
            assert_eq!(task.wait_for(PATIENCE).unwrap().status, status);
            let message = message(&log);
            assert_eq!((&message["reason"], &message["exit_code"]), (&reason.into(), &status.into()));
            assert!(message["elapsed"].is_string() && message["limit"].is_null(), "{message}");
            assert!(message["cpu_seconds"].as_f64().unwrap() > 0.0, "{message}");
            // The sentry alone has some.
            let has_peak = harness::cgroup::of_process(pause.pid(), "pids.peak").is_some();
            assert_eq!(message["pids_peak"].as_u64().is_some_and(|peak| peak > 5), has_peak, "{message}");
            task.delete().unwrap();
        }
        let log = h.termination_log(UID, "own");
        let spec = script("echo -n mine >/dev/termination-log", &log);
        let task = h.start(spec.id("own").container_of("pause", pause.pid()));
        task.wait_for(PATIENCE).unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), "mine");
        task.delete().unwrap();
        pause.end().unwrap();
    });
}

#[test]
fn without_receipts_a_container_that_ends_by_itself_says_nothing() {
    with_kubelet("", |h| {
        let log = h.termination_log(UID, "quiet");
        // The exit code of a sandbox that panics, and it is the workload's own.
        let task = h.start(script("echo panic: no >&2; exit 2", &log));
        assert_eq!(task.wait_for(PATIENCE).unwrap().status, 2);
        assert_eq!(fs::read_to_string(&log).unwrap(), "");
        assert_eq!(task.stderr(), "panic: no\n");
        task.delete().unwrap();
    });
}

/// A pod whose sandbox something happens to, and what its container ends with.
#[track_caller]
fn ended_by(h: &Harness, happens: impl FnOnce(&Process)) -> (u32, PathBuf, Pod) {
    let pause = pause(h);
    let log = h.termination_log(UID, "workload");
    let workload = h.start(script("sleep 1000", &log).id("workload").container_of("pause", pause.pid()));
    happens(&Process::read(pause.pid().cast_signed()).unwrap());
    // The sentry is asked for it.
    let _ = workload.metrics();
    let pod = Pod { pause, workload };
    (pod.workload.wait_for(PATIENCE).unwrap().status, log, pod)
}

/// Puts an instruction that is none where the sentry goes on once anybody connects to it.
fn break_down(process: &Process) {
    let dir = PathBuf::from(format!("/proc/{}", process.pid));
    let memory = fs::OpenOptions::new().write(true).open(dir.join("mem")).unwrap();
    for thread in fs::read_dir(dir.join("task")).unwrap().flatten() {
        let call = fs::read_to_string(thread.path().join("syscall")).unwrap_or_default();
        let words: Vec<&str> = call.split_whitespace().collect();
        // epoll_pwait and ppoll: by what else it waits, it also writes its trace.
        let waits = words.first().is_some_and(|number| matches!(*number, "281" | "271"));
        let next = words.last().filter(|_| waits).and_then(|pc| pc.strip_prefix("0x"));
        let Some(next) = next.and_then(|pc| u64::from_str_radix(pc, 16).ok()) else { continue };
        memory.write_all_at(&[0x0f, 0x0b], next).unwrap();
    }
}

#[test]
fn a_sandbox_that_breaks_down_says_how() {
    with_kubelet("", |h| {
        let (status, log, pod) = ended_by(h, break_down);
        assert_eq!(pod.pause.wait_for(PATIENCE).unwrap().status, status);
        let message = message(&log);
        assert_eq!((status, message["reason"].as_str()), (139, Some("SandboxCrashed")), "{message}");
        assert!(message["detail"].as_str().unwrap().starts_with("SIGILL: illegal instruction"), "{message}");
        // Nothing of it has gone to the workload's output.
        assert_eq!((pod.workload.stderr(), pod.pause.stderr()), (String::new(), String::new()));
        pod.delete();
    });
}

#[test]
fn a_sandbox_that_somebody_kills_has_not_broken_down() {
    with_kubelet("", |h| {
        let (status, log, pod) = ended_by(h, |sandbox| sandbox.signal(Signal::SIGKILL));
        assert_eq!(pod.pause.wait_for(PATIENCE).unwrap().status, 137);
        assert_eq!((status, fs::read_to_string(&log).unwrap().as_str()), (137, ""));
        pod.delete();
    });
}

#[test]
fn a_signal_to_the_sandbox_is_its_root_containers() {
    with_kubelet("", |h| {
        let (status, log, pod) = ended_by(h, |sandbox| sandbox.signal(Signal::SIGABRT));
        assert_eq!(pod.pause.wait_for(PATIENCE).unwrap().status, 134);
        assert_eq!((status, fs::read_to_string(&log).unwrap().as_str()), (137, ""));
        pod.delete();
    });
}
