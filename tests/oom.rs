//! A sandbox that runs out of memory: an event before the exit, and nothing left that hangs.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(clippy::disallowed_methods, reason = "a process of the test's own, and a cgroup's file")]

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::{Event, ExecSpec, Harness, Runtime, Spec, Task, cgroup};
use nix::sys::signal::{Signal::SIGSTOP, kill};
use nix::unistd::Pid;

harness::on_both_runtimes![a_container_that_eats_its_memory_ends_with_an_event_before_its_exit];

harness::on_curfew_alone![
    a_pod_that_runs_out_of_memory_ends_with_an_event_for_each_workload,
    a_container_that_is_killed_by_hand_has_no_such_event,
    a_sandbox_that_hangs_after_losing_a_process_for_want_of_memory_ends,
    a_container_over_its_own_limit_ends_and_its_sibling_runs_on,
    a_container_that_runs_out_of_memory_is_soon_told_as_killed,
    on_version_2_the_kernel_kills_a_sandbox_as_a_whole,
];

const LIMIT: u64 = 128 << 20;

/// Eats memory until there is no more.
fn eater(h: &Harness) -> Spec {
    if cgroup::is_v2() && h.runtime == Runtime::Curfew {
        // To a file, which a sandbox has in memory: in the virtual machine the other's page faults would take minutes.
        return Spec::new(["dd", "if=/dev/zero", "of=/eaten", "bs=1M"]);
    }
    // Keeps all that it reads until a line ends, and none does.
    Spec::new(["tail", "/dev/zero"])
}

/// Eating takes its time on an emulated processor.
const ENDS_WITHIN: Duration = Duration::from_secs(90);

fn topics(events: &[Event], id: &str) -> Vec<String> {
    events.iter().filter(|event| event.container_id == id).map(|event| event.topic.clone()).collect()
}

fn oom_killed(task: &Task) {
    assert_eq!(task.wait_for(ENDS_WITHIN).unwrap().status, 137);
}

fn a_container_that_eats_its_memory_ends_with_an_event_before_its_exit(h: &Harness) {
    let events = h.events();
    let task = h.start(eater(h).memory(LIMIT));
    oom_killed(&task);
    let id = task.id().to_owned();
    task.delete().unwrap();
    // runc's shim may be gone before its last event is out.
    let last = if h.runtime == Runtime::Curfew { "/tasks/delete" } else { "/tasks/exit" };
    let seen = events.wait_until(last, |all| topics(all, &id).contains(&last.to_owned()));
    let expected = ["/tasks/create", "/tasks/start", "/tasks/oom", "/tasks/exit", "/tasks/delete"];
    let seen = topics(&seen, &id);
    let come = seen.len();
    assert!(come == expected.len() || (h.runtime == Runtime::Runc && come + 1 == expected.len()), "{seen:?}");
    assert_eq!(seen, expected[..come]);
}

fn a_pod_that_runs_out_of_memory_ends_with_an_event_for_each_workload(h: &Harness) {
    let events = h.events();
    let pause = h.start(Spec::sleeper().sandbox("pause").memory(LIMIT));
    let sibling = h.start(Spec::sleeper().id("sibling").container_of("pause", pause.pid()));
    let eater = h.start(eater(h).id("eater").container_of("pause", pause.pid()));
    for task in [&eater, &sibling, &pause] {
        oom_killed(task);
    }
    for task in [eater, sibling, pause] {
        task.delete().unwrap();
    }
    let seen = events.wait_until("the last delete", |all| {
        all.iter().filter(|event| event.topic == "/tasks/delete").count() == 3
    });
    let ended = ["/tasks/create", "/tasks/start", "/tasks/oom", "/tasks/exit", "/tasks/delete"];
    assert_eq!(topics(&seen, "eater"), ended);
    assert_eq!(topics(&seen, "sibling"), ended);
    assert!(!topics(&seen, "pause").contains(&"/tasks/oom".to_owned()));
}

fn a_container_that_is_killed_by_hand_has_no_such_event(h: &Harness) {
    let events = h.events();
    let task = h.start(Spec::sleeper().memory(LIMIT));
    let id = task.id().to_owned();
    task.end().unwrap();
    let seen = events.wait_until("its delete", |all| topics(all, &id).contains(&"/tasks/delete".to_owned()));
    assert!(!topics(&seen, &id).contains(&"/tasks/oom".to_owned()));
}

fn memory_cgroup(h: &Harness, id: &str) -> PathBuf {
    let with = |file| cgroup::directory_with(h.containerd.namespace(), id, file);
    with("memory.oom_control").or_else(|| with("memory.events")).unwrap()
}

