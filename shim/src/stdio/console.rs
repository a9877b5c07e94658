//! The terminal of a container's init, which runsc makes and sends over a socket.

use std::{
    io::{self, IoSliceMut},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::{
    cmsg_space,
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg},
};
use tokio::{
    io::Interest,
    net::{UnixListener, UnixStream},
};

use super::{
    StdioPaths,
    budget::OutputBudget,
    error::StdioError,
    exec::{ExecStdio, ExecStreams, Output},
    logger::LoggerProgram,
    open::{TERMINAL_STDIN, open_fifo_at},
    terminal::Terminal,
};

/// A terminal to come: the socket that runsc sends it to, and what it will be connected with.
#[derive(Debug)]
pub(crate) struct Console {
    listener: UnixListener,
    path: PathBuf,
    stdin: Option<OwnedFd>,
    stdout: Option<Output>,
    budget: Option<Arc<OutputBudget>>,
}

impl Console {
    /// Opens containerd's FIFOs and listens at `socket`, in a directory that only root can enter.
    ///
    /// # Errors
    /// [`StdioError`] names what cannot be opened.
    pub(crate) fn open(paths: &StdioPaths, socket: PathBuf) -> Result<Self, StdioError> {
        let stdin = open_fifo_at("stdin", &paths.stdin, TERMINAL_STDIN)?;
        // A logger comes later.
        let stdout = match LoggerProgram::of(paths)? {
            Some(_) => None,
            None => Output::open("stdout", &paths.stdout)?,
        };
        let listener = UnixListener::bind(&socket).map_err(|source| StdioError::Pipe { source })?;
        Ok(Self { listener, path: socket, stdin, stdout, budget: None })
    }

    /// Has the output limited.
    pub(super) fn limit_to(&mut self, budget: Arc<OutputBudget>) {
        self.budget = Some(budget);
    }

    /// Has the output go to a logger.
    pub(super) fn log_to(&mut self, stdout: OwnedFd) {
        self.stdout = Some(Output::Logger(stdout));
    }

    /// Where runsc sends the terminal to.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the terminal that runsc has sent, and starts to copy.
    ///
    /// # Errors
    /// Nothing came within `limit`, or something that is no terminal.
    pub(crate) async fn attach(
        mut self,
        limit: Duration,
        on_signal: impl Fn(i32) + Send + 'static,
    ) -> Result<ExecStreams, StdioError> {
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "runsc sent no terminal");
        let received = tokio::time::timeout(limit, self.receive()).await.map_err(late);
        let (stdin, stdout, budget) = (self.stdin.take(), self.stdout.take(), self.budget.take());
        let attach = || {
            let terminal = Terminal::received(received??)?;
            ExecStdio::of_received(terminal, stdin, stdout)?.with_budget(budget).start(on_signal)
        };
        attach().map_err(|source: io::Error| StdioError::Pipe { source })
    }

    async fn receive(&self) -> io::Result<OwnedFd> {
        let (stream, _) = self.listener.accept().await?;
        if stream.peer_cred()?.uid() != nix::unistd::geteuid().as_raw() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        stream.readable().await?;
        receive_one(&stream)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // It may be gone with its directory.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Receives exactly one descriptor.
fn receive_one(stream: &UnixStream) -> io::Result<OwnedFd> {
    let mut name = [0; 4096];
    let mut space = cmsg_space!([RawFd; 8]);
    let received: Vec<OwnedFd> = stream.try_io(Interest::READABLE, || {
        let mut parts = [IoSliceMut::new(&mut name)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
        let mut fds = Vec::new();
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = control {
                fds.extend(raw.into_iter().map(own));
            }
        }
        Ok(fds)
    })?;
    let [one] = <[OwnedFd; 1]>::try_from(received).map_err(|fds| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{} descriptors instead of one", fds.len()))
    })?;
    Ok(one)
}

#[allow(unsafe_code, reason = "the kernel has just made the descriptor for us")]
fn own(raw: RawFd) -> OwnedFd {
    // SAFETY: `recvmsg` returned it in this process, and nothing else knows its number.
    unsafe { OwnedFd::from_raw_fd(raw) }
}
