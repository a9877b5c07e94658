#![allow(clippy::disallowed_methods, reason = "files of the test's own")]

use std::{os::unix::fs::DirBuilderExt, time::Instant};

use super::*;
use crate::deadline::clock::Boottime;

const HOUR: Duration = Duration::from_secs(3600);
/// A machine may have been started a minute ago.
const LONG_AGO: Duration = Duration::from_secs(40);

struct Dir {
    ledger: Ledger,
    _dir: tempfile::TempDir,
}

fn ledger(retention: Duration) -> Dir {
    let dir = tempfile::tempdir().unwrap();
    Dir { ledger: Ledger::at(&dir.path().join("pods"), retention), _dir: dir }
}

fn pod(uid: &str) -> PodName {
    PodName { uid: uid.into(), namespace: "default".into(), name: "agent".into() }
}

/// One that has been running for `age`.
fn span(limit: Duration, age: Duration) -> Span {
    let started = Boottime::now().nanos().saturating_sub(u64::try_from(age.as_nanos()).unwrap());
    let zero: Boottime = serde_json::from_str("0").unwrap();
    Span::new(zero.after(Duration::from_nanos(started)), limit, Duration::ZERO).unwrap()
}

fn age(path: &Path, by: Duration) {
    File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() - by).unwrap();
}

/// Has an entry say no more of its age than its file does.
fn undate(path: &Path) {
    let mut entry: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    entry["written"] = serde_json::Value::Null;
    durable::replace(path, &serde_json::to_vec(&entry).unwrap()).unwrap();
}

fn is_expired(admitted: Result<Option<Span>, LedgerError>) -> bool {
    matches!(admitted, Err(LedgerError::Expired { .. }))
}

#[test]
fn a_new_attempt_inherits_the_deadline_and_none_is_made_after_it() {
    let Dir { ledger, _dir } = ledger(HOUR);
    assert_eq!(ledger.admit("a").unwrap(), None);
    let first = span(HOUR, Duration::ZERO);
    ledger.write_span(&pod("a"), "s1", &first).unwrap();
    assert_eq!(ledger.admit("a").unwrap(), Some(first.clone()));
    ledger.write_span(&pod("a"), "s2", &first.into_final()).unwrap();
    let entry = ledger.read("a").unwrap().unwrap();
    assert_eq!((entry.sandbox.as_str(), entry.span.unwrap().is_final), ("s2", true));
    assert_eq!(ledger.admit("b").unwrap(), None);
    ledger.write_span(&pod("b"), "s1", &span(Duration::from_millis(5), LONG_AGO)).unwrap();
    let error = ledger.admit("b").unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("pod b has expired: DeadlineExceeded at 2"), "{text}");
    assert!(text.ends_with("Z, after 5ms"), "{text}");
}

#[test]
fn a_verdict_stands_whatever_is_written_after_it() {
    let Dir { ledger, _dir } = ledger(HOUR);
    ledger.write_span(&pod("a"), "s1", &span(HOUR, Duration::ZERO)).unwrap();
    let verdict = Verdict::now(Reason::DeadlineExceeded, HOUR);
    ledger.write_verdict(&pod("a"), "s1", verdict.clone()).unwrap();
    ledger.write_verdict(&pod("a"), "s1", Verdict::now(Reason::DeadlineExceeded, Duration::ZERO)).unwrap();
    for step in [Step::Process, Step::Delete] {
        ledger.write_end(&pod("a"), "s1", step).unwrap();
    }
    let entry = ledger.read("a").unwrap().unwrap();
    // What came first did it.
    assert_eq!((entry.verdict, entry.ended_by), (Some(verdict), Some(Step::Process)));
    assert!(is_expired(ledger.write_span(&pod("a"), "s2", &span(HOUR, Duration::ZERO)).map(|()| None)));
    assert!(is_expired(ledger.admit("a")));
}

