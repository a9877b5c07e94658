//! `binary://`: a program of the node's operator that takes a container's output.
//!
//! As containerd's own shims start it: the URI's query is its arguments, it reads stdout and stderr at descriptors 3
//! and 4, and closes 5 when it is ready. It ends by itself at the end of what it reads.

#![allow(clippy::disallowed_methods, reason = "a logger is no runsc: it is started here")]

use std::{
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use command_fds::{CommandFdExt, FdMapping};
use nix::{
    fcntl::OFlag,
    sys::signal::{Signal, killpg},
    unistd::{Pid, pipe2},
};
use runsc_bridge::ChildExits;
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe,
    sync::oneshot::{self, error::TryRecvError},
    task::JoinHandle,
};

use super::{StdioPaths, ending::Ending, error::StdioError};

const SCHEME: &str = "binary://";
/// How long a logger may take to say that it is ready.
const READY: Duration = Duration::from_secs(10);
/// How long a logger may take for what is left once nobody writes any more, as containerd's own shims give it.
const LAST_WORDS: Duration = Duration::from_secs(12);
/// How long it may take to end when it is asked to.
const TERMINATION: Duration = Duration::from_secs(2);

/// A logger that containerd has named.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LoggerProgram {
    path: PathBuf,
    args: Vec<String>,
}

/// Whose output a logger gets; it finds both in its environment.
#[derive(Debug, Clone)]
pub(crate) struct LoggedProcess {
    pub(crate) namespace: String,
    pub(crate) id: String,
}

/// Told to whoever waits for a logger's end: it can be killed at once.
#[derive(Debug)]
struct NotReady;

/// A running logger and the ends it is written to.
#[derive(Debug)]
pub(crate) struct Logger {
    pipes: LoggerPipes,
    running: RunningLogger,
}

/// Where a logger is written to.
#[derive(Debug)]
pub(crate) struct LoggerPipes {
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

impl Logger {
    pub(crate) fn split(self) -> (LoggerPipes, RunningLogger) {
        (self.pipes, self.running)
    }
}

/// A logger that is told by the drop of this that nobody will write any more.
#[derive(Debug)]
pub(crate) struct RunningLogger {
    _written_to: oneshot::Sender<NotReady>,
    end: JoinHandle<()>,
}

impl LoggerProgram {
    /// What `paths` names for stdout; `None` if that is something else. A logger takes stderr with it, whatever else is
    /// named for that.
    ///
    /// # Errors
    /// [`StdioError`] if the URI names no program.
    pub(crate) fn of(paths: &StdioPaths) -> Result<Option<Self>, StdioError> {
        let Some(rest) = paths.stdout.strip_prefix(SCHEME) else { return Ok(None) };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let decoded = percent_encoding::percent_decode_str(path).decode_utf8();
        let path = match decoded {
            Ok(path) if path.starts_with('/') && !path.contains('\0') => PathBuf::from(path.as_ref()),
            _ => return Err(StdioError::NotAbsolute { stream: "stdout", path: paths.stdout.clone() }),
        };
        let mut args = Vec::new();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            args.push(key.into_owned());
            if !value.is_empty() {
                args.push(value.into_owned());
            }
        }
        if args.iter().any(|arg| arg.contains('\0')) {
            return Err(StdioError::NotAbsolute { stream: "stdout", path: paths.stdout.clone() });
        }
        Ok(Some(Self { path, args }))
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be started, or isn't ready in time; then it is killed.
    pub(crate) async fn start(
        &self,
        process: &LoggedProcess,
        exits: &dyn ChildExits,
    ) -> Result<Logger, StdioError> {
        let failed = |source| StdioError::Logger { path: self.path.clone(), source };
        let (read_stdout, stdout) = pipe2(OFlag::O_CLOEXEC).map_err(|e| failed(e.into()))?;
        let (read_stderr, stderr) = pipe2(OFlag::O_CLOEXEC).map_err(|e| failed(e.into()))?;
        let (ready_sender, ready) = pipe::pipe().map_err(failed)?;
        let ready_sender = ready_sender.into_blocking_fd().map_err(failed)?;
        let pid = self.spawn(process, [read_stdout, read_stderr, ready_sender]).map_err(failed)?;
        let exit = exits.exit_of(pid);
        let (written_to, unwritten) = oneshot::channel();
        let end = tokio::spawn(see_to_its_end(self.path.clone(), pid, exit, unwritten));
        if let Err(error) = wait_until_ready(ready).await {
            let _ = written_to.send(NotReady);
            let _ = end.await;
            return Err(failed(error));
        }
        let running = RunningLogger { _written_to: written_to, end };
        Ok(Logger { pipes: LoggerPipes { stdout, stderr }, running })
    }

