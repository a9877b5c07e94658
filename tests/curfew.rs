//! Nothing outlives its limit, whatever dies or hangs on the node. Each test says how late the sandbox was gone.
#![allow(clippy::print_stderr, reason = "figures for whoever reads the log")]
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(clippy::disallowed_methods, reason = "a cgroup's file, and processors that are kept busy")]

use std::{
    fs,
    time::{Duration, SystemTime},
};

use harness::{
    Code, Harness, Options, Pod, Runtime, Signal, Spec, cgroup, proc::Process, rpc::poll, shim::Shim,
    with_options,
};

harness::on_curfew_alone![
    on_time_where_nothing_is_wrong,
    on_time_though_the_workload_ignores_term,
    at_once_with_a_shim_that_is_killed,
    on_time_without_containerd,
    at_once_without_a_shim_and_containerd,
    by_the_watchdog_where_the_shim_is_stopped,
    on_time_though_the_sandbox_is_stopped,
    on_time_though_the_gofer_is_stopped,
    on_time_though_the_sandbox_is_paused,
    on_time_though_the_cgroup_is_frozen,
    on_time_without_the_watchdog_that_was_killed,
    by_delete_without_a_shim_and_its_watchdog,
    on_time_though_the_processors_are_busy,
];

const UID: &str = "0f5c2c7e-1111-4222-8333-94f5d8c1a001";
const LIMIT: Duration = Duration::from_secs(3);
/// Shared machines are noisy; the figures that are promised come from a benchmark.
fn lateness() -> Duration {
    // An emulated processor takes its time to end a process.
    Duration::from_millis(if cgroup::is_v2() { 3000 } else { 500 })
}

/// The watchdog gives the shim so long to do it.
const MARGIN: Duration = Duration::from_secs(2);

fn pause(id: &str, grace: &str) -> Spec {
    let pause = Spec::sleeper().sandbox(id).annotation("curfew.dev/timeout", "3s");
    let pause = pause.annotation("curfew.dev/grace", grace).annotation("io.kubernetes.cri.sandbox-uid", UID);
    pause.annotation("io.kubernetes.cri.sandbox-name", "agent")
}

/// A pod whose time runs.
struct Running<'h> {
    h: &'h Harness,
    pod: Pod,
    /// The latest moment at which it may have begun.
    started: SystemTime,
    /// Those that must not outlive it.
    processes: Vec<Process>,
}

fn processes(h: &Harness, is_it: impl Fn(&str) -> bool) -> Vec<Process> {
    let all = harness::proc::of_test(h.containerd.namespace(), h.containerd.pid());
    all.into_iter().filter(|process| is_it(&process.command)).collect()
}

impl<'h> Running<'h> {
    fn start(h: &'h Harness) -> Self {
        Self::with_grace(h, "0s")
    }

    fn with_grace(h: &'h Harness, grace: &str) -> Self {
        let pause = h.start(pause("pause", grace));
        let endless = Spec::new(["sh", "-c", "trap '' TERM; while true; do :; done"]).id("endless");
        let workload = h.start(endless.container_of("pause", pause.pid()));
        let started = SystemTime::now();
        let processes = processes(h, |command| command.starts_with("runsc-"));
        assert!(processes.len() >= 3, "{processes:#?}");
        Self { h, pod: Pod { pause, workload }, started, processes }
    }

    fn shim(&self) -> Process {
        let pid = Shim::of(&self.h.containerd, "pause").unwrap().pid("pause").unwrap();
        Process::read(pid.cast_signed()).unwrap()
    }

    fn watchdog(&self) -> Process {
        let found = processes(self.h, |command| command.ends_with(" watchdog"));
        assert_eq!(found.len(), 1, "{found:#?}");
        found.into_iter().next().unwrap()
    }

