//! A pod with a script that never ends and does as if it had not been told to.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::proc::{self, Process};
use harness::shim::Shim;
use harness::{Harness, Spec, Task, cgroup};
use serde_json::Value;

use super::Result;
use super::watch::Watch;

/// What a workload does while it has time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    /// Uses all the processor time that it gets.
    Endless,
    /// Waits, so that many fit on a machine.
    Idle,
}

/// A pod whose time runs.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) number: usize,
    /// The sandbox's directory below Curfew's state directory.
    dir: PathBuf,
    /// When its time is up, in nanoseconds since boot.
    pub(crate) due: u64,
    pause: Task,
    workload: Task,
}

/// A number that no pod has had: one that has expired would be refused.
pub(crate) fn next_number() -> usize {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

/// The UID of the pod with that number.
pub(crate) fn uid(number: usize) -> String {
    format!("0f5c2c7e-1111-4222-8333-{number:012}")
}

/// A pod's sandbox with a limit, such as `1s`, and no grace.
fn sandbox(number: usize, limit: &str) -> Spec {
    Spec::sleeper()
        .sandbox(&format!("pod{number}"))
        .annotation("io.kubernetes.cri.sandbox-uid", &uid(number))
        .annotation("curfew.dev/timeout", limit)
        .annotation("curfew.dev/grace", "0s")
}

/// A pod's workload.
fn workload(number: usize, pause: &Task, work: Work) -> Spec {
    let script = match work {
        Work::Endless => "trap '' TERM; while true; do :; done",
        Work::Idle => "trap '' TERM; while true; do sleep 1000; done",
    };
    let id = format!("work{number}");
    Spec::new(["sh", "-c", script]).id(id).container_of(&format!("pod{number}"), pause.pid())
}

impl Pod {
    /// Starts another one.
    pub(crate) fn start(h: &Harness, limit: &str, work: Work) -> Result<Self> {
        Self::start_as(h, next_number(), limit, work)
    }

    /// Starts it, which has its clock begin unless an earlier attempt at it has.
    pub(crate) fn start_as(h: &Harness, number: usize, limit: &str, work: Work) -> Result<Self> {
        let pause = h.try_create(sandbox(number, limit))?;
        pause.start()?;
        let workload = h.try_create(workload(number, &pause, work))?;
        workload.start()?;
        let (dir, due) = recorded(&h.containerd.state_dir(), pause.id())?;
        Ok(Self { number, dir, due, pause, workload })
    }

    /// Has its processes watched, of which `all` are those of the machine.
    pub(crate) fn watch(&self, all: &[Process], watch: &mut Watch) -> Result<()> {
        let root = self.dir.display().to_string();
        let cgroup =
            cgroup::of_process(self.pause.pid(), "cgroup.procs").ok_or("no cgroup of the sandbox")?;
        let file = cgroup.join("cgroup.procs");
        let members = fs::read_to_string(&file)?;
        let is_member = |p: &Process| members.lines().any(|line| line == p.pid.to_string());
        let is_runsc = |p: &Process| p.command.starts_with("runsc-") && p.command.contains(&root);
        let its: Vec<Process> = all.iter().filter(|p| is_runsc(p) || is_member(p)).cloned().collect();
        // The sentry, and a gofer for each container.
        if its.iter().filter(|process| is_runsc(process)).count() < 3 {
            return Err(format!("not all of {} is there: {its:#?}", self.pause.id()).into());
        }
        watch.add(&its, file)
    }

    /// Its shim.
    pub(crate) fn shim(&self) -> Result<Process> {
        let pid = Shim::of(self.pause.containerd(), self.pause.id())?.pid(self.pause.id())?;
        Ok(Process::read(pid.cast_signed()).ok_or("the shim has ended")?)
    }

    /// Its watchdog, where it is the only pod.
    pub(crate) fn watchdog(&self) -> Result<Process> {
        let containerd = self.pause.containerd();
        let all = proc::of_test(containerd.namespace(), containerd.pid());
        let found = all.into_iter().find(|process| process.command.ends_with(" watchdog"));
        Ok(found.ok_or("there is no watchdog")?)
    }

    /// Waits for the answer that its time is up, and deletes it.
    pub(crate) fn expired(self) -> Result<()> {
        self.ended(124)
    }

    /// Waits for the answer that it has ended with this status, and deletes it.
    pub(crate) fn ended(self, expected: u32) -> Result<()> {
        for task in [&self.workload, &self.pause] {
            let status = task.wait()?.status;
            if status != expected {
                return Err(format!("{} ended with {status}", task.id()).into());
            }
        }
        self.delete()
    }

    fn delete(self) -> Result<()> {
        self.workload.delete()?;
        self.pause.delete()?;
        Ok(())
    }

    /// Waits until containerd has cleaned up after a shim that is gone.
    pub(crate) fn forgotten(self) -> Result<()> {
        for task in [&self.workload, &self.pause] {
            let bundle = task.containerd().bundle(task.id());
            let forgotten = || (task.state().is_err() && !bundle.exists()).then_some(());
            harness::rpc::poll(std::time::Duration::from_secs(20), forgotten)
                .ok_or_else(|| format!("containerd still knows {}", task.id()))?;
            task.container().delete()?;
        }
        Ok(())
    }
}

/// The directory of a sandbox, and when its time is up.
fn recorded(state_dir: &Path, sandbox: &str) -> Result<(PathBuf, u64)> {
    for entry in fs::read_dir(state_dir.join("s"))? {
        let dir = entry?.path();
        let Ok(text) = fs::read(dir.join("record.json")) else { continue };
        let record: Value = serde_json::from_slice(&text)?;
        if record["sandbox"] == sandbox {
            let due = record["span"]["due"]["boottime"].as_u64();
            return Ok((dir, due.ok_or("the sandbox's record has no deadline")?));
        }
    }
    Err(format!("no record of sandbox {sandbox}").into())
}
