//! A pod whose time runs, with all that must not outlive it, and what is asked of its end.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use harness::{
    Code, Event, Harness, Options, Pod, Runtime, Signal, Spec, cgroup, proc::Process, rpc::poll, shim::Shim,
    with_options,
};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;

pub(crate) const UID: &str = "0f5c2c7e-1111-4222-8333-94f5d8c1a001";
/// The watchdog gives the shim so long to do it.
pub(crate) const MARGIN: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(10);

/// Shared machines are noisy; the figures that are promised come from a benchmark.
pub(crate) fn lateness() -> Duration {
    // An emulated processor takes its time to end a process.
    Duration::from_millis(if cgroup::is_v2() { 3000 } else { 500 })
}

/// The life of a pod that is to end with it.
pub(crate) const SHORT: Life = Life { limit: 3, grace: 0 };

/// The life of a pod that is to end before it is over, however slow the machine is.
pub(crate) fn long() -> Life {
    Life { limit: if cgroup::is_v2() { 15 } else { 4 }, grace: 0 }
}

/// How long a pod may live, and how long its workload has from TERM to KILL, in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    pub(crate) limit: u64,
    pub(crate) grace: u64,
}

/// A test on a node where kubelet's directories are the test's own.
pub(crate) fn on_a_node(test: impl FnOnce(&Harness)) {
    on_a_node_with("", test);
}

/// As [`on_a_node`], with keys of the class.
pub(crate) fn on_a_node_with(class: &str, test: impl FnOnce(&Harness)) {
    let node = "version = 1\n[pod]\nhost_path = \"allow\"\n".into();
    let options = Options { node, class: class.into(), ..Options::default() };
    with_options(Runtime::Curfew, options, test);
}

pub(crate) fn pause(id: &str, life: Life) -> Spec {
    let pause = Spec::sleeper().sandbox(id).annotation("curfew.dev/timeout", &format!("{}s", life.limit));
    let pause = pause.annotation("curfew.dev/grace", &format!("{}s", life.grace));
    let pause = pause.annotation("io.kubernetes.cri.sandbox-uid", UID);
    pause.annotation("io.kubernetes.cri.sandbox-name", "agent")
}

/// A pod whose time runs.
pub(crate) struct Running<'h> {
    h: &'h Harness,
    pub(crate) pod: Pod,
    life: Life,
    /// When its time is up.
    due: SystemTime,
    /// Those that must not outlive it.
    processes: Vec<Process>,
    /// What kubelet would show of the workload's end.
    termination_log: PathBuf,
}

pub(crate) fn processes(h: &Harness, is_it: impl Fn(&str) -> bool) -> Vec<Process> {
    let all = harness::proc::of_test(h.containerd.namespace(), h.containerd.pid());
    all.into_iter().filter(|process| is_it(&process.command)).collect()
}

/// When a sandbox's time is up, as its record has it on a clock that nobody can set, and by the wall's clock of now.
pub(crate) fn recorded_due(h: &Harness, sandbox: &str) -> SystemTime {
    let dirs = fs::read_dir(h.containerd.state_dir().join("s")).unwrap().flatten();
    let records = dirs.filter_map(|dir| fs::read(dir.path().join("record.json")).ok());
    let records = records.map(|text| serde_json::from_slice::<Value>(&text).unwrap());
    let record = records.into_iter().find(|record| record["sandbox"] == sandbox).unwrap();
    let due = record["span"]["due"]["boottime"].as_u64().unwrap_or_else(|| panic!("{record:#}"));
    let now = clock_gettime(ClockId::Boottime);
    let now = Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap());
    SystemTime::now() + Duration::from_nanos(due) - now
}

/// By SIGKILL to its processes; through its cgroup too where they take more than a moment to end.
pub(crate) const BY_SHIM: &[&str] = &["process", "cgroup"];
pub(crate) const BY_WATCHDOG: &[&str] = &["watchdog"];

impl<'h> Running<'h> {
    pub(crate) fn start(h: &'h Harness, life: Life) -> Self {
        let pause = h.start(pause("pause", life));
        let termination_log = h.termination_log(UID, "endless");
        let endless = Spec::new(["sh", "-c", "trap '' TERM; while true; do :; done"]).id("endless");
        let endless = endless.bind(&termination_log, "/dev/termination-log", &["rw"]);
        let workload = h.start(endless.container_of("pause", pause.pid()));
        let due = recorded_due(h, "pause");
        let processes = processes(h, |command| command.starts_with("runsc-"));
        assert!(processes.len() >= 3, "{processes:#?}");
        Self { h, pod: Pod { pause, workload }, life, due, processes, termination_log }
    }

    pub(crate) fn shim(&self) -> Process {
        let pid = Shim::of(&self.h.containerd, "pause").unwrap().pid("pause").unwrap();
        Process::read(pid.cast_signed()).unwrap()
    }

    pub(crate) fn watchdog(&self) -> Process {
        let found = processes(self.h, |command| command.ends_with(" watchdog"));
        assert_eq!(found.len(), 1, "{found:#?}");
        found.into_iter().next().unwrap()
    }

