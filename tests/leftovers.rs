//! The leftover check itself: it passes on a clean machine and fails for each kind of thing left.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(clippy::disallowed_methods, reason = "these make exactly the mess that the check must see")]

use std::fs;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::leftovers::Snapshot;
use harness::{Harness, Runtime, Signal, Spec, machine};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// What the check says once `make` has made a mess; `tidy` then removes it again.
fn found_after<T>(make: impl FnOnce(&Harness) -> T, tidy: impl FnOnce(T)) -> String {
    let mut report = String::new();
    harness::with(Runtime::Runc, |h| {
        let before = Snapshot::take();
        before.assert_clean(&h.containerd);
        let mess = make(h);
        report = before.leftovers_now(&h.containerd);
        tidy(mess);
        before.assert_clean(&h.containerd);
    });
    report
}

/// Until a program that was just started has become what it is.
fn wait_for_program(command: &str) {
    let found = || harness::proc::all().into_iter().find(|process| process.command == command);
    harness::rpc::poll(Duration::from_secs(5), found).unwrap();
}

#[track_caller]
fn assert_says(report: &str, words: &[&str]) {
    for words in words {
        assert!(report.contains(words), "no {words:?} in: {report:?}");
    }
}

#[test]
fn a_child_is_found() {
    let report = found_after(
        |_| {
            let child = Command::new("sleep").arg("987000").spawn().unwrap();
            wait_for_program("sleep 987000");
            child
        },
        |mut child| {
            child.kill().unwrap();
            child.wait().unwrap();
        },
    );
    assert_says(&report, &["process", "sleep 987000"]);
}

#[test]
fn an_orphan_without_a_name_is_found_by_its_descent() {
    let report = found_after(
        |_| {
            let orphan = ["sh", "-c", "setsid sleep 987001 & exit 0"];
            Command::new("env").arg("-i").args(orphan).stdin(Stdio::null()).status().unwrap();
            wait_for_program("sleep 987001");
        },
        |()| {
            for process in harness::proc::of_test("no such test", None) {
                if process.command == "sleep 987001" {
                    process.signal(Signal::SIGKILL);
                }
            }
        },
    );
    assert_says(&report, &["process", "sleep 987001"]);
}

#[test]
fn a_zombie_is_found() {
    let report = found_after(
        |_| {
            let child = Command::new("true").spawn().unwrap();
            let pid = i32::try_from(child.id()).unwrap();
            let ended = || harness::proc::Process::read(pid).filter(|process| process.is_zombie());
            harness::rpc::poll(Duration::from_secs(5), ended).unwrap();
            child
        },
        |mut child| assert!(child.wait().unwrap().success()),
    );
    assert_says(&report, &["process", " Z)"]);
}