#[test]
fn the_cpu_time_of_all_attempts_is_kept_and_never_runs_back() {
    let Dir { ledger, _dir } = ledger(HOUR);
    assert_eq!(ledger.cpu_used("a").unwrap(), Duration::ZERO);
    ledger.write_cpu_used(&pod("a"), "s1", Duration::from_millis(7)).unwrap();
    assert_eq!(ledger.admit("a").unwrap(), None);
    ledger.write_span(&pod("a"), "s2", &span(HOUR, Duration::ZERO)).unwrap();
    ledger.write_cpu_used(&pod("a"), "s1", Duration::from_millis(5)).unwrap();
    assert_eq!(ledger.cpu_used("a").unwrap(), Duration::from_millis(7));
    ledger.write_verdict(&pod("a"), "s2", Verdict::now(Reason::IdleTimeout, HOUR)).unwrap();
    assert_eq!(ledger.cpu_used("a").unwrap(), Duration::from_millis(7));
    // One that an earlier version wrote.
    let old = fs::read_to_string(ledger.path("a")).unwrap().replace("\"cpu_used_ms\":7,", "");
    durable::replace(&ledger.path("a"), old.as_bytes()).unwrap();
    assert_eq!(ledger.cpu_used("a").unwrap(), Duration::ZERO);
}

#[test]
fn an_entry_of_another_boot_ends_when_it_was_to_end_by_the_wall() {
    let Dir { ledger, _dir } = ledger(HOUR);
    for (uid, limit, is_over) in [("a", HOUR, false), ("b", Duration::from_secs(1), true)] {
        ledger.write_span(&pod(uid), "s1", &span(limit, Duration::from_secs(5))).unwrap();
        let path = ledger.path(uid);
        let text = fs::read_to_string(&path).unwrap();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let text = text.replace(boot.trim(), "6d6f7265-6f76-6572-2061-6e6f74686572");
        durable::replace(&path, text.as_bytes()).unwrap();
        assert_eq!(is_expired(ledger.admit(uid)), is_over, "{uid}");
    }
}

#[test]
fn what_cannot_be_read_counts_as_expired_wherever_it_was_cut() {
    let Dir { ledger, _dir } = ledger(HOUR);
    ledger.write_span(&pod("a"), "s1", &span(HOUR, Duration::ZERO)).unwrap();
    let path = ledger.path("a");
    let whole = fs::read(&path).unwrap();
    let unreadable = |text: &[u8]| {
        durable::replace(&path, text).unwrap();
        age(&path, HOUR);
        let error = ledger.admit("a").unwrap_err();
        assert!(error.to_string().contains("a.json"), "{error}");
        assert!(matches!(error, LedgerError::Unreadable { .. }));
        // It is remembered from now on, and stays as it is.
        assert!(fs::metadata(&path).unwrap().modified().unwrap().elapsed().unwrap() < HOUR / 2);
        assert!(ledger.write_span(&pod("a"), "s2", &span(HOUR, Duration::ZERO)).is_err());
        assert_eq!(fs::read(&path).unwrap(), text);
    };
    for cut in 0..whole.len() {
        unreadable(&whole[..cut]);
    }
    unreadable(&vec![b' '; usize::try_from(LARGEST).unwrap() + 1]);
    let other = String::from_utf8(whole).unwrap().replace("\"format\":1", "\"format\":2");
    unreadable(other.as_bytes());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(ledger.admit("a").unwrap_err(), LedgerError::Unreadable { .. }));
}

#[test]
fn an_entry_that_cannot_be_written_is_an_error_and_leaves_the_one_before() {
    let Dir { ledger, _dir } = ledger(HOUR);
    ledger.write_span(&pod("a"), "s1", &span(HOUR, Duration::ZERO)).unwrap();
    let beside = ledger.path("a").with_extension("json.new");
    fs::create_dir(&beside).unwrap();
    let error = ledger.write_span(&pod("a"), "s2", &span(HOUR, Duration::ZERO)).unwrap_err();
    assert!(matches!(error, LedgerError::Unwritable { .. }), "{error}");
    assert_eq!(ledger.read("a").unwrap().unwrap().sandbox, "s1");
}

