//! `delete`: containerd's word that a shim may be gone, once for each container.
//!
//! While the shim lives it is not our business and costs next to nothing. Once it is gone, the first call ends and
//! cleans the whole pod from the sandbox record, since with version 3 only the sandbox's id is ever asked for, and
//! leaves a note in each bundle for the calls that follow.

use std::{
    io::{self, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use crate::{
    args::Args,
    process::{Exit, PidFd, STATUS_KILLED, STATUS_TIMED_OUT},
    record::{BundleNote, ContainerRecord, SandboxRecord},
    rootfs,
    sandbox_dir::{Lock, SandboxDir},
    wire::bootstrap::delete_reply,
};

/// containerd kills the whole call after 5 s.
const KILLING: Duration = Duration::from_secs(3);
/// How long another call's cleaning of the same pod is waited for.
const OTHER_CALL: Duration = Duration::from_secs(4);

/// Cleans up if the shim is gone, and prints how the container ended.
///
/// # Errors
/// What is left, in one line.
pub(crate) fn delete(args: &Args) -> anyhow::Result<()> {
    let bundle = bundle_of(args)?;
    let (pid, exit) = match BundleNote::read(&bundle) {
        // Nothing of ours was ever made for this bundle.
        None => (0, Exit::now(STATUS_KILLED)),
        Some(BundleNote { exit: Some(exit), .. }) => (0, exit),
        Some(BundleNote { sandbox_dir, exit: None }) => {
            let cleaned = clean_if_abandoned(&SandboxDir::at(sandbox_dir))?;
            cleaned.unwrap_or_else(|| {
                let noted = BundleNote::read(&bundle).and_then(|note| note.exit);
                (0, noted.unwrap_or_else(|| Exit::now(STATUS_KILLED)))
            })
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
/// for another container of the pod has just cleaned all of it.
fn clean_if_abandoned(dir: &SandboxDir) -> anyhow::Result<Option<(u32, Exit)>> {
    let until = Instant::now() + OTHER_CALL;
    loop {
        match dir.lock() {
            Ok(Lock::Taken(_lock)) => return clean_pod(dir).map(Some),
            // Removed when the pod was empty, or by another call.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context("locking the sandbox"),
            Ok(Lock::Held) if is_served(dir) => return Ok(None),
            // Another call is at it. containerd removes the bundle after this one, so it must not be early.
            Ok(Lock::Held) if Instant::now() < until => std::thread::sleep(Duration::from_millis(10)),
            Ok(Lock::Held) => bail!("another cleanup of {} takes too long", dir.path().display()),
        }
    }
}

/// Whether a shim listens: the lock alone doesn't tell a shim from a cleanup.
fn is_served(dir: &SandboxDir) -> bool {
    UnixStream::connect(dir.socket()).is_ok()
}

/// Ends the pod whose directory is `dir` and removes all of it. The caller holds the lock. Returns the sandbox's pid
/// and how its containers ended.
///
/// # Errors
/// What is left: processes that survive SIGKILL, a cgroup or a mount that doesn't go away.
pub(super) fn clean_pod(dir: &SandboxDir) -> anyhow::Result<(u32, Exit)> {
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
    end_processes(&record)?;
    let exit = Exit::now(if record.expired { STATUS_TIMED_OUT } else { STATUS_KILLED });
    for container in record.containers.values() {
        clean_container(container)?;
        // A bundle that is gone needs no note.
        let _ = BundleNote { sandbox_dir: dir.path().to_owned(), exit: Some(exit) }.write(&container.bundle);
    }
    dir.remove().context("removing the sandbox's directory")?;
    Ok((pid, exit))
}

fn end_processes(record: &SandboxRecord) -> anyhow::Result<()> {
    let gofers = record.containers.values().filter_map(|container| container.gofer);
    let processes: Vec<PidFd> =
        record.process.into_iter().chain(gofers).filter_map(|name| name.open()).collect();
    processes.iter().for_each(PidFd::kill);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(async {
        for container in record.containers.values() {
            if !container.cgroup.kill_until_empty(KILLING).await {
                bail!("processes in the cgroup of {} survive SIGKILL", container.bundle.display());
            }
        }
        for process in &processes {
            if !process.ended_within(KILLING).await {
                bail!("a process of sandbox {} survives SIGKILL", record.sandbox);
            }
        }
        Ok(())
    })
}

fn clean_container(container: &ContainerRecord) -> anyhow::Result<()> {
    container.cgroup.remove().context("removing the cgroup")?;
    rootfs::unmount_all(&rootfs::mount_point(Path::new(&container.bundle)))?;
    Ok(())
}
