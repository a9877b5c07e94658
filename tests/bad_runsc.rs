//! A runsc that isn't one, is too old, or hangs: each is named, and nothing is left behind.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(clippy::disallowed_methods, reason = "a test's own files")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use containerd_shim_protos::api::StateRequest;
use harness::{
    Code, Harness, Options, Runtime, Spec,
    shim::{Shim, limit},
    with_options,
};

const LIMIT: Duration = Duration::from_secs(10);
/// containerd gives State so long.
const STATE_LIMIT: Duration = Duration::from_secs(2);

/// Runs `check` with a runsc that is this shell script.
fn with_runsc(script: &str, calls: &str, check: impl FnOnce(&Harness)) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("runsc");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let class = format!("[runsc]\npath = {path:?}\n[calls]\n{calls}");
    with_options(Runtime::Curfew, Options { class, ..Options::default() }, check);
}

#[track_caller]
fn assert_create_fails(h: &Harness, code: Code, words: &str) {
    let container = h.container(&Spec::sleeper().id("bad"));
    let error = container.create().unwrap_err();
    assert_eq!(error.code, code, "{error}");
    assert!(error.message.contains(words), "{words}: {error}");
    // containerd has shut the shim down by now; if it hasn't, the shim answers.
    if let Ok(shim) = Shim::of(&h.containerd, "bad") {
        let asked = Instant::now();
        let request = StateRequest { id: "bad".into(), ..StateRequest::default() };
        assert!(shim.tasks().state(limit(), &request).is_err());
        assert!(asked.elapsed() < STATE_LIMIT);
    }
    container.delete().unwrap();
}

#[test]
fn a_runsc_that_is_not_there_or_not_executable_is_named_in_one_line() {
    for path in ["/no/such/runsc", "/etc/passwd", "/etc"] {
        let class = format!("[runsc]\npath = {path:?}\n");
        with_options(Runtime::Curfew, Options { class, ..Options::default() }, |h| {
            let error = h.try_create(Spec::sleeper()).unwrap_err();
            assert!(error.message.contains(path), "{error}");
        });
    }
}

#[test]
fn a_runsc_that_ends_at_once_or_prints_rubbish_is_no_runsc() {
    with_runsc("exit 1", "", |h| assert_create_fails(h, Code::FailedPrecondition, "exit status: 1"));
    with_runsc("echo rubbish", "", |h| assert_create_fails(h, Code::FailedPrecondition, "rubbish"));
    let endless = "exec cat /dev/urandom";
    with_runsc(endless, "probe = \"1s\"\n", |h| {
        let error = h.try_create(Spec::sleeper()).unwrap_err();
        assert!([Code::FailedPrecondition, Code::DeadlineExceeded].contains(&error.code), "{error}");
    });
}

#[test]
fn a_runsc_below_the_minimum_is_refused_with_the_reason() {
    with_runsc("echo runsc version release-20240729.0", "", |h| {
        assert_create_fails(h, Code::FailedPrecondition, "20260817");
    });
}

#[test]
fn a_runsc_that_hangs_is_killed_at_its_limit() {
    with_runsc("exec sleep 1000", "probe = \"500ms\"\n", |h| {
        assert_create_fails(h, Code::DeadlineExceeded, "500ms");
    });
    let hangs_in_create =
        "case \"$*\" in --version) echo runsc version release-20260905.0;; *) exec sleep 1000;; esac";
    with_runsc(hangs_in_create, "create = \"500ms\"\n", |h| {
        assert_create_fails(h, Code::DeadlineExceeded, "500ms");
    });
}

#[test]
fn a_sandbox_that_a_hanging_create_has_made_goes_with_it() {
    let real = harness::version::runsc().display().to_string();
    let script = format!("{real} \"$@\" || exit\ncase \"$*\" in *create*) exec sleep 1000;; esac");
    with_runsc(&script, "create = \"3s\"\n", |h| assert_create_fails(h, Code::DeadlineExceeded, "3s"));
}

#[test]
fn state_answers_while_a_create_hangs() {
    let hangs = "case \"$*\" in --version) echo runsc version release-20260905.0;; *) exec sleep 1000;; esac";
    with_runsc(hangs, "create = \"4s\"\n", |h| {
        let container = h.container(&Spec::sleeper().id("slow"));
        let creating = {
            let container = container.clone();
            std::thread::spawn(move || container.create())
        };
        let shim = harness::rpc::poll(LIMIT, || Shim::of(&h.containerd, "slow").ok()).unwrap();
        let asked = Instant::now();
        let request = StateRequest { id: "slow".into(), ..StateRequest::default() };
        let seen = harness::rpc::poll(STATE_LIMIT, || shim.tasks().state(limit(), &request).ok());
        assert!(seen.is_some() && asked.elapsed() < STATE_LIMIT);
        drop(shim);
        assert_eq!(creating.join().unwrap().unwrap_err().code, Code::DeadlineExceeded);
        container.delete().unwrap();
    });
}
