//! What a pod's containers see of their deadline, if their class lets them.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use harness::{
    Code, ExecSpec, Harness, Options, Runtime, Spec, Task, rpc::poll, volume::Volume, with, with_options,
};

const UID: &str = "0f5c2c7e-1111-4222-8333-94f5d8c1a004";
const PATIENCE: Duration = Duration::from_secs(20);

fn with_exposed(test: impl FnOnce(&Harness)) {
    let class = "[timeout]\nmax = \"1h\"\ngrace = \"0s\"\nexpose = true\n".into();
    let node = "version = 1\n[pod]\nhost_path = \"allow\"\n".into();
    with_options(Runtime::Curfew, Options { class, node, ..Options::default() }, test);
}

fn pause(annotation: &str, value: &str) -> Spec {
    let pause = Spec::sleeper().sandbox("pause").annotation("io.kubernetes.cri.sandbox-uid", UID);
    pause.annotation(&format!("curfew.dev/{annotation}"), value)
}

/// What a script in the container prints, and its exit status.
fn sh(task: &Task, uid: u32, script: &str) -> (u32, String) {
    let spec = ExecSpec::new(["sh", "-c", script]).edit(|process| process["user"]["uid"] = uid.into());
    let exec = task.exec(&spec).unwrap();
    exec.start().unwrap();
    let status = exec.wait().unwrap().status;
    let said = exec.stdout();
    exec.delete().unwrap();
    (status, said)
}

/// The seconds that the file says are left, after a look at the rest of it.
#[track_caller]
fn left(task: &Task) -> u64 {
    // Any user can read it, and a shell needs nothing but itself.
    let script = ". /run/curfew/deadline && echo $left_seconds $ends_at $ends_at_unix";
    let (status, said) = sh(task, 1234, script);
    assert_eq!(status, 0, "{said}");
    let words: Vec<&str> = said.split_whitespace().collect();
    let [left, at, unix] = words[..] else { panic!("{said}") };
    let unix: u64 = unix.parse().unwrap();
    assert_eq!(at, harness::volume::utc(unix).trim());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let left: u64 = left.parse().unwrap();
    // Written some time ago.
    assert!(unix <= now + left + 1 && unix + 60 > now + left, "{unix} {now} {left}");
    left
}

#[track_caller]
fn end(tasks: [Task; 2]) {
    for task in tasks {
        task.end().unwrap();
    }
}

#[test]
fn containers_read_their_deadline_and_what_becomes_of_it() {
    with_exposed(|h| {
        let pause = h.start(pause("timeout", "10m"));
        // Its own first line reads it too.
        let script = "cp /run/curfew/deadline /first; sleep 1000";
        let first = h.start(Spec::new(["sh", "-c", script]).id("first").container_of("pause", pause.pid()));
        let is_copied = || (sh(&first, 0, "grep -c = /first").1 == "3\n").then_some(());
        assert!(poll(PATIENCE, is_copied).is_some());
        // A file that stays open, a directory that is listed, and entries that a cache may keep.
        let (status, _) = sh(&first, 0, "exec 3</run/curfew/deadline; ls -l /run/curfew; cat <&3");
        assert_eq!(status, 0);
        assert!((590..=600).contains(&left(&first)));
        for (more, expected) in [("10m", 1200), ("20m", 2400), ("1m", 2460)] {
            h.ctl(&["extend", UID, more]);
            // The answer comes after that.
            assert!((expected - 15..=expected).contains(&left(&first)), "{expected}");
        }
        // One that has no /run of its own, and a read-only root.
        let bare = Spec::sleeper().id("bare").edit(|spec| {
            spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/run");
            spec["root"]["readonly"] = true.into();
        });
        let bare = h.start(bare.container_of("pause", pause.pid()));
        assert!((2440..=2460).contains(&left(&bare)));
        bare.end().unwrap();
        end([first, pause]);
    });
}

#[test]
fn nobody_in_the_pod_can_write_it_or_see_more() {
    with_exposed(|h| {
        let pause = h.start(pause("timeout", "10m"));
        let task = h.start(Spec::sleeper().id("first").container_of("pause", pause.pid()));
        for script in [
            "echo left_seconds=9 >/run/curfew/deadline",
            "echo 1 >>/run/curfew/deadline",
            "touch /run/curfew/other",
            "rm /run/curfew/deadline",
            "mv /run/curfew/deadline /run/curfew/x",
            "chmod 666 /run/curfew/deadline",
            "ln -sf /etc/passwd /run/curfew/deadline",
            "mount -o remount,rw /run/curfew",
        ] {
            assert_ne!(sh(&task, 0, script).0, 0, "{script}");
        }
        assert_eq!(sh(&task, 0, "ls -A /run/curfew").1, "deadline\n");
        let (_, above) = sh(&task, 0, "ls -A /run/curfew/../");
        assert!(!above.contains("record.json") && !above.contains("task.sock"), "{above}");
        assert!((590..=600).contains(&left(&task)));
        end([task, pause]);
    });
}

#[test]
fn a_pod_that_waits_for_its_claim_reads_how_long_it_can_wait_and_then_its_deadline() {
    with_exposed(|h| {
        let volume = Volume::make(h.containerd.dir(), UID, "deadline").unwrap();
        let pause = h.start(pause("deadline-file", "/etc/podinfo/deadline"));
        let task = Spec::sleeper().id("first").bind(volume.dir(), "/etc/podinfo", &["ro"]);
        let task = h.start(task.container_of("pause", pause.pid()));
        assert!((3590..=3600).contains(&left(&task)));
        volume.update("15m").unwrap();
        let is_so = || (880..=900).contains(&left(&task)).then_some(());
        assert!(poll(PATIENCE, is_so).is_some(), "{}", left(&task));
        end([task, pause]);
    });
}

#[test]
fn a_container_with_something_of_its_own_in_that_place_is_refused() {
    with_exposed(|h| {
        let dir = &h.containerd.dir().join("own");
        std::fs::create_dir(dir).unwrap();
        for target in ["/run/curfew", "/run/curfew/below"] {
            let refused = h.try_create(Spec::sleeper().bind(dir, target, &["ro"])).unwrap_err();
            assert_eq!(refused.code, Code::FailedPrecondition, "{refused}");
            assert!(refused.message.contains("timeout.expose"), "{refused}");
        }
        // Without a pod, too.
        let alone = h.start(Spec::sleeper());
        assert!((580..=600).contains(&left(&alone)));
        alone.end().unwrap();
    });
}

#[test]
fn a_restored_container_reads_the_deadline_that_it_has_now() {
    with_exposed(|h| {
        let spec = |timeout| Spec::sleeper().annotation("curfew.dev/timeout", timeout);
        let task = h.start(spec("10m"));
        left(&task);
        h.ctl(&["extend", task.id(), "20m"]);
        left(&task);
        let checkpoint = task.checkpoint(true).unwrap();
        task.wait().unwrap();
        task.delete().unwrap();
        let restored = h.container(&spec("5m")).create_from(checkpoint).unwrap();
        restored.start().unwrap();
        assert!((280..=300).contains(&left(&restored)));
        h.ctl(&["extend", restored.id(), "5m"]);
        assert!((580..=600).contains(&left(&restored)));
        restored.end().unwrap();
    });
}

#[test]
fn without_the_option_there_is_nothing() {
    with(Runtime::Curfew, |h| {
        let task = h.start(Spec::sleeper());
        assert_ne!(sh(&task, 0, "ls /run/curfew").0, 0);
        task.end().unwrap();
    });
}