    /// The processes of the sandbox whose name begins so.
    fn named(&self, name: &str) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(move |process| process.command.starts_with(name))
    }

    /// Waits until nothing of it is left, which must be within `limit` of `since`, and not before.
    #[track_caller]
    fn is_gone(&self, since: SystemTime, limit: Duration) {
        let patience = Duration::from_secs(20);
        let gone =
            poll(patience, || self.processes.iter().all(|process| !process.is_alive()).then(SystemTime::now));
        let gone = gone.unwrap_or_else(|| panic!("still there after {patience:?}: {:#?}", self.processes));
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        let late = gone.duration_since(since).unwrap_or_default();
        eprintln!("lateness {name}: {late:?}");
        // The clock begins within Start.
        assert!(gone + Duration::from_millis(500) > since, "{:?} early", since.duration_since(gone));
        assert!(late < limit, "{late:?} late");
    }

    fn due(&self) -> SystemTime {
        self.started + LIMIT
    }

    /// What a shim that is there answers.
    fn ends_with(self, status: u32) {
        for task in [&self.pod.workload, &self.pod.pause] {
            assert_eq!(task.wait_for(Duration::from_secs(10)).unwrap().status, status, "{}", task.id());
        }
        for task in [&self.pod.workload, &self.pod.pause] {
            task.delete().unwrap();
        }
        is_refused(self.h);
    }

    /// What is left to do where containerd has cleaned up after the shim.
    fn see_it_forgotten(self) {
        for task in [&self.pod.workload, &self.pod.pause] {
            let forgotten = || task.state().is_err_and(|error| error.code == Code::NotFound);
            assert!(poll(Duration::from_secs(10), || forgotten().then_some(())).is_some(), "{}", task.id());
            task.container().delete().unwrap();
        }
        self.h.nothing_runs_within(Duration::from_secs(5));
        // Until then another attempt would have what is left of its time.
        std::thread::sleep(
            self.started.checked_add(LIMIT).unwrap().duration_since(SystemTime::now()).unwrap_or_default(),
        );
        is_refused(self.h);
    }
}

/// Another attempt at the pod, in another sandbox.
#[track_caller]
fn is_refused(h: &Harness) {
    let refused = h.try_create(pause("another", "0s")).unwrap_err();
    assert_eq!(refused.code, Code::FailedPrecondition, "{refused}");
    for words in [UID, "expired", "DeadlineExceeded", "3s"] {
        assert!(refused.message.contains(words), "{words}: {refused}");
    }
}

fn on_time_where_nothing_is_wrong(h: &Harness) {
    let running = Running::start(h);
    running.is_gone(running.due(), lateness());
    running.ends_with(124);
}

fn on_time_though_the_workload_ignores_term(h: &Harness) {
    let running = Running::with_grace(h, "1s");
    running.is_gone(running.due() + Duration::from_secs(1), lateness());
    running.ends_with(124);
}

fn at_once_with_a_shim_that_is_killed(h: &Harness) {
    let events = h.events();
    let running = Running::start(h);
    running.shim().signal(Signal::SIGKILL);
    running.is_gone(SystemTime::now(), lateness());
    let exits = |all: &[harness::Event]| all.iter().filter(|event| event.topic == "/tasks/exit").count() == 2;
    for exit in events.wait_until("both exits", exits).iter().filter(|event| event.topic == "/tasks/exit") {
        assert_eq!(exit.status, 137);
    }
    running.see_it_forgotten();
}

fn on_time_without_containerd(h: &Harness) {
    let running = Running::start(h);
    h.containerd.kill9();
    running.is_gone(running.due(), lateness());
    h.containerd.restart();
    running.ends_with(124);
}

fn at_once_without_a_shim_and_containerd(h: &Harness) {
    let running = Running::start(h);
    let shim = running.shim();
    h.containerd.kill9();
    shim.signal(Signal::SIGKILL);
    running.is_gone(SystemTime::now(), lateness());
    h.containerd.restart();
    running.see_it_forgotten();
}

#[test]
fn on_time_without_a_shim_and_containerd_where_the_node_holds() {
    let class = "[timeout]\non_shim_loss = \"hold\"\n".into();
    with_options(Runtime::Curfew, Options { class, ..Options::default() }, |h| {
        let running = Running::start(h);
        let shim = running.shim();
        h.containerd.kill9();
        shim.signal(Signal::SIGKILL);
        running.is_gone(running.due(), lateness());
        h.containerd.restart();
        running.see_it_forgotten();
    });
}

