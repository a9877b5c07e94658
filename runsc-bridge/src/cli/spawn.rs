//! The one module that starts runsc.
//!
//! Every child gets a cleared environment (a gofer inherits it and parses hostile requests), a process group of its
//! own, stdio that is never a pipe of ours, a parent-death signal, and a limit after which its whole group is killed.

#![allow(unsafe_code, reason = "prepared system calls between fork and exec")]
#![allow(clippy::disallowed_methods, reason = "this is the one spawning module")]

use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{io::AsyncReadExt, net::unix::pipe, sync::oneshot};

use crate::{ChildExits, Kind, RunscError};

/// The whole environment of a runsc process: it looks for nothing else.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The last descriptor of the table that has room for the sentry's own numbers, and none of those.
const HIGH_DESCRIPTOR: libc::c_int = 511;

/// More output than a version or a list of features has.
const LARGEST_OUTPUT: u64 = 64 << 10;

/// A runsc process to start.
pub(super) struct Child<'a> {
    pub(super) verb: &'static str,
    pub(super) subject: &'a str,
    pub(super) binary: &'a Path,
    pub(super) argv: &'a [OsString],
    pub(super) stdio: [Stdio; 3],
    /// What it finds open under the same number as here, beside its stdio.
    pub(super) log: Option<BorrowedFd<'a>>,
    /// Whether a sandbox will come of it: see [`widen_descriptor_table`].
    pub(super) makes_sandbox: bool,
    pub(super) limit: Duration,
}

/// Runs a child to its end and returns its status.
pub(super) async fn run(child: Child<'_>, exits: &dyn ChildExits) -> Result<ExitStatus, RunscError> {
    let (verb, subject, limit) = (child.verb, child.subject, child.limit);
    let (pid, exit) = start(child, exits)?;
    wait(pid, exit, limit).await.map_err(|kind| failed_wait(verb, subject, kind, limit))
}

/// Runs `binary` with one argument and returns the beginning of what it prints.
pub(crate) async fn output_of(
    binary: &Path,
    argument: &'static str,
    limit: Duration,
    exits: &dyn ChildExits,
) -> Result<String, RunscError> {
    let failed = |e: io::Error| RunscError::new(argument, "", Kind::Failed, e);
    let (writer, reader) = pipe::pipe().map_err(failed)?;
    let writer: OwnedFd = writer.into_blocking_fd().map_err(failed)?;
    let argv = [argument.into()];
    let stdio = [Stdio::null(), writer.into(), Stdio::null()];
    let child = Child {
        verb: argument,
        subject: "",
        binary,
        argv: &argv,
        stdio,
        log: None,
        makes_sandbox: false,
        limit,
    };
    let (pid, exit) = start(child, exits)?;
    let mut printed = String::new();
    let mut reader = reader.take(LARGEST_OUTPUT);
    let reading = reader.read_to_string(&mut printed);
    // Text that isn't UTF-8, or a child that closes its output and goes on, is for the caller to refuse.
    let read = tokio::time::timeout(limit, reading).await;
    drop(reader);
    let limit_left = if read.is_err() { Duration::ZERO } else { limit };
    let status = wait(pid, exit, limit_left).await.map_err(|kind| failed_wait(argument, "", kind, limit))?;
    if !status.success() {
        let start: String = printed.chars().take(64).collect();
        let detail = format!("{} ended with {status} and printed {start:?}", binary.display());
        return Err(RunscError::new(argument, "", Kind::NotRunsc, detail));
    }
    Ok(printed)
}

fn failed_wait(verb: &'static str, subject: &str, kind: Kind, limit: Duration) -> RunscError {
    RunscError::new(verb, subject, kind, format!("killed after its limit of {limit:?}"))
}