    fn spawn(&self, process: &LoggedProcess, fds: [OwnedFd; 3]) -> io::Result<Pid> {
        let mut command = Command::new(&self.path);
        command.args(&self.args).env_clear().current_dir("/").process_group(0);
        command.env("CONTAINER_ID", &process.id).env("CONTAINER_NAMESPACE", &process.namespace);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mappings =
            fds.into_iter().zip(3..).map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
        command.fd_mappings(mappings.collect()).map_err(io::Error::other)?;
        let child = command.spawn()?;
        Ok(Pid::from_raw(child.id().cast_signed()))
    }
}

impl RunningLogger {
    /// Says that nobody will write any more.
    pub(crate) fn finish(self) -> Ending {
        Ending { task: self.end, patience: LAST_WORDS + TERMINATION * 2 }
    }
}

/// Anything that the logger writes, or the end: it has read its arguments and opened what it needs.
async fn wait_until_ready(mut ready: pipe::Receiver) -> io::Result<()> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("not ready within {READY:?}"));
    tokio::time::timeout(READY, ready.read(&mut [0])).await.map_err(late)?.map(drop)
}

/// Waits for a logger's end, and brings it about if it doesn't come after nobody writes any more.
async fn see_to_its_end(
    path: PathBuf,
    pid: Pid,
    mut exit: oneshot::Receiver<ExitStatus>,
    unwritten: oneshot::Receiver<NotReady>,
) {
    let told = tokio::select! {
        status = &mut exit => return log_failure(&path, status),
        told = unwritten => told,
    };
    let steps = match told {
        Ok(NotReady) => &[(Duration::ZERO, Signal::SIGKILL)][..],
        Err(_) => &[(LAST_WORDS, Signal::SIGTERM), (TERMINATION, Signal::SIGKILL)],
    };
    for (patience, signal) in steps.iter().copied() {
        if let Ok(status) = tokio::time::timeout(patience, &mut exit).await {
            return log_failure(&path, status);
        }
        log::warn!("logger {} hasn't ended: sending it {signal}", path.display());
        // Reaping happens on this thread, so the pid is still its own.
        if matches!(exit.try_recv(), Err(TryRecvError::Empty)) {
            let _ = killpg(pid, signal);
        }
    }
    let _ = exit.await;
}

fn log_failure(path: &std::path::Path, status: Result<ExitStatus, oneshot::error::RecvError>) {
    if let Ok(status) = status
        && !status.success()
    {
        log::warn!("logger {}: {status}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(uri: &str) -> Result<Option<LoggerProgram>, StdioError> {
        LoggerProgram::of(&StdioPaths { stdout: uri.into(), ..StdioPaths::default() })
    }

    #[test]
    fn the_query_becomes_the_arguments() {
        let asked =
            program("binary:///usr/bin/my%20logger?_MAGIC=%2Fvar%2Flib%2Fx&verbose&a=b+c").unwrap().unwrap();
        assert_eq!(asked.path, PathBuf::from("/usr/bin/my logger"));
        assert_eq!(asked.args, ["_MAGIC", "/var/lib/x", "verbose", "a", "b c"]);
        assert_eq!(program("binary:///bin/cat").unwrap().unwrap().args, Vec::<String>::new());
    }

    #[test]
    fn what_is_no_logger_is_none_and_what_names_no_program_is_refused() {
        for uri in ["", "/fifo", "fifo:///fifo", "file:///log"] {
            assert_eq!(program(uri).unwrap(), None);
        }
        for uri in ["binary://", "binary://cat", "binary:///a%00b", "binary:///a%ff", "binary:///a?b=%00"] {
            assert!(matches!(program(uri), Err(StdioError::NotAbsolute { .. })), "{uri}");
        }
    }
}