#[test]
fn a_mount_is_found() {
    let report = found_after(
        |h| {
            let point = h.containerd.dir().join("temp/mnt");
            fs::create_dir(&point).unwrap();
            mount(Some("none"), &point, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
            point
        },
        |point| umount2(&point, MntFlags::empty()).unwrap(),
    );
    assert_says(&report, &["mount tmpfs", "temp/mnt"]);
}

#[test]
fn a_network_namespace_held_by_a_mount_is_found() {
    let report = found_after(
        |h| {
            let point = h.containerd.dir().join("temp/net");
            fs::File::create(&point).unwrap();
            let from = Some("/proc/self/ns/net");
            mount(from, &point, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
            point
        },
        |point| umount2(&point, MntFlags::empty()).unwrap(),
    );
    assert_says(&report, &["namespace", "mount nsfs", "temp/net"]);
}

#[test]
fn a_cgroup_is_found_in_any_hierarchy() {
    let roots = machine::cgroup_roots();
    let report = found_after(
        |h| {
            let name = format!("left-by-{}", h.containerd.namespace());
            let cgroups: Vec<_> = roots.iter().map(|root| root.join(&name)).collect();
            cgroups.iter().for_each(|cgroup| fs::create_dir(cgroup).unwrap());
            cgroups
        },
        |cgroups| cgroups.iter().for_each(|cgroup| fs::remove_dir(cgroup).unwrap()),
    );
    for root in roots {
        assert_says(&report, &[&format!("cgroup {}/left-by-", root.display())]);
    }
}

#[test]
fn a_socket_is_found_bound_or_only_as_a_file() {
    let path = |h: &Harness| h.containerd.dir().join("s/left");
    let report = found_after(
        |h| (UnixListener::bind(path(h)).unwrap(), path(h)),
        |(_bound, path)| fs::remove_file(path).unwrap(),
    );
    assert_says(&report, &["socket", "s/left"]);
    let report = found_after(
        |h| {
            drop(UnixListener::bind(path(h)).unwrap());
            path(h)
        },
        |path| fs::remove_file(path).unwrap(),
    );
    assert_says(&report, &["socket", "s/left"]);
}

#[test]
fn a_file_in_the_state_directory_is_found_but_not_what_sandboxes_share() {
    let report = found_after(
        |h| {
            let state = h.containerd.state_dir();
            fs::create_dir_all(state.join("shared/null-netns")).unwrap();
            fs::create_dir_all(state.join("s/0123456789abcdef")).unwrap();
            fs::write(state.join("record"), "{}").unwrap();
            state
        },
        |state| {
            fs::remove_dir(state.join("s/0123456789abcdef")).unwrap();
            fs::remove_file(state.join("record")).unwrap();
        },
    );
    assert_says(&report, &["run/record", "run/s/0123456789abcdef"]);
    assert!(!report.contains("shared"), "{report}");
}

#[test]
fn a_task_a_container_and_a_snapshot_are_found() {
    let report = found_after(
        |h| h.start(Spec::sleeper().id("left")),
        |task| {
            task.kill(Signal::SIGKILL).unwrap();
            task.wait().unwrap();
            task.delete().unwrap();
        },
    );
    let kinds =
        ["task left", "container left", "snapshot left", "process", "mount overlay", "bundle", "cgroup"];
    assert_says(&report, &kinds);
}

#[test]
fn a_test_that_leaves_something_fails_and_it_is_removed() {
    let mut dir = None;
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        harness::with(Runtime::Runc, |h| {
            dir = Some(h.containerd.dir().to_owned());
            h.start(Spec::sleeper().id("left"));
        });
    }));
    let message = result.unwrap_err().downcast::<String>().unwrap();
    assert_says(&message, &["left behind", "task left"]);
    let dir = dir.unwrap();
    assert!(!dir.exists());
    let name = dir.file_name().unwrap().to_str().unwrap();
    assert!(harness::proc::of_test(name, None).is_empty());
    assert!(machine::cgroups().iter().all(|cgroup| !cgroup.ends_with(name)));
}

#[test]
fn a_test_that_fails_keeps_its_own_failure_and_nothing_stays() {
    let mut dir = None;
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        harness::with(Runtime::Runc, |h| {
            dir = Some(h.containerd.dir().to_owned());
            h.start(Spec::sleeper());
            panic!("the test's own words");
        });
    }));
    let message = result.unwrap_err().downcast::<&str>().unwrap();
    assert_eq!(*message, "the test's own words");
    assert!(!dir.unwrap().exists());
}

#[test]
fn what_a_killed_test_left_is_swept() {
    let made = tempfile::Builder::new().prefix("curfew-").tempdir_in("/tmp").unwrap();
    let dir = made.keep();
    let name = dir.file_name().unwrap().to_str().unwrap();
    fs::write(dir.join("owner"), "").unwrap();
    fs::create_dir(dir.join("mnt")).unwrap();
    mount(Some("none"), &dir.join("mnt"), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    let script = format!("sleep 987002; : {name}");
    let mut child = Command::new("sh").args(["-c", &script]).spawn().unwrap();
    harness::janitor::sweep();
    assert!(!child.wait().unwrap().success());
    assert!(!dir.exists());
}
