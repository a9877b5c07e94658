//! What the node remembers of a pod, where its disk is full or its files are not what they were.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(clippy::disallowed_methods, reason = "a node's own files")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use harness::{Code, Harness, Spec, Status, Task, proc, rpc::poll};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

harness::on_curfew_alone![
    nothing_runs_while_the_ledger_has_no_room,
    an_extension_is_refused_while_the_ledger_has_no_room,
    an_end_for_which_the_ledger_has_no_room_is_written_once_it_has,
    what_cannot_be_read_counts_as_expired,
    a_pod_of_an_earlier_boot_has_what_is_left_of_its_time,
    no_number_in_an_entry_is_longer_life,
];

const UID: &str = "0f5c2c7e-1111-4222-8333-94f5d8c1a003";
const PATIENCE: Duration = Duration::from_secs(20);

fn sandbox(id: &str) -> Spec {
    let pause = Spec::sleeper().sandbox(id).annotation("io.kubernetes.cri.sandbox-uid", UID);
    let pause = pause.annotation("io.kubernetes.cri.sandbox-name", "agent");
    let pause = pause.annotation("io.kubernetes.cri.sandbox-namespace", "team");
    pause.annotation("curfew.dev/timeout", "5m").annotation("curfew.dev/grace", "0s")
}

fn workload(id: &str, pause: &Task) -> Spec {
    Spec::sleeper().id(id).container_of(pause.id(), pause.pid())
}

fn end(tasks: [Task; 2]) {
    for task in tasks {
        task.end().unwrap();
    }
}

/// A disk of its own for the ledger, which has no room left.
struct FullDisk {
    dir: PathBuf,
}

impl FullDisk {
    fn at(dir: PathBuf) -> Self {
        mount(Some("tmpfs"), &dir, Some("tmpfs"), MsFlags::empty(), Some("size=64k,mode=0700")).unwrap();
        Self { dir }
    }

