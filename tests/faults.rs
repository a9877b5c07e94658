//! A runsc that fails in the middle of a container's life.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(clippy::disallowed_methods, reason = "a test's own files")]

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use harness::{Code, Harness, Options, Runtime, Signal, Spec, Status, version, with_options};

/// A directory with a runsc that does `extra` before it becomes the real one.
struct Runsc(tempfile::TempDir);

impl Runsc {
    fn new(extra: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let real = version::runsc().display().to_string();
        let script = format!("#!/bin/sh\nreal={real}\n{extra}\nexec $real \"$@\"\n");
        fs::write(dir.path().join("runsc"), script).unwrap();
        fs::set_permissions(dir.path().join("runsc"), fs::Permissions::from_mode(0o755)).unwrap();
        Self(dir)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("runsc")
    }

    fn with(&self, calls: &str, test: impl FnOnce(&Harness)) {
        let class = format!("[runsc]\npath = {:?}\n[calls]\n{calls}", self.path());
        with_options(Runtime::Curfew, Options { class, ..Options::default() }, test);
    }
}

const TICKING: &str = "while true; do echo tick; sleep 0.1; done";

#[test]
fn a_workload_whose_start_hangs_does_not_run_on() {
    let runsc = Runsc::new("case \"$*\" in *\"start workload\") $real \"$@\"; exec sleep 1000;; esac");
    runsc.with("start = \"2s\"\n", |h| {
        let pause = h.start(Spec::sleeper().sandbox("pause"));
        let workload =
            h.create(Spec::new(["sh", "-c", TICKING]).id("workload").container_of("pause", pause.pid()));
        assert_eq!(workload.start().unwrap_err().code, Code::DeadlineExceeded);
        assert!(workload.stdout_is_closed(Duration::from_secs(5)), "the workload still writes");
        assert_eq!(workload.wait().unwrap().status, 128);
        assert_eq!(pause.state().unwrap().status, Status::Running);
        workload.delete().unwrap();
        pause.kill(Signal::SIGKILL).unwrap();
        pause.wait().unwrap();
        pause.delete().unwrap();
    });
}

#[test]
fn a_plain_container_whose_start_hangs_does_not_run_on() {
    let runsc = Runsc::new("case \"$*\" in *\" start \"*) $real \"$@\"; exec sleep 1000;; esac");
    runsc.with("start = \"2s\"\n", |h| {
        let task = h.create(Spec::new(["sh", "-c", TICKING]));
        assert_eq!(task.start().unwrap_err().code, Code::DeadlineExceeded);
        assert!(task.stdout_is_closed(Duration::from_secs(5)), "it still writes");
        assert_eq!(task.wait().unwrap().status, 128);
        task.delete().unwrap();
    });
}

#[test]
fn a_kill_during_a_slow_start_ends_it_with_137() {
    let runsc = Runsc::new("case \"$*\" in *\" start \"*) sleep 1;; esac");
    runsc.with("", |h| {
        let task = h.create(Spec::sleeper().id("slow"));
        std::thread::scope(|scope| {
            let starting = scope.spawn(|| task.start());
            std::thread::sleep(Duration::from_millis(300));
            task.kill(Signal::SIGKILL).unwrap();
            // Whether the start came to something is runsc's to say.
            let _ = starting.join().unwrap();
        });
        assert_eq!(task.wait().unwrap().status, 137);
        task.delete().unwrap();
    });
}

#[test]
fn a_term_during_a_slow_start_is_delivered_after_it() {
    let runsc = Runsc::new("case \"$*\" in *\" start \"*) sleep 1;; esac");
    runsc.with("", |h| {
        let task = h.create(Spec::sleeper().id("slow"));
        std::thread::scope(|scope| {
            let starting = scope.spawn(|| task.start());
            std::thread::sleep(Duration::from_millis(300));
            task.kill(Signal::SIGTERM).unwrap();
            starting.join().unwrap().unwrap();
        });
        // gVisor delivers it to a pid 1 without a handler too.
        assert_eq!(task.wait().unwrap().status, 143);
        task.delete().unwrap();
    });
}

#[test]
fn a_start_that_fails_without_a_word_is_an_internal_error() {
    let runsc = Runsc::new("case \"$*\" in *\" start \"*) exit 7;; esac");
    runsc.with("", |h| {
        let task = h.create(Spec::sleeper());
        let error = task.start().unwrap_err();
        assert_eq!(error.code, Code::Internal, "{error}");
        assert_eq!(task.wait().unwrap().status, 128);
        task.delete().unwrap();
    });
}

#[test]
fn a_create_that_fails_after_it_made_the_sandbox_leaves_nothing() {
    let runsc = Runsc::new("case \"$*\" in *\" create \"*) $real \"$@\"; exit 7;; esac");
    runsc.with("", |h| {
        let error = h.try_create(Spec::sleeper()).unwrap_err();
        assert_eq!(error.code, Code::Internal, "{error}");
    });
}

#[test]
fn delete_does_not_depend_on_runsc() {
    let runsc = Runsc::new("");
    runsc.with("", |h| {
        let task = h.start(Spec::sleeper());
        task.kill(Signal::SIGKILL).unwrap();
        task.wait().unwrap();
        fs::remove_file(runsc.path()).unwrap();
        assert_eq!(task.delete().unwrap().status, 137);
    });
}

#[test]
fn delete_of_a_hanging_runsc_ends_at_its_limit() {
    let runsc = Runsc::new("case \"$*\" in *\" delete \"*) exec sleep 1000;; esac");
    runsc.with("delete = \"500ms\"\n", |h| {
        let task = h.start(Spec::sleeper());
        task.kill(Signal::SIGKILL).unwrap();
        task.wait().unwrap();
        task.delete().unwrap();
    });
}