#[test]
fn files_are_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let Dir { ledger, _dir } = ledger(HOUR);
    ledger.write_span(&pod("a"), "s1", &span(HOUR, Duration::ZERO)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&ledger.dir), mode(&ledger.path("a"))), (0o700, 0o600));
}

#[test]
fn an_entry_goes_after_its_retention_and_not_before() {
    const RETENTION: Duration = Duration::from_secs(20);
    let Dir { ledger, _dir } = ledger(RETENTION);
    for (uid, limit) in [("young", Duration::ZERO), ("old", Duration::ZERO), ("running", HOUR)] {
        ledger.write_span(&pod(uid), "s1", &span(limit, LONG_AGO)).unwrap();
    }
    // Has a longer memory of its own.
    let longer = Ledger::at(&ledger.dir, HOUR);
    longer.write_span(&pod("kept"), "s1", &span(Duration::ZERO, LONG_AGO)).unwrap();
    ledger.write_span(&pod("stepped"), "s1", &span(Duration::ZERO, LONG_AGO)).unwrap();
    for uid in ["old", "running", "kept"] {
        undate(&ledger.path(uid));
    }
    // The wall's clock says of the last one what it says of the others, and was set.
    for uid in ["old", "running", "kept", "stepped"] {
        age(&ledger.path(uid), LONG_AGO);
    }
    durable::replace(&ledger.path("torn"), b"{").unwrap();
    fs::write(ledger.dir.join("dead.json.new"), b"{").unwrap();
    age(&ledger.dir.join("dead.json.new"), HOUR);
    assert_eq!(ledger.sweep().unwrap(), 2);
    let left = |uid: &str| ledger.path(uid).exists();
    let all = ["young", "old", "running", "kept", "torn", "stepped"];
    assert_eq!(all.map(left), [true, false, true, true, true, true]);
    // A refusal counts as an attempt.
    undate(&ledger.path("young"));
    age(&ledger.path("young"), LONG_AGO);
    assert!(is_expired(ledger.admit("young")));
    assert_eq!(ledger.sweep().unwrap(), 0);
}

#[test]
fn ten_thousand_expired_pods_leave_nothing() {
    let Dir { ledger, _dir } = ledger(Duration::from_millis(1));
    fs::DirBuilder::new().mode(0o700).create(&ledger.dir).unwrap();
    let entry =
        |uid: &str| Entry::new(pod(uid), "s1", Some(span(Duration::ZERO, LONG_AGO)), ledger.retention);
    for n in 0..10_000 {
        let uid = format!("{n:08}");
        // Not made to last, which would take minutes.
        fs::write(ledger.path(&uid), serde_json::to_vec(&entry(&uid)).unwrap()).unwrap();
        age(&ledger.path(&uid), HOUR);
    }
    let before = Instant::now();
    assert_eq!(ledger.sweep_now_and_then().unwrap(), 10_000);
    let took = before.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    // As many locks as there can ever be.
    let mut left: Vec<_> =
        fs::read_dir(&ledger.dir).unwrap().flatten().map(|left| left.file_name()).collect();
    left.retain(|name| !name.to_string_lossy().starts_with(".lock-"));
    assert_eq!(left, [".swept"]);
    assert!(fs::read_dir(&ledger.dir).unwrap().count() <= 65);
}

#[test]
fn who_writes_an_entry_is_waited_for_but_not_for_ever() {
    let Dir { ledger, _dir } = ledger(HOUR);
    let held = ledger.locked("a").unwrap();
    let error = ledger.write_span(&pod("a"), "s1", &span(HOUR, Duration::ZERO)).unwrap_err();
    assert!(error.to_string().contains("another process has been at it"), "{error}");
    // Nor does it hold up the rest of the node.
    ledger.write_span(&pod("b"), "s1", &span(HOUR, Duration::ZERO)).unwrap();
    drop(held);
    ledger.write_span(&pod("a"), "s1", &span(HOUR, Duration::ZERO)).unwrap();
}
