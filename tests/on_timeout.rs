//! A pod whose time is up, written to the disk before it is killed.
#![allow(clippy::print_stderr, reason = "figures for whoever reads the log")]
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(
    clippy::disallowed_methods,
    reason = "where checkpoints are, a pod's termination log, and curfewctl itself"
)]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use harness::{Code, Harness, Options, Runtime, Signal, Spec, Task, proc::Process, shim::Shim, with_options};

const UID: &str = "0f5c2c7e-1111-4222-8333-94f5d8c1a005";
const OTHER_UID: &str = "0f5c2c7e-1111-4222-8333-94f5d8c1a006";
const LIMIT: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(30);
/// For machines that are busy.
const LATENESS: Duration = Duration::from_millis(1500);
/// Counts up for ever, in memory alone.
const COUNTING: &str = "i=0; while true; do i=$((i+1)); echo $i; sleep 0.05; done";

/// A node that has such pods written to a directory, under these settings.
#[track_caller]
fn on_node(checkpoint: &str, calls: &str, test: impl FnOnce(&Harness, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("checkpoints");
    let node = format!(
        "version = 1\n[pod]\nhost_path = \"allow\"\n[timeout]\non_timeout = \"checkpoint\"\n\
         [checkpoint]\ndir = {place:?}\n{checkpoint}\n[calls]\n{calls}\n",
    );
    with_options(Runtime::Curfew, Options { node, ..Options::default() }, |h| test(h, &place));
}

fn counting(uid: &str) -> Spec {
    let spec = Spec::new(["sh", "-c", COUNTING]).annotation("curfew.dev/timeout", "3s");
    spec.annotation("curfew.dev/grace", "0s").annotation("io.kubernetes.cri.sandbox-uid", uid)
}

fn numbers(task: &Task) -> Vec<u32> {
    task.stdout_so_far().lines().map(|line| line.parse().unwrap()).collect()
}

fn names(place: &Path) -> Vec<String> {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// Waits for the end, which must come within `most` of the limit.
#[track_caller]
fn ends_within(task: &Task, since: Instant, most: Duration) {
    assert_eq!(task.wait_for(PATIENCE).unwrap().status, 124);
    let late = since.elapsed().saturating_sub(LIMIT);
    eprintln!("ended {late:?} after its time");
    assert!(late < most, "{late:?}");
}

#[test]
fn a_pod_goes_on_where_its_time_was_up_as_another_and_with_a_time_of_its_own() {
    on_node("", "", |h, place| {
        let since = Instant::now();
        let task = h.start(counting(UID));
        ends_within(&task, since, Duration::from_secs(10));
        let counted = *numbers(&task).last().unwrap();
        assert!(counted > 10, "{counted}");
        // Whole, before anybody is told of the end.
        assert_eq!(names(place), [UID]);
        let image = place.join(UID);
        assert!(image.join("checkpoint.img").is_file());
        for dir in [place, &image] {
            assert_eq!(fs::metadata(dir).unwrap().permissions().mode() & 0o777, 0o700);
        }
        task.delete().unwrap();
        let shown = shown(h, UID);
        assert!(shown.contains("DeadlineExceeded") && shown.contains(image.to_str().unwrap()), "{shown}");

        // The pod itself stays where it is.
        let container = h.container(&counting(UID));
        let refused = container.create_from_directory(&image).unwrap_err();
        assert_eq!(refused.code, Code::FailedPrecondition, "{refused}");
        container.delete().unwrap();

        let since = Instant::now();
        let restored = h.container(&counting(OTHER_UID)).create_from_directory(&image).unwrap();
        restored.wait_for_output("\n");
        let first = numbers(&restored)[0];
        // What it did while it was being stopped may not have been read.
        assert!((counted..=counted + 3).contains(&first), "{first} after {counted}");
        ends_within(&restored, since, Duration::from_secs(10));
        assert!(since.elapsed() > LIMIT, "it has had less than its time");
        assert!(*numbers(&restored).last().unwrap() > counted + 10);
        restored.delete().unwrap();
        assert_eq!(names(place).len(), 2);
    });
}

fn shown(h: &Harness, name: &str) -> String {
    let mut command = Command::new(harness::version::shim().with_file_name("curfewctl"));
    command.arg("--state-dir").arg(h.containerd.state_dir());
    command.arg("--ledger").arg(h.containerd.dir().join("ledger"));
    let output = command.args(["show", name]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_checkpoint_that_grows_too_large_is_given_up_and_the_pod_is_killed() {
    on_node("max_size = \"64Ki\"", "", |h, place| {
        let log = h.containerd.dir().join("kubelet/pods").join(UID).join("containers/c/0");
        fs::create_dir_all(log.parent().unwrap()).unwrap();
        fs::File::create(&log).unwrap();
        let since = Instant::now();
        let task = h.start(counting(UID).bind(&log, "/dev/termination-log", &["rw"]));
        ends_within(&task, since, Duration::from_secs(10));
        assert!(fs::read_to_string(&log).unwrap().contains("\"reason\":\"DeadlineExceeded\""));
        task.delete().unwrap();
        assert!(h.containerd.log().contains("checkpoint.max_size = 64Ki"), "{}", h.containerd.log());
        harness::rpc::poll(PATIENCE, || names(place).is_empty().then_some(())).unwrap();
    });
}

#[test]
fn a_pod_of_several_containers_is_killed_in_its_grace() {
    on_node("", "", |h, place| {
        let pause = Spec::sleeper().sandbox("pause").annotation("curfew.dev/timeout", "3s");
        let pause = h.start(pause.annotation("curfew.dev/grace", "1s"));
        let endless = Spec::new(["sh", "-c", "trap '' TERM; while true; do sleep 0.1; done"]);
        let workload = h.start(endless.id("endless").container_of("pause", pause.pid()));
        let since = Instant::now();
        ends_within(&workload, since, Duration::from_secs(1) + LATENESS);
        assert!(since.elapsed() > LIMIT + Duration::from_millis(500), "without its grace");
        for task in [workload, pause] {
            task.wait_for(PATIENCE).unwrap();
            task.delete().unwrap();
        }
        assert!(names(place).is_empty());
        assert!(h.containerd.log().contains("several of its containers run"));
    });
}

#[test]
fn a_sandbox_that_does_not_answer_lives_no_longer_than_a_checkpoint_may_take() {
    on_node("", "checkpoint = \"1s\"", |h, place| {
        let since = Instant::now();
        let task = h.start(counting(UID));
        Process::read(task.pid().cast_signed()).unwrap().signal(Signal::SIGSTOP);
        ends_within(&task, since, Duration::from_secs(1) + LATENESS);
        task.delete().unwrap();
        harness::rpc::poll(PATIENCE, || names(place).is_empty().then_some(())).unwrap();
    });
}

#[test]
fn what_a_shim_that_was_killed_had_begun_to_write_is_removed() {
    on_node("", "", |h, place| {
        let task = h.start(counting(UID));
        fs::create_dir_all(place.join(format!("{UID}.tmp-{}/x", task.id()))).unwrap();
        fs::create_dir(place.join("others.tmp-1")).unwrap();
        let shim = Shim::of(&h.containerd, task.id()).unwrap().pid(task.id()).unwrap();
        Process::read(shim.cast_signed()).unwrap().signal(Signal::SIGKILL);
        harness::rpc::poll(PATIENCE, || (names(place) == ["others.tmp-1"]).then_some(())).unwrap();
        let forgotten = || task.state().is_err_and(|error| error.code == Code::NotFound);
        harness::rpc::poll(PATIENCE, || forgotten().then_some(())).unwrap();
        task.container().delete().unwrap();
        h.nothing_runs_within(PATIENCE);
    });
}

#[test]
fn a_kill_ends_a_pod_that_is_being_written_down_at_once() {
    // So large that it takes a while.
    const LARGE: &str = "dd if=/dev/urandom of=/dev/shm/x bs=1M count=60 2>/dev/null; sleep 1000";
    on_node("", "", |h, place| {
        let spec = Spec::new(["sh", "-c", LARGE]).annotation("curfew.dev/timeout", "3s");
        let task = h.start(spec.annotation("io.kubernetes.cri.sandbox-uid", UID));
        let begun = || names(place).iter().any(|name| name.contains(".tmp-"));
        harness::rpc::poll(PATIENCE, || begun().then_some(())).unwrap();
        let since = Instant::now();
        task.kill(Signal::SIGKILL).unwrap();
        assert_eq!(task.wait_for(PATIENCE).unwrap().status, 124);
        assert!(since.elapsed() < LATENESS, "{:?}", since.elapsed());
        task.delete().unwrap();
        // It was whole by then, or is gone.
        let settled = || names(place).iter().all(|name| name == UID);
        harness::rpc::poll(PATIENCE, || settled().then_some(())).unwrap();
    });
}

#[test]
fn the_watchdog_gives_a_checkpoint_its_time_and_no_more() {
    on_node("", "checkpoint = \"2s\"", |h, _| {
        let since = Instant::now();
        let task = h.start(counting(UID));
        let sandbox = Process::read(task.pid().cast_signed()).unwrap();
        let shim = Shim::of(&h.containerd, task.id()).unwrap().pid(task.id()).unwrap();
        let shim = Process::read(shim.cast_signed()).unwrap();
        shim.signal(Signal::SIGSTOP);
        // It gives the shim two seconds more.
        let most = LIMIT + Duration::from_secs(2 + 2);
        harness::rpc::poll(PATIENCE, || (!sandbox.is_alive()).then_some(())).unwrap();
        let took = since.elapsed();
        shim.signal(Signal::SIGCONT);
        assert!(took > most - Duration::from_millis(500) && took < most + LATENESS, "{took:?}");
        ends_within(&task, since, Duration::from_secs(10));
        task.delete().unwrap();
    });
}
