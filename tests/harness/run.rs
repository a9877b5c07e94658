//! A test from its first line to the look at what it left.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use containerd_client::services::v1 as api;
use nix::sys::signal::Signal;

use crate::leftovers::Snapshot;
use crate::rpc::{RpcError, poll};
use crate::{Container, Containerd, Events, Exit, Options, Spec, Task, janitor, orphans, proc, version};

/// Which runtime a test's containers have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// The reference: runc, by containerd's own shim.
    Runc,
    Curfew,
}

/// A running containerd and the runtime to use with it.
#[derive(Debug)]
pub struct Harness {
    pub runtime: Runtime,
    pub containerd: Arc<Containerd>,
}

/// What a container that ran to its end said.
#[derive(Debug)]
pub struct Output {
    pub exit: Exit,
    pub stdout: String,
    pub stderr: String,
}

/// A sandbox container and one more, both started.
#[derive(Debug)]
pub struct Pod {
    pub pause: Task,
    pub workload: Task,
}

/// Runs a test with a containerd of its own, and then looks for leftovers.
#[track_caller]
pub fn with(runtime: Runtime, test: impl FnOnce(&Harness)) {
    with_options(runtime, Options::default(), test);
}

/// As [`with`], on the containerd of which `scripts/versions.env` has the version under this key, and with these keys
/// in the class file.
#[track_caller]
pub fn with_version(runtime: Runtime, pin: &str, class: &str, test: impl FnOnce(&Harness)) {
    let options = Options { class: class.into(), ..Options::on(version::pin(pin)) };
    with_options(runtime, options, test);
}

/// As [`with`], with a containerd or a class file of another kind.
#[track_caller]
pub fn with_options(runtime: Runtime, options: Options, test: impl FnOnce(&Harness)) {
    // Tests of one process would see each other's leftovers. A failed one poisons nothing.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    orphans::adopt();
    janitor::sweep();
    let before = Snapshot::take();
    let containerd = Containerd::start(options);
    let harness = Harness { runtime, containerd: Arc::clone(&containerd) };
    let result = catch_unwind(AssertUnwindSafe(|| test(&harness)));
    if result.is_err() {
        // What the test had no chance to delete is not the shim's fault.
        harness.delete_everything();
    }
    let left = before.leftovers(&containerd);
    if result.is_err() || !left.is_empty() {
        harness.show_log();
    }
    drop(harness);
    match result {
        Err(failure) => {
            if !left.is_empty() {
                janitor::eprint_line(&format!("besides, this was left behind:\n{left}"));
            }
            drop(containerd);
            resume_unwind(failure);
        }
        Ok(()) => {
            drop(containerd);
            assert!(left.is_empty(), "left behind:\n{left}");
        }
    }
}

impl Harness {
    /// A created task; the test fails if it can't be made.
    #[track_caller]
    pub fn create(&self, spec: Spec) -> Task {
        match self.try_create(spec) {
            Ok(task) => task,
            Err(error) => panic!("failed to create a task: {error}"),
        }
    }

    /// A created task. On failure the container is removed again.
    pub fn try_create(&self, spec: Spec) -> Result<Task, RpcError> {
        let container = self.containerd.container(self.runtime, &spec)?;
        container.create().inspect_err(|_| {
            // The first error is the one to report, and what stays is seen by the leftover check.
            let _ = container.delete();
        })
    }

    /// A container without a task.
    #[track_caller]
    pub fn container(&self, spec: &Spec) -> Container {
        match self.containerd.container(self.runtime, spec) {
            Ok(container) => container,
            Err(error) => panic!("failed to make a container: {error}"),
        }
    }

    /// A created and started task.
    #[track_caller]
    pub fn start(&self, spec: Spec) -> Task {
        let task = self.create(spec);
        match task.start() {
            Ok(_) => task,
            Err(error) => panic!("failed to start {}: {error}", task.id()),
        }
    }

    /// Creates, starts, waits and deletes.
    #[track_caller]
    pub fn run(&self, spec: Spec) -> Output {
        let task = self.start(spec);
        let exit = task.wait().and_then(|exit| task.delete().map(|_| exit));
        match exit {
            Ok(exit) => Output { exit, stdout: task.stdout(), stderr: task.stderr() },
            Err(error) => panic!("failed to run {}: {error}", task.id()),
        }
    }

    /// A pod with its sandbox and one container, which both stay until they are killed.
    #[track_caller]
    pub fn pod_of_two(&self) -> Pod {
        self.pod_with(Spec::sleeper().id("workload"))
    }

    /// A pod with its sandbox and this container.
    #[track_caller]
    pub fn pod_with(&self, workload: Spec) -> Pod {
        let pause = self.start(Spec::sleeper().sandbox("pause"));
        let pid = pause.state().map_or(pause.pid(), |state| state.pid);
        let workload = self.start(workload.container_of("pause", pid));
        Pod { pause, workload }
    }

    /// The events from now on.
    #[track_caller]
    pub fn events(&self) -> Events {
        self.containerd.events()
    }

    /// Waits until no process of the test runs but containerd; the test fails if that takes longer.
    #[track_caller]
    pub fn nothing_runs_within(&self, limit: Duration) {
        let left = || proc::of_test(self.containerd.namespace(), self.containerd.pid());
        if poll(limit, || left().is_empty().then_some(())).is_none() {
            panic!("after {limit:?} there still runs: {:#?}", left());
        }
    }

    /// Kills and deletes all tasks and containers, as far as that works.
    fn delete_everything(&self) {
        let containerd = &self.containerd;
        containerd.resume();
        if containerd.pid().is_none() {
            let started = catch_unwind(AssertUnwindSafe(|| containerd.restart()));
            if started.is_err() {
                return;
            }
        }
        let list = api::ListContainersRequest::default();
        let mut containers = containerd.client().containers();
        let all = containerd.ask(containers.list(containerd.request(list)));
        let mut all = all.map(|all| all.containers).unwrap_or_default();
        // A pod's sandbox was made first and goes last.
        all.sort_by_key(|container| container.created_at.map(|at| (at.seconds, at.nanos)));
        for container in all.iter().rev() {
            self.delete_by_id(&container.id);
        }
    }

    fn delete_by_id(&self, id: &str) {
        let container = Container::existing(&self.containerd, id);
        let task = Task::existing(container);
        let _ = task.kill(Signal::SIGKILL);
        let _ = task.wait_for(Duration::from_secs(5));
        let _ = task.delete_task();
        let _ = task.container().delete();
        let _ = self.containerd.forget_pod(id);
    }

    fn show_log(&self) {
        let log = self.containerd.log();
        let lines: Vec<&str> = log.lines().filter(|line| !line.contains("loading plugin")).collect();
        let tail = &lines[lines.len().saturating_sub(40)..];
        janitor::eprint_line(&format!("the end of containerd's log:\n{}", tail.join("\n")));
    }
}

impl Pod {
    /// Kills and deletes both, the sandbox last.
    #[track_caller]
    pub fn delete(self) {
        for task in [&self.workload, &self.pause] {
            // It may have ended already.
            let _ = task.kill(Signal::SIGKILL);
            let gone = task.wait().and_then(|_| task.delete());
            assert!(gone.is_ok(), "failed to delete {}: {gone:?}", task.id());
        }
    }
}
