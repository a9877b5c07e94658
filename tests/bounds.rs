//! What a sandbox can fill: its output, the disk, the host's processes, the pod's memory. Each has its bound.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(clippy::disallowed_methods, reason = "cgroup files, and a test's own")]

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{self, Command},
    time::Duration,
};

use harness::{ExecSpec, Harness, Options, Runtime, Spec, Stdio, Task, cgroup, rpc::poll, with_options};

harness::on_curfew_alone![
    a_disk_filler_fills_its_own_memory_and_no_disk,
    a_sandbox_at_the_hosts_limit_of_processes_ends_and_the_log_says_why,
    a_sandbox_whose_cgroup_is_at_that_limit_ends,
    a_pod_without_a_limit_gets_the_sum_of_its_containers,
    twenty_idle_containers_are_watched_for_next_to_nothing,
];

const BUDGET: usize = 1 << 20;
/// Says whatever takes it the longest time that an emulated processor can need.
const PATIENCE: Duration = Duration::from_secs(60);

/// On a node where a container may write a mebibyte.
fn with_budget(test: impl FnOnce(&Harness)) {
    let node = "version = 1\n[limits]\nlog_size = \"1Mi\"\n".into();
    with_options(Runtime::Curfew, Options { node, ..Options::default() }, test);
}

fn flood(redirected: &str) -> Spec {
    Spec::new(["sh", "-c", &format!("head -c 1000 /dev/zero {redirected}; exec cat /dev/zero {redirected}")])
}

fn ended_by_its_output(h: &Harness, task: &Task) {
    assert_eq!(task.wait_for(PATIENCE).unwrap().status, 137);
    let log = h.containerd.log();
    assert!(log.contains("LogSizeExceeded") && log.contains("limits.log_size"), "{log}");
}

#[test]
fn a_log_flood_ends_at_its_budget_on_either_stream_and_on_a_terminal() {
    with_budget(|h| {
        for (redirected, stdio) in [("", Stdio::Fifos), (">&2", Stdio::Fifos), ("", Stdio::Terminal)] {
            let task = h.start(flood(redirected).stdio(stdio));
            ended_by_its_output(h, &task);
            let written = if redirected.is_empty() { task.stdout() } else { task.stderr() };
            // What a terminal makes of a zero is one byte too.
            assert_eq!(written.len(), BUDGET, "{redirected:?}");
            task.delete().unwrap();
        }
    });
}

#[test]
fn a_file_that_takes_a_flood_stays_within_the_budget() {
    with_budget(|h| {
        let path = h.containerd.dir().join("temp/flood");
        let task = h.start(flood("").stdio(Stdio::Path(format!("file://{}", path.display()))));
        ended_by_its_output(h, &task);
        task.delete().unwrap();
        assert_eq!(fs::read(&path).unwrap().len(), BUDGET);
    });
}

#[test]
fn output_below_the_budget_arrives_whole_and_an_exec_has_no_budget() {
    with_budget(|h| {
        let task = h.start(Spec::new(["sh", "-c", "head -c 1048576 /dev/zero; exec sleep 1000"]));
        poll(PATIENCE, || (task.stdout_so_far().len() == BUDGET).then_some(())).unwrap();
        let exec = task.exec(&ExecSpec::new(["head", "-c", "2097152", "/dev/zero"])).unwrap();
        exec.start().unwrap();
        assert_eq!(exec.wait().unwrap().status, 0);
        assert_eq!(exec.stdout().len(), 2 << 20);
        exec.delete().unwrap();
        task.end().unwrap();
        assert_eq!(task.stdout().len(), BUDGET);
    });
}