fn by_the_watchdog_where_the_shim_is_stopped(h: &Harness) {
    let running = Running::start(h);
    let shim = running.shim();
    shim.signal(Signal::SIGSTOP);
    running.is_gone(running.due() + MARGIN, lateness());
    shim.signal(Signal::SIGCONT);
    running.ends_with(124);
}

fn on_time_though_the_sandbox_is_stopped(h: &Harness) {
    let running = Running::start(h);
    running.named("runsc-sandbox").for_each(|process| process.signal(Signal::SIGSTOP));
    running.is_gone(running.due(), lateness());
    running.ends_with(124);
}

fn on_time_though_the_gofer_is_stopped(h: &Harness) {
    let running = Running::start(h);
    running.named("runsc-gofer").for_each(|process| process.signal(Signal::SIGSTOP));
    running.is_gone(running.due(), lateness());
    running.ends_with(124);
}

fn on_time_though_the_sandbox_is_paused(h: &Harness) {
    // A container with siblings cannot be paused.
    let task = h.start(pause("alone", "0s").edit(|spec| {
        spec["annotations"].as_object_mut().unwrap().remove("io.kubernetes.cri.container-type");
        spec["annotations"].as_object_mut().unwrap().remove("io.kubernetes.cri.sandbox-id");
    }));
    let due = SystemTime::now() + LIMIT;
    task.pause().unwrap();
    assert_eq!(task.wait_for(Duration::from_secs(10)).unwrap().status, 124);
    let late = SystemTime::now().duration_since(due).unwrap_or_default();
    eprintln!("lateness of a paused sandbox: {late:?}");
    assert!(late < lateness(), "{late:?}");
    task.delete().unwrap();
    is_refused(h);
}

fn on_time_though_the_cgroup_is_frozen(h: &Harness) {
    let running = Running::start(h);
    let (file, frozen) = if cgroup::is_v2() { ("cgroup.freeze", "1") } else { ("freezer.state", "FROZEN") };
    let directory = cgroup::of_process(running.pod.pause.pid(), file).unwrap();
    fs::write(directory.join(file), frozen).unwrap();
    running.is_gone(running.due(), lateness());
    running.ends_with(124);
}

fn on_time_without_the_watchdog_that_was_killed(h: &Harness) {
    let running = Running::start(h);
    let first = running.watchdog();
    first.signal(Signal::SIGKILL);
    let another =
        || processes(h, |command| command.ends_with(" watchdog")).iter().any(|p| p.pid != first.pid);
    poll(Duration::from_secs(2), || another().then_some(())).unwrap();
    assert!(h.containerd.log().contains("the watchdog is lost"));
    // The other one knows what the first did.
    let shim = running.shim();
    shim.signal(Signal::SIGSTOP);
    running.is_gone(running.due() + MARGIN, lateness());
    shim.signal(Signal::SIGCONT);
    running.ends_with(124);
}

fn by_delete_without_a_shim_and_its_watchdog(h: &Harness) {
    let running = Running::start(h);
    let (shim, watchdog) = (running.shim(), running.watchdog());
    // Stopped first, so that it cannot start another.
    shim.signal(Signal::SIGSTOP);
    watchdog.signal(Signal::SIGKILL);
    shim.signal(Signal::SIGKILL);
    running.is_gone(SystemTime::now(), Duration::from_secs(5));
    running.see_it_forgotten();
}

fn on_time_though_the_processors_are_busy(h: &Harness) {
    let busy = std::sync::atomic::AtomicBool::new(true);
    let processors = std::thread::available_parallelism().unwrap().get();
    std::thread::scope(|scope| {
        for _ in 0..processors * 2 {
            scope.spawn(|| {
                while busy.load(std::sync::atomic::Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let running = Running::start(h);
        running.is_gone(running.due(), Duration::from_secs(1));
        busy.store(false, std::sync::atomic::Ordering::Relaxed);
        running.ends_with(124);
    });
}