    /// Sends a signal to the processes of the sandbox whose name begins so.
    pub(crate) fn signal(&self, name: &str, signal: Signal) {
        let named: Vec<_> = self.processes.iter().filter(|p| p.command.starts_with(name)).collect();
        assert!(!named.is_empty(), "{:#?}", self.processes);
        named.iter().for_each(|process| process.signal(signal));
    }

    pub(crate) fn due(&self) -> SystemTime {
        self.due
    }

    pub(crate) fn is_there(&self) -> bool {
        self.processes.iter().all(Process::is_alive)
    }

    /// Waits until nothing of it is left.
    #[track_caller]
    pub(crate) fn wait_until_gone(&self) {
        let patience = Duration::from_secs(30);
        let until = Instant::now() + patience;
        while self.processes.iter().any(Process::is_alive) {
            assert!(Instant::now() < until, "still there after {patience:?}: {:#?}", self.processes);
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    /// Waits until nothing of it is left, which must be within `limit` of `since`, and not before.
    #[track_caller]
    pub(crate) fn is_gone(&self, since: SystemTime, limit: Duration) -> SystemTime {
        self.wait_until_gone();
        let gone = SystemTime::now();
        say(gone.duration_since(since).unwrap_or_default(), limit);
        assert!(gone >= since, "{:?} early", since.duration_since(gone));
        gone
    }

    /// As [`Self::is_gone`], and that this was long before its time was up.
    #[track_caller]
    pub(crate) fn is_gone_at_once(&self, since: SystemTime, limit: Duration) {
        let gone = self.is_gone(since, limit);
        assert!(gone < self.due(), "{:?} after its deadline", gone.duration_since(self.due()));
    }

    /// What a shim that is there answers, and what holds from then on.
    pub(crate) fn ends_with_124(self, by: &[&str]) {
        for task in [&self.pod.workload, &self.pod.pause] {
            assert_eq!(task.wait_for(PATIENCE).unwrap().status, 124, "{}", task.id());
        }
        says(&self.termination_log, self.life, "DeadlineExceeded");
        for task in [&self.pod.workload, &self.pod.pause] {
            task.delete().unwrap();
        }
        was_ended_by(self.h, by);
        is_refused(self.h, self.life);
    }

    /// What is left to do where containerd has cleaned up after the shim, which says this of the end; and that no other
    /// attempt is made once the time is up.
    pub(crate) fn see_it_forgotten(self, reason: &str) {
        for task in [&self.pod.workload, &self.pod.pause] {
            let forgotten = || task.state().is_err_and(|error| error.code == Code::NotFound);
            assert!(poll(PATIENCE, || forgotten().then_some(())).is_some(), "{}", task.id());
        }
        says(&self.termination_log, self.life, reason);
        for task in [&self.pod.workload, &self.pod.pause] {
            task.container().delete().unwrap();
        }
        self.h.nothing_runs_within(Duration::from_secs(5));
        // Until then another attempt would have what is left of its time.
        std::thread::sleep(self.due().duration_since(SystemTime::now()).unwrap_or_default());
        is_refused(self.h, self.life);
    }
}

/// What the ledger says that the pod was ended by, one of these.
#[track_caller]
pub(crate) fn was_ended_by(h: &Harness, by: &[&str]) {
    let path = h.containerd.dir().join("ledger").join(UID).with_extension("json");
    let ended_by = || {
        let entry: Value = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        entry["ended_by"].as_str().map(str::to_owned)
    };
    let found = poll(PATIENCE, ended_by);
    assert!(found.as_deref().is_some_and(|found| by.contains(&found)), "{found:?} instead of {by:?}");
}

/// What the termination message says once kubelet may read it: that a pod of this life ended so.
#[track_caller]
pub(crate) fn says(file: &Path, life: Life, reason: &str) {
    let line = fs::read_to_string(file).unwrap();
    let message: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
    assert_eq!(message["reason"], reason, "{line}");
    assert_eq!(message["limit"], format!("{}s", life.limit), "{line}");
    eprintln!("termination message: {}", line.trim_end());
}

/// Says how late it was, and sees that this wasn't too late.
#[track_caller]
pub(crate) fn say(late: Duration, limit: Duration) {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    eprintln!("lateness {name}: {late:?}");
    assert!(late < limit, "{late:?} late");
}

/// The exits of both containers, as containerd tells of them.
#[track_caller]
pub(crate) fn both_exits_are(events: &harness::Events, status: u32) {
    let exits = |all: &[Event]| all.iter().filter(|event| event.topic == "/tasks/exit").count() == 2;
    for exit in events.wait_until("both exits", exits).iter().filter(|event| event.topic == "/tasks/exit") {
        assert_eq!(exit.status, status);
    }
}

/// Another attempt at the pod, in another sandbox.
#[track_caller]
pub(crate) fn is_refused(h: &Harness, life: Life) {
    let refused = h.try_create(pause("another", life)).unwrap_err();
    assert_eq!(refused.code, Code::FailedPrecondition, "{refused}");
    for words in [UID, "expired", "DeadlineExceeded", &format!("{}s", life.limit)] {
        assert!(refused.message.contains(words), "{words}: {refused}");
    }
}
