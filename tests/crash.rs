//! A shim that dies: containerd's `delete` ends and cleans the whole pod.
#![allow(clippy::print_stderr, reason = "figures for whoever reads the log")]
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::fs::{self, File};
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::{Duration, Instant};

use harness::shim::{Shim, Verb};
use harness::{Code, Harness, Signal, Spec, Task, proc::Process, rpc::poll};

harness::on_curfew_alone![
    a_killed_shim_takes_its_pod_of_two_with_it,
    a_shim_killed_during_create_leaves_nothing,
    a_shim_killed_with_an_expired_pod_answers_124,
    a_new_container_of_the_same_name_starts_after_a_crash,
    a_shim_outlives_sigterm,
    delete_cleans_up_after_a_shim_that_is_still_dying,
];

/// containerd gives `delete` five seconds.
const CLEANED_WITHIN: Duration = Duration::from_secs(5);

fn kill_shim_of(h: &Harness, id: &str) {
    let pid = Shim::of(&h.containerd, id).unwrap().pid(id).unwrap();
    Process::read(pid.cast_signed()).unwrap().signal(Signal::SIGKILL);
}

/// Waits until nothing of the pod runs, and says how long that took.
fn cleaned(h: &Harness) -> Duration {
    let since = Instant::now();
    let left = || harness::proc::of_test(h.containerd.namespace(), h.containerd.pid());
    let gone = poll(CLEANED_WITHIN, || (left().is_empty() && mounted(h).is_empty()).then_some(()));
    assert!(gone.is_some(), "after {CLEANED_WITHIN:?}: {:#?}, {:?}", left(), mounted(h));
    since.elapsed()
}

/// Waits until containerd has forgotten the task: while it cleans up, it only cannot reach it.
fn forgotten(task: &Task) {
    let gone = || task.state().is_err_and(|error| error.code == Code::NotFound);
    poll(CLEANED_WITHIN, || gone().then_some(())).unwrap();
}

/// The mounts in bundles.
fn mounted(h: &Harness) -> Vec<String> {
    let bundles = h.containerd.dir().join("state");
    let all = harness::machine::mounts().into_iter();
    all.filter(|mount| mount.is_below(&bundles)).map(|mount| mount.point.display().to_string()).collect()
}

fn a_killed_shim_takes_its_pod_of_two_with_it(h: &Harness) {
    let events = h.events();
    let pod = h.pod_of_two();
    kill_shim_of(h, "pause");
    let took = cleaned(h);
    eprintln!("cleaned {took:?} after the shim was killed");
    let exits =
        events.wait_until("both exits", |all| all.iter().filter(|e| e.topic == "/tasks/exit").count() == 2);
    for exit in exits.iter().filter(|event| event.topic == "/tasks/exit") {
        assert_eq!(exit.status, 137);
        assert!(exit.exited_at.is_some());
    }
    for task in [pod.workload, pod.pause] {
        // containerd has forgotten the tasks; the containers are the client's to remove.
        forgotten(&task);
        task.container().delete().unwrap();
    }
}

fn a_shim_killed_during_create_leaves_nothing(h: &Harness) {
    // At many moments, so that some hit runsc before it has written anything down and some after.
    for delay in (0..120).step_by(15) {
        let id = format!("early{delay}");
        let container = h.container(&Spec::sleeper().id(&id));
        let creating = {
            let container = container.clone();
            std::thread::spawn(move || container.create())
        };
        let address = poll(CLEANED_WITHIN, || Shim::of(&h.containerd, &id).ok()).unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        let serve = |p: &Process| p.command.contains(&format!("-id {id} ")) && p.command.ends_with("serve");
        let all = harness::proc::of_test(h.containerd.namespace(), h.containerd.pid());
        all.into_iter().filter(serve).for_each(|shim| shim.signal(Signal::SIGKILL));
        drop(address);
        let _ = creating.join().unwrap();
        cleaned(h);
        container.delete().unwrap();
    }
}

fn a_shim_killed_with_an_expired_pod_answers_124(h: &Harness) {
    let events = h.events();
    let script = "trap 'echo told' TERM; while true; do sleep 0.05; done";
    let spec = Spec::new(["sh", "-c", script]).annotation("curfew.dev/timeout", "300ms");
    let task = h.start(spec.annotation("curfew.dev/grace", "20s").id("late"));
    task.wait_for_output("told");
    kill_shim_of(h, "late");
    cleaned(h);
    let seen = events.wait_until("its exit", |all| all.iter().any(|event| event.topic == "/tasks/exit"));
    assert_eq!(seen.iter().find(|event| event.topic == "/tasks/exit").unwrap().status, 124);
    task.container().delete().unwrap();
}

fn a_new_container_of_the_same_name_starts_after_a_crash(h: &Harness) {
    let task = h.start(Spec::sleeper().id("again"));
    kill_shim_of(h, "again");
    cleaned(h);
    forgotten(&task);
    task.container().delete().unwrap();
    let output = h.run(Spec::new(["echo", "alive"]).id("again"));
    assert_eq!(output.stdout, "alive\n");
}

fn a_shim_outlives_sigterm(h: &Harness) {
    let task = h.start(Spec::sleeper().id("a"));
    let pid = Shim::of(&h.containerd, "a").unwrap().pid("a").unwrap();
    let shim = Process::read(pid.cast_signed()).unwrap();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        shim.signal(signal);
    }
    std::thread::sleep(Duration::from_millis(200));
    assert!(shim.is_alive());
    task.kill(Signal::SIGKILL).unwrap();
    assert_eq!(task.wait().unwrap().status, 137);
    task.delete().unwrap();
}

fn delete_cleans_up_after_a_shim_that_is_still_dying(h: &Harness) {
    let task = h.start(Spec::sleeper().id("a"));
    // Nobody else may call `delete`.
    h.containerd.kill9();
    let sandboxes = fs::read_dir(h.containerd.state_dir().join("s")).unwrap();
    let dir = sandboxes.map(|entry| entry.unwrap().path()).next().unwrap();
    let all = harness::proc::of_test(h.containerd.namespace(), None).into_iter();
    all.filter(|p| p.command.ends_with("serve")).for_each(|shim| shim.signal(Signal::SIGKILL));
    // Of its descriptors a killed process lets go one after the other: on a busy machine its lock and its socket are
    // there for milliseconds after containerd has seen its connection end.
    let lock = File::open(dir.join("lock")).unwrap();
    lock.lock().unwrap();
    fs::remove_file(dir.join("task.sock")).unwrap();
    let socket = UnixListener::bind(dir.join("task.sock")).unwrap();
    let dying = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        drop(socket);
        thread::sleep(Duration::from_millis(10));
        drop(lock);
    });
    let said = Verb::of(&h.containerd, "a", &h.containerd.bundle("a"), "delete").run(CLEANED_WITHIN).unwrap();
    assert!(said.status.unwrap().success(), "{}", String::from_utf8_lossy(&said.stderr));
    dying.join().unwrap();
    h.nothing_runs_within(CLEANED_WITHIN);
    h.containerd.restart();
    forgotten(&task);
    task.container().delete().unwrap();
}
