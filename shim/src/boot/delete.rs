//! `delete`: containerd's word that a shim may be gone, once for each container.
//!
//! While the shim lives it is not our business and costs next to nothing. Once it is gone, the first call ends and
//! cleans the whole pod from the sandbox record, since with version 3 only the sandbox's id is ever asked for, and
//! leaves a note in each bundle for the calls that follow.

use std::{
    io::{self, Write},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};

use crate::{
    args::Args,
    deadline::{clock::Boottime, escalate::Step, span::Span},
    last_checkpoint::LastCheckpoint,
    ledger::{Ledger, LedgerError, Reason, Verdict},
    pod::message::message,
    process::{Exit, PidFd, STATUS_KILLED, STATUS_TIMED_OUT},
    record::{BundleNote, ContainerRecord, SandboxRecord},
    rootfs,
    sandbox_dir::{Lock, SandboxDir},
    stats,
    termination::{Cause, Usage},
    watchdog::SandboxEnd,
    wire::bootstrap::delete_reply,
};

/// containerd kills the whole call after 5 s.
const KILLING: Duration = Duration::from_secs(2);
/// How long a cgroup may be busy after its last member has ended.
const REMOVING: Duration = Duration::from_millis(500);
/// How long another call's cleaning of the same pod is waited for.
const OTHER_CALL: Duration = Duration::from_secs(4);

/// Cleans up if the shim is gone, and prints how the container ended.
///
/// # Errors
/// What is left, in one line.
pub(crate) fn delete(args: &Args) -> anyhow::Result<()> {
    let bundle = bundle_of(args)?;
    let note = BundleNote::read(&bundle).context("reading the note in the bundle")?;
    let (pid, exit) = match note {
        // Nothing of ours was ever made for this bundle.
        None => (0, Exit::now(STATUS_KILLED)),
        Some(BundleNote { exit: Some(exit), .. }) => (0, exit),
        Some(BundleNote { sandbox_dir, exit: None }) => {
            let (pid, of_pod) = clean_if_abandoned(&SandboxDir::at(sandbox_dir))?.unzip();
            // Each container's own is in its bundle by now.
            let noted = BundleNote::read(&bundle).context("reading the note in the bundle")?;
            let exit = noted.and_then(|note| note.exit).or(of_pod);
            (pid.unwrap_or(0), exit.unwrap_or_else(|| Exit::now(STATUS_KILLED)))
        }
    };
    let reply = delete_reply(pid, exit)?;
    io::stdout().lock().write_all(&reply).context("writing the reply")
}

fn bundle_of(args: &Args) -> anyhow::Result<PathBuf> {
    if args.bundle.as_os_str().is_empty() {
        return std::env::current_dir().context("finding the bundle");
    }
    Ok(args.bundle.clone())
}

/// Cleans the pod if its shim is gone. `None` if there is nothing to clean, or no longer: the shim lives, or a call
/// for another container of the pod has just cleaned all of it. containerd removes the bundle after this call, so it
/// must not return while another one is at it.
fn clean_if_abandoned(dir: &SandboxDir) -> anyhow::Result<Option<(u32, Exit)>> {
    match dir.lock_or_served(OTHER_CALL) {
        Ok(Lock::Taken(_lock)) => clean_pod(dir).map(Some),
        Ok(Lock::Held) => Ok(None),
        // Removed when the pod was empty, or by another call.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("locking the sandbox"),
    }
}

/// Ends the pod whose directory is `dir` and removes all of it. The caller holds the lock, which goes with the
/// directory. Returns the sandbox's pid and how its containers ended.
///
/// # Errors
/// What is left: processes that survive SIGKILL, cgroups or mounts that don't go away. Every step is taken, and the
/// directory stays if one failed, so that a later call finds what is left.
pub(crate) fn clean_pod(dir: &SandboxDir) -> anyhow::Result<(u32, Exit)> {
    let record = match SandboxRecord::read(dir) {
        Ok(record) => record,
        // `start` ended before it wrote one, so it started nothing.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            dir.remove().context("removing the sandbox's directory")?;
            return Ok((0, Exit::now(STATUS_KILLED)));
        }
        Err(error) => return Err(error).context("reading the sandbox record"),
    };
    let pid = record.process.map_or(0, |name| name.pid.unsigned_abs());
    let ended = Ended::of(&record, SandboxEnd::read(dir));
    // While there is a cgroup that says so.
    let usage = stats::read(&record.cgroup).as_ref().map(Usage::of).unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let mut left = Vec::new();
    let were_ended = runtime.block_on(end_processes(&record));
    // Once nothing uses any more of it, and while that is known.
    let cpu_noted = note_cpu(&record);
    // A runsc that dies with the shim may join it until it has.
    if let Err(error) = runtime.block_on(record.cgroup.end(REMOVING)) {
        left.push(error.to_string());
    }
    if !were_ended && !have_ended(&record) {
        left.push("its processes survive SIGKILL".to_owned());
    }
    if let Some(checkpoint) = LastCheckpoint::of(&record) {
        // Whoever wrote there has ended.
        checkpoint.discard_now();
    }
    for container in record.containers.values() {
        if let Some(file) = container.termination_log.as_ref().filter(|_| container.exit.is_none()) {
            // Best effort: the answer and the cleaning count.
            let cause = Cause::Ended { reason: ended.reason, limit: ended.limit };
            let _ = message(cause, record.span.as_ref(), ended.boottime, usage.clone()).write(file);
        }
        runtime.block_on(clean_container(container, &mut left));
        // A bundle that is gone needs no note.
        let exit = container.exit.unwrap_or(ended.exit);
        let _ = BundleNote { sandbox_dir: dir.path().to_owned(), exit: Some(exit) }.write(&container.bundle);
    }
    if !left.is_empty() {
        bail!("sandbox {} is not clean: {}", record.sandbox, left.join("; "));
    }
    match cpu_noted.and_then(|()| note_verdict(&record, &ended)) {
        Ok(()) => dir.remove().context("removing the sandbox's directory")?,
        // Nothing of it runs, which is answered. By what stays a later call tells the ledger, and until then the deadline
        // that was written before the workload ran does.
        Err(error) => complain(&format!("{error}; {} stays", dir.path().display())),
    }
    Ok((pid, ended.exit))
}