fn a_sandbox_that_hangs_after_losing_a_process_for_want_of_memory_ends(h: &Harness) {
    let task = h.start(Spec::sleeper().memory(LIMIT));
    let sandbox = Pid::from_raw(i32::try_from(task.pid()).unwrap());
    kill(sandbox, SIGSTOP).unwrap();
    // A process beside the sandbox, in its cgroup, stands for a gofer or for one of those that hold the guest's memory:
    // which one the kernel takes is its choice.
    let mut eater = Command::new("sh")
        .args(["-c", "read go; exec tail /dev/zero"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let cgroup = memory_cgroup(h, task.id());
    fs::write(cgroup.join("cgroup.procs"), eater.id().to_string()).unwrap();
    eater.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(!eater.wait().unwrap().success());
    let killed = Instant::now();
    oom_killed(&task);
    assert!(killed.elapsed() < Duration::from_secs(2), "{:?}", killed.elapsed());
    task.delete().unwrap();
}

/// Grows by 20 MiB a second.
const GROWING: &str = "
import time
held = []
while True:
    held.append(bytearray(b'x' * (2 << 20)))
    time.sleep(0.1)
";

fn a_container_over_its_own_limit_ends_and_its_sibling_runs_on(h: &Harness) {
    let events = h.events();
    let pause = h.start(Spec::sleeper().sandbox("pause"));
    // As kubelet limits a pod: above its sandbox's own cgroup.
    let pod = memory_cgroup(h, "pause").parent().unwrap().to_owned();
    let file = if cgroup::is_v2() { "memory.max" } else { "memory.limit_in_bytes" };
    fs::write(pod.join(file), (512 << 20).to_string()).unwrap();
    let sibling = h.start(Spec::sleeper().id("sibling").memory(64 << 20).container_of("pause", pause.pid()));
    let growing = Spec::new(["python3", "-c", GROWING]).image("python").id("growing").memory(64 << 20);
    let growing = h.start(growing.container_of("pause", pause.pid()));
    oom_killed(&growing);
    growing.delete().unwrap();
    let exec = sibling.exec(&ExecSpec::new(["echo", "lives"])).unwrap();
    exec.start().unwrap();
    assert_eq!(exec.wait().unwrap().status, 0);
    exec.delete().unwrap();
    for task in [sibling, pause] {
        task.end().unwrap();
    }
    let seen = events.wait_until("the last delete", |all| {
        all.iter().filter(|event| event.topic == "/tasks/delete" && event.exec_id.is_empty()).count() >= 3
    });
    let ended = ["/tasks/create", "/tasks/start", "/tasks/oom", "/tasks/exit", "/tasks/delete"];
    assert_eq!(topics(&seen, "growing"), ended);
    assert!(!topics(&seen, "sibling").contains(&"/tasks/oom".to_owned()));
}

/// The last moment at which the kernel still had memory to give to the cgroup in this directory: on version 2 before it
/// killed, on version 1, which counts no kills that late, before the limit was reached.
fn before_it_ran_out(directory: PathBuf) -> Option<Instant> {
    let mut last = Instant::now();
    let rose = || {
        let of = |file: &str| fs::read_to_string(directory.join(file));
        if cgroup::is_v2() {
            // systemd removes a scope that is empty: nothing but the kernel's kill empties this one.
            return of("memory.events").map_or(true, |text| !text.contains("oom_kill 0\n"));
        }
        of("memory.failcnt").is_ok_and(|text| text.trim() != "0")
    };
    harness::rpc::poll(ENDS_WITHIN, || {
        let looked = Instant::now();
        if rose() {
            return Some(last);
        }
        last = looked;
        None
    })
}

fn a_container_that_runs_out_of_memory_is_soon_told_as_killed(h: &Harness) {
    let task = h.start(eater(h).memory(LIMIT));
    let directory = memory_cgroup(h, task.id());
    let looking = std::thread::spawn(|| before_it_ran_out(directory));
    oom_killed(&task);
    let told = Instant::now();
    let before = looking.join().unwrap().unwrap();
    let limit = Duration::from_secs(if cgroup::is_v2() { 2 } else { 5 });
    // A look that comes late makes it no shorter.
    let took = told.duration_since(before);
    assert!(took < limit, "{took:?}");
    task.delete().unwrap();
}

fn on_version_2_the_kernel_kills_a_sandbox_as_a_whole(h: &Harness) {
    let pod = h.pod_of_two();
    match cgroup::of_process(pod.pause.pid(), "memory.oom.group") {
        Some(directory) => {
            let group = fs::read_to_string(directory.join("memory.oom.group")).unwrap();
            assert_eq!(group, "1\n", "{}", directory.display());
        }
        None => assert!(!cgroup::is_v2()),
    }
    pod.delete();
}