    fn fill(&self) {
        let error = fs::write(self.dir.join("other"), vec![0; 1 << 20]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }

    fn free(&self) {
        fs::remove_file(self.dir.join("other")).unwrap();
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        // The harness reports what stays.
        let _ = umount2(&self.dir, MntFlags::MNT_DETACH);
    }
}

fn ledger(h: &Harness) -> PathBuf {
    h.containerd.dir().join("ledger")
}

fn gofers(h: &Harness) -> usize {
    let all = proc::of_test(h.containerd.namespace(), h.containerd.pid());
    all.iter().filter(|process| process.command.starts_with("runsc-gofer")).count()
}

fn nothing_runs_while_the_ledger_has_no_room(h: &Harness) {
    let disk = FullDisk::at(ledger(h));
    disk.fill();
    let pause = h.start(sandbox("pause"));
    let workload_1 = h.create(workload("first", &pause));
    let before = gofers(h);
    let refused = workload_1.start().unwrap_err();
    for words in ["cannot write ledger entry", UID, "No space left on device"] {
        assert!(refused.message.contains(words), "{words}: {refused}");
    }
    assert_eq!(gofers(h), before);
    assert_eq!(workload_1.state().unwrap().status, Status::Stopped);
    workload_1.delete().unwrap();
    let left: Vec<_> = fs::read_dir(ledger(h)).unwrap().flatten().map(|entry| entry.file_name()).collect();
    // But for the time of the last look through it, and the locks.
    let is_own = |name: &str| name == "other" || name == ".swept" || name.starts_with(".lock-");
    assert!(left.iter().all(|name| is_own(&name.to_string_lossy())), "{left:?}");
    // What runs in a sandbox that nothing started in is its own business until then.
    pause.end().unwrap();
    h.nothing_runs_within(Duration::from_secs(2));

    disk.free();
    let pause = h.start(sandbox("again"));
    let workload_2 = h.start(workload("second", &pause));
    let shown = h.ctl_json(&["show", "agent", "-o", "json"]);
    assert!(shown["left_seconds"].as_f64().unwrap() > 290.0, "{shown:#}");
    end([workload_2, pause]);
}

fn an_extension_is_refused_while_the_ledger_has_no_room(h: &Harness) {
    let disk = FullDisk::at(ledger(h));
    let pause = h.start(sandbox("pause").annotation("curfew.dev/timeout", "3s"));
    let workload = h.start(workload("first", &pause));
    let since = Instant::now();
    disk.fill();
    h.ctl_refuses(&["extend", "agent", "10s"], 1, "No space left on device");
    // Its own time holds.
    assert_eq!(workload.wait_for(PATIENCE).unwrap().status, 124);
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    assert_eq!(pause.wait_for(PATIENCE).unwrap().status, 124);
    for task in [workload, pause] {
        task.delete().unwrap();
    }
    let refused = h.try_create(sandbox("another")).unwrap_err();
    assert!(refused.message.contains("DeadlineExceeded"), "{refused}");
}

fn an_end_for_which_the_ledger_has_no_room_is_written_once_it_has(h: &Harness) {
    let disk = FullDisk::at(ledger(h));
    let pause = h.start(sandbox("pause").annotation("curfew.dev/idle-timeout", "2s"));
    let idle = h.start(workload("idle", &pause));
    disk.fill();
    for task in [idle, pause] {
        assert_eq!(task.wait_for(PATIENCE).unwrap().status, 124);
        task.delete().unwrap();
    }
    // Longer than a shim waits before it answers containerd's Shutdown.
    std::thread::sleep(Duration::from_secs(3));
    let said = || fs::read_to_string(ledger(h).join(UID).with_extension("json")).unwrap();
    assert!(!said().contains("IdleTimeout"), "{}", said());
    disk.free();
    let written = || said().contains("IdleTimeout").then_some(());
    assert!(poll(PATIENCE, written).is_some(), "{}", said());
    let refused = h.try_create(sandbox("another")).unwrap_err();
    assert!(refused.message.contains("IdleTimeout"), "{refused}");
    h.nothing_runs_within(Duration::from_secs(5));
}

/// The entry of a pod that has run for a moment and has time left.
fn entry(h: &Harness) -> (PathBuf, String) {
    let pause = h.start(sandbox("pause"));
    let workload = h.start(workload("first", &pause));
    end([workload, pause]);
    let path = ledger(h).join(format!("{UID}.json"));
    let text = fs::read_to_string(&path).unwrap();
    (path, text)
}

#[track_caller]
fn is_refused(h: &Harness, words: &str) {
    let refused = h.try_create(sandbox("another")).unwrap_err();
    assert_eq!(refused.code, Code::FailedPrecondition, "{refused}");
    assert!(refused.message.contains(words), "{refused}");
}

fn what_cannot_be_read_counts_as_expired(h: &Harness) {
    let (path, text) = entry(h);
    let file = format!("{UID}.json");
    let unreadable: [(&str, String); 5] = [
        ("cut", text[..text.len() / 2].into()),
        ("empty", String::new()),
        ("garbage", "\u{0}\u{1}\u{2}".into()),
        ("of another version", text.replace("\"format\":1", "\"format\":2")),
        ("huge", " ".repeat(1 << 20)),
    ];
    for (what, text) in unreadable {
        fs::write(&path, &text).unwrap();
        is_refused(h, &file);
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "{what}");
        // Also an operator is told, and can still see the others.
        let said = h.curfewctl(&["list"]);
        assert!(
            said.status.success() && String::from_utf8_lossy(&said.stderr).contains(&file),
            "{what}: {said:?}"
        );
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    is_refused(h, &file);
    fs::remove_dir(&path).unwrap();
    // Whoever removes it has decided so.
    h.start(sandbox("another")).end().unwrap();
}

/// An entry as an earlier boot would have left it, with this left by the wall's clock, in milliseconds.
fn of_an_earlier_boot(path: &Path, text: &str, left: i64) {
    let mut entry: Value = serde_json::from_str(text).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    for (moment, at) in [("started", -60_000), ("due", left)] {
        let moment = &mut entry["span"][moment];
        moment["clock"]["boot"] = json!("6d6f7265-6f76-6572-2061-6e6f74686572");
        // Whatever that clock said.
        moment["boottime"] = json!(1);
        moment["realtime"] = json!(i64::try_from(now).unwrap() + at);
    }
    fs::write(path, entry.to_string()).unwrap();
}

fn a_pod_of_an_earlier_boot_has_what_is_left_of_its_time(h: &Harness) {
    let (path, text) = entry(h);
    of_an_earlier_boot(&path, &text, -1000);
    is_refused(h, "DeadlineExceeded");
    of_an_earlier_boot(&path, &text, 4000);
    let since = Instant::now();
    let pause = h.start(sandbox("another"));
    let workload = h.start(workload("second", &pause));
    assert_eq!(workload.wait_for(PATIENCE).unwrap().status, 124);
    let took = since.elapsed();
    assert!(took > Duration::from_millis(3900) && took < Duration::from_secs(7), "{took:?}");
    pause.wait_for(PATIENCE).unwrap();
    for task in [workload, pause] {
        task.delete().unwrap();
    }
    is_refused(h, "DeadlineExceeded");
}

fn no_number_in_an_entry_is_longer_life(h: &Harness) {
    let (path, text) = entry(h);
    let with_due = |due: u64| {
        let mut entry: Value = serde_json::from_str(&text).unwrap();
        entry["span"]["due"]["boottime"] = json!(due);
        entry["span"]["due"]["realtime"] = json!(due);
        fs::write(&path, entry.to_string()).unwrap();
    };
    for past in [0, 1] {
        with_due(past);
        is_refused(h, "DeadlineExceeded");
    }
    for far in [u64::MAX, u64::MAX / 2] {
        with_due(far);
        let pause = h.start(sandbox("another"));
        let workload = h.start(workload("second", &pause));
        let left = h.ctl_json(&["show", "agent", "-o", "json"])["left_seconds"].as_f64();
        assert!(left.is_some_and(|left| left <= 300.0), "{left:?}");
        end([workload, pause]);
    }
}