fn start(
    child: Child<'_>,
    exits: &dyn ChildExits,
) -> Result<(Pid, oneshot::Receiver<ExitStatus>), RunscError> {
    let mut command = Command::new(child.binary);
    let [stdin, stdout, stderr] = child.stdio;
    command.args(child.argv).env_clear().env("PATH", PATH).current_dir("/");
    command.process_group(0).stdin(stdin).stdout(stdout).stderr(stderr);
    let (parent, makes_sandbox) = (nix::unistd::getpid(), child.makes_sandbox);
    let log = child.log.map(|log| log.as_raw_fd());
    // SAFETY: the hook makes system calls only: it allocates nothing and takes no lock.
    unsafe { command.pre_exec(move || prepare_child(parent, log, makes_sandbox)) };
    let started = command.spawn().map_err(|e| {
        let kind = match e.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => Kind::BinaryMissing,
            Some(libc::EACCES | libc::ENOEXEC) => Kind::NotExecutable,
            _ => Kind::Failed,
        };
        let detail = format!("cannot execute {}: {e}", child.binary.display());
        RunscError::new(child.verb, child.subject, kind, detail)
    })?;
    let pid = Pid::from_raw(started.id().cast_signed());
    Ok((pid, exits.exit_of(pid)))
}

/// Runs between fork and exec.
fn prepare_child(parent: Pid, log: Option<RawFd>, makes_sandbox: bool) -> io::Result<()> {
    // A runsc that outlives the shim would go on creating what nobody knows of.
    // SAFETY: prctl with an integer argument touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // The shim may have died before the signal was set.
    if nix::unistd::getppid() != parent {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    // Nothing but stdio, whatever somebody forgot to mark.
    // SAFETY: the call takes integers and closes nothing before the exec.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if let Some(log) = log {
        // SAFETY: fcntl takes integers; a number that isn't open is an error.
        if unsafe { libc::fcntl(log, libc::F_SETFD, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    reset_oom_score();
    if makes_sandbox && log != Some(HIGH_DESCRIPTOR) {
        widen_descriptor_table();
    }
    Ok(())
}

/// Gives the child `/dev/null` at a high number. The sentry moves its container's streams to descriptors around 255,
/// and a process with threads waits for a grace period of the kernel's RCU (some 10 ms) when its table has to grow for
/// that. A fork's table is as wide as its parent's highest descriptor asks for, so with this one runsc's is wide enough,
/// and the sandbox's from its birth. It stays open in sandbox and gofer, which can do with it what they can with their own
/// standard streams where those are `/dev/null` too. Best effort: where it fails, a create only takes longer.
fn widen_descriptor_table() {
    // SAFETY: open gets a nul-terminated constant that lives for ever, the others take integers.
    unsafe {
        let fd = libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if fd >= 0 {
            libc::dup3(fd, HIGH_DESCRIPTOR, 0);
            libc::close(fd);
        }
    }
}

/// The shim's own protection from the OOM killer must not pass to sandboxes. Best effort: without CAP_SYS_RESOURCE
/// the value may be fixed, and then it is the one that containerd runs with.
fn reset_oom_score() {
    let path = c"/proc/self/oom_score_adj";
    let neutral = b"0";
    // SAFETY: open gets a nul-terminated constant, write a constant with its length; both live for ever.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd >= 0 {
            libc::write(fd, neutral.as_ptr().cast(), neutral.len());
            libc::close(fd);
        }
    }
}

/// Waits for a child; kills its process group once the limit has passed.
async fn wait(
    pid: Pid,
    mut exit: oneshot::Receiver<ExitStatus>,
    limit: Duration,
) -> Result<ExitStatus, Kind> {
    if let Ok(status) = tokio::time::timeout(limit, &mut exit).await {
        return status.map_err(|_| Kind::Failed);
    }
    // Reaping happens on this thread, so a status that hasn't come means that the pid is still the child's.
    if let Ok(status) = exit.try_recv() {
        return Ok(status);
    }
    // The group and not the child alone: what `runsc create` had started so far has to go with it.
    let _ = killpg(pid, Signal::SIGKILL);
    let _ = exit.await;
    Err(Kind::TimedOut)
}

#[cfg(test)]
mod tests;