/// Bytes in use below `dir`, on its own file system.
fn disk_usage(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_usage(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

fn a_disk_filler_fills_its_own_memory_and_no_disk(h: &Harness) {
    let task = h.create(Spec::new(["sh", "-c", "cat /dev/zero > /filled"]).memory(128 << 20));
    // With its image unpacked.
    let before = disk_usage(h.containerd.dir());
    task.start().unwrap();
    assert_eq!(task.wait_for(PATIENCE).unwrap().status, 137);
    let grown = disk_usage(h.containerd.dir()).saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes of disk for a guest's file");
    task.delete().unwrap();
}

#[test]
fn a_guest_whose_overlay_has_a_size_sees_a_full_disk_and_lives() {
    let class = "[runsc]\noverlay2 = \"root:memory,size=16m\"\n".into();
    with_options(Runtime::Curfew, Options { class, ..Options::default() }, |h| {
        let out =
            h.run(Spec::new(["sh", "-c", "cat /dev/zero > /filled || true; ls -l /filled; echo lives"]));
        assert_eq!(out.exit.status, 0, "{}", out.stderr);
        assert!(out.stderr.contains("No space left"), "{}", out.stderr);
        assert!(out.stdout.ends_with("lives\n"), "{}", out.stdout);
        let size: u64 = out.stdout.split_whitespace().nth(4).unwrap().parse().unwrap();
        assert!(size <= 16 << 20, "{size}");
    });
}

fn directory_with(h: &Harness, id: &str, file: &str) -> Option<PathBuf> {
    cgroup::directory_with(h.containerd.namespace(), id, file)
}

fn number(path: PathBuf) -> u64 {
    fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

/// Nothing inside reaches that limit, so the test lowers it.
fn a_sandbox_at_the_hosts_limit_of_processes_ends_and_the_log_says_why(h: &Harness) {
    let task = h.start(Spec::new(["sh", "-c", "sleep 3; while true; do sleep 1000 & done"]).id("many"));
    let pids = directory_with(h, "many", "pids.max").unwrap();
    assert!(number(pids.join("pids.max")) > 1000, "the limit inside comes first");
    fs::write(pids.join("pids.max"), (number(pids.join("pids.current")) + 3).to_string()).unwrap();
    // Whatever the sandbox itself ends with.
    assert_eq!(task.wait_for(PATIENCE).unwrap().status, 137);
    let log = h.containerd.log();
    assert!(log.contains("PidsLimitExceeded"), "{log}");
    task.delete().unwrap();
}

/// A process beside the sandbox, in its cgroup, is the one that gets no other: the sandbox itself would live on.
fn a_sandbox_whose_cgroup_is_at_that_limit_ends(h: &Harness) {
    let task = h.start(Spec::sleeper().id("full"));
    let pids = directory_with(h, "full", "pids.max").unwrap();
    let script = "read go; sleep 0 & wait; echo none";
    let mut forking = Command::new("sh").args(["-c", script]).stdin(process::Stdio::piped()).spawn().unwrap();
    fs::write(pids.join("cgroup.procs"), forking.id().to_string()).unwrap();
    fs::write(pids.join("pids.max"), number(pids.join("pids.current")).to_string()).unwrap();
    forking.stdin.take().unwrap().write_all(b"\n").unwrap();
    // Some shells try again, and get one once the sandbox is gone.
    forking.wait().unwrap();
    assert_eq!(task.wait_for(PATIENCE).unwrap().status, 137);
    let log = h.containerd.log();
    assert_eq!(log.matches("PidsLimitExceeded").count(), 1, "{log}");
    task.delete().unwrap();
}

fn memory_limit(h: &Harness, id: &str) -> u64 {
    match directory_with(h, id, "memory.max") {
        Some(dir) => number(dir.join("memory.max")),
        None => number(directory_with(h, id, "memory.limit_in_bytes").unwrap().join("memory.limit_in_bytes")),
    }
}

fn a_pod_without_a_limit_gets_the_sum_of_its_containers(h: &Harness) {
    const MIB: u64 = 1 << 20;
    let is = |mib| {
        poll(Duration::from_secs(5), || (memory_limit(h, "pause") == mib * MIB).then_some(()))
            .unwrap_or_else(|| panic!("{} instead of {mib} MiB", memory_limit(h, "pause") / MIB));
    };
    let pause = h.start(Spec::sleeper().sandbox("pause"));
    is(2048);
    let container = |id: &str| Spec::sleeper().id(id).container_of("pause", pause.pid());
    let first = h.start(container("first").memory(64 * MIB));
    is(64 + 64 + 16);
    let second = h.start(container("second").memory(96 * MIB));
    is(64 + 64 + 16 + 96 + 16);
    // One without a limit may use what the node allows.
    let free = h.start(container("free"));
    is(2048);
    free.end().unwrap();
    is(64 + 64 + 16 + 96 + 16);
    second.end().unwrap();
    is(64 + 64 + 16);
    first.end().unwrap();
    pause.end().unwrap();
}

/// CPU time of a process so far (proc(5), schedstat).
fn cpu_time(pid: i32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// Each of them has a limit that the shim looks after.
fn twenty_idle_containers_are_watched_for_next_to_nothing(h: &Harness) {
    let pause = h.start(Spec::sleeper().sandbox("pause"));
    let container = |n: u32| Spec::sleeper().id(format!("idle-{n:02}")).container_of("pause", pause.pid());
    let containers: Vec<Task> = (0..20).map(|n| h.start(container(n).memory(64 << 20))).collect();
    let all = harness::proc::of_test(h.containerd.namespace(), h.containerd.pid());
    let shim = all.iter().find(|process| process.command.ends_with(" serve")).unwrap().pid;
    // The looks are frequent at first; and each of them is asked for once in half a minute, which is to be seen.
    std::thread::sleep(Duration::from_secs(5));
    let (before, measured_for) = (cpu_time(shim), Duration::from_secs(35));
    std::thread::sleep(measured_for);
    let used = cpu_time(shim) - before;
    assert!(used < measured_for / 1000, "{used:?} of CPU in {measured_for:?}");
    for task in containers {
        task.end().unwrap();
    }
    pause.end().unwrap();
}