/// How a pod ends that its shim doesn't: with its time, or with the shim.
struct Ended {
    exit: Exit,
    boottime: Boottime,
    reason: Reason,
    /// What it was allowed of what it is ended for.
    limit: Duration,
    by: Step,
}

impl Ended {
    fn of(record: &SandboxRecord, by_watchdog: Option<SandboxEnd>) -> Self {
        let at = by_watchdog.map_or_else(SystemTime::now, |end| end.at);
        let boottime = by_watchdog.map_or_else(Boottime::now, |end| end.boottime);
        let due = record.span.as_ref().and_then(|span| span.due.here().ok());
        let was_over = due.is_some_and(|due| due <= boottime);
        let is_expired = record.expired || was_over || by_watchdog.is_some_and(|end| end.expired);
        let (reason, limit) = match (&record.verdict, &record.span) {
            _ if !is_expired => (Reason::ShimLost, record.span.as_ref().map(Span::limit).unwrap_or_default()),
            (Some(verdict), _) => (verdict.reason, verdict.limit()),
            (None, Some(span)) => (Reason::DeadlineExceeded, span.limit()),
            (None, None) => (Reason::StartupTimeout, record.policy.timeout.startup),
        };
        let exit = Exit { status: if is_expired { STATUS_TIMED_OUT } else { STATUS_KILLED }, at };
        let by = if by_watchdog.is_some() { Step::Watchdog } else { Step::Delete };
        Self { exit, boottime, reason, limit, by }
    }
}

/// Has the ledger know that the pod's time was up: its shim may not have come to it.
fn note_verdict(record: &SandboxRecord, ended: &Ended) -> Result<(), LedgerError> {
    let Some(pod) = record.pod.as_ref().filter(|_| ended.exit.status == STATUS_TIMED_OUT) else {
        return Ok(());
    };
    let verdict = record.verdict.clone().unwrap_or_else(|| Verdict::now(ended.reason, ended.limit));
    let state = &record.policy.state;
    let ledger = Ledger::at(&state.ledger, state.retention);
    ledger.write_verdict_and_end(pod, record.sandbox.as_str(), verdict, Some(ended.by))
}

fn complain(line: &str) {
    // Nobody is left to tell if that fails.
    let _ = writeln!(io::stderr().lock(), "curfew: {line}");
}

fn processes_of(record: &SandboxRecord) -> Vec<PidFd> {
    let gofers = record.containers.values().filter_map(|container| container.gofer);
    record.process.into_iter().chain(gofers).filter_map(|name| name.open()).collect()
}

fn have_ended(record: &SandboxRecord) -> bool {
    processes_of(record).iter().all(PidFd::has_ended) && !record.cgroup.is_populated()
}

/// Has the ledger know how much CPU time the pod has used, if it may only use so much.
fn note_cpu(record: &SandboxRecord) -> Result<(), LedgerError> {
    let Some(used) = stats::cpu_time(&record.cgroup) else { return Ok(()) };
    let (Some((_, used)), Some(pod)) = (record.cpu_budget(used), &record.pod) else { return Ok(()) };
    let state = &record.policy.state;
    Ledger::at(&state.ledger, state.retention).write_cpu_used(pod, record.sandbox.as_str(), used)
}

/// Kills all processes of the pod and waits for them. Says whether they have ended.
async fn end_processes(record: &SandboxRecord) -> bool {
    let processes = processes_of(record);
    processes.iter().for_each(PidFd::kill);
    // What is frozen there dies once it is thawed.
    record.cgroup.kill();
    let ending = async {
        for process in &processes {
            process.ended_within(KILLING).await;
        }
        record.cgroup.kill_until_empty(KILLING).await;
    };
    // The limit is for all of it.
    let _ = tokio::time::timeout(KILLING, ending).await;
    processes.iter().all(PidFd::has_ended) && !record.cgroup.is_populated()
}

async fn clean_container(container: &ContainerRecord, left: &mut Vec<String>) {
    if let Err(error) = container.cgroup.remove(REMOVING).await {
        left.push(error.to_string());
    }
    if let Err(error) = rootfs::unmount_all(&rootfs::mount_point(&container.bundle)) {
        left.push(error.to_string());
    }
}
