//! One call over the control socket.

use std::{
    os::fd::{AsRawFd, OwnedFd, RawFd},
    path::Path,
    sync::Arc,
    time::Duration,
};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::UnixStream,
};

use super::frame::{self, Decoded};
use crate::{Kind, RunscError, SandboxId, SandboxPaths};

/// Where a sandbox's sentry listens.
///
/// Reached through a descriptor of its directory, because the path with a full-length sandbox id doesn't fit a socket
/// address, and a directory that was replaced cannot redirect the call.
#[derive(Debug, Clone)]
pub struct ControlSocket {
    directory: Arc<OwnedFd>,
    name: String,
}

impl ControlSocket {
    /// The control socket of `sandbox`, whose runsc root is that of `paths`.
    ///
    /// # Errors
    /// [`Kind::SandboxGone`] where the directory cannot be opened.
    pub fn open(paths: &SandboxPaths, sandbox: &SandboxId) -> Result<Self, RunscError> {
        let directory = open_directory(paths.root())
            .map_err(|e| RunscError::new("control socket", sandbox, Kind::SandboxGone, e))?;
        Ok(Self { directory: Arc::new(directory), name: format!("runsc-{sandbox}.sock") })
    }

    /// Calls `method` and waits for its result, for `limit` at most; without one, until the sandbox ends.
    pub(super) async fn call<R: DeserializeOwned>(
        &self,
        method: &'static str,
        subject: &str,
        arg: impl Serialize,
        limit: Option<Duration>,
    ) -> Result<Option<R>, RunscError> {
        self.call_with_files(method, subject, arg, &[], limit).await
    }

    /// As [`Self::call`], with open files that the sentry gets copies of.
    pub(super) async fn call_with_files<R: DeserializeOwned>(
        &self,
        method: &'static str,
        subject: &str,
        arg: impl Serialize,
        files: &[RawFd],
        limit: Option<Duration>,
    ) -> Result<Option<R>, RunscError> {
        let request =
            frame::encode(method, arg).map_err(|e| RunscError::new(method, subject, Kind::Protocol, e))?;
        let exchange = self.exchange(method, subject, &request, files);
        match limit {
            None => exchange.await,
            Some(limit) => tokio::time::timeout(limit, exchange).await.unwrap_or_else(|_| {
                let detail = format!("no answer within {limit:?}");
                Err(RunscError::new(method, subject, Kind::TimedOut, detail))
            }),
        }
    }

    async fn exchange<R: DeserializeOwned>(
        &self,
        method: &'static str,
        subject: &str,
        request: &[u8],
        files: &[RawFd],
    ) -> Result<Option<R>, RunscError> {
        let gone = |e: std::io::Error| RunscError::new(method, subject, Kind::SandboxGone, e);
        let path = format!("/proc/self/fd/{}/{}", self.directory.as_raw_fd(), self.name);
        let mut stream = UnixStream::connect(path).await.map_err(gone)?;
        let sent = send_first(&stream, request, files).await.map_err(gone)?;
        stream.write_all(&request[sent..]).await.map_err(gone)?;
        let mut received = Vec::with_capacity(256);
        loop {
            let count = stream.read_buf(&mut received).await.map_err(gone)?;
            if count == 0 {
                let detail = "the sandbox closed the connection before it answered";
                return Err(RunscError::new(method, subject, Kind::SandboxGone, detail));
            }
            match frame::decode(&received) {
                Decoded::More if received.len() > frame::LARGEST_REPLY => {
                    let detail = format!("an answer of more than {} bytes", frame::LARGEST_REPLY);
                    return Err(RunscError::new(method, subject, Kind::Protocol, detail));
                }
                Decoded::More => {}
                Decoded::Success(result) => return Ok(result),
                Decoded::Error(words) => return Err(RunscError::of_sentry(method, subject, &words)),
                Decoded::Garbage(detail) => {
                    return Err(RunscError::new(method, subject, Kind::Protocol, detail));
                }
            }
        }
    }
}

/// Sends the beginning of a request, with its files. Returns how much of it was sent.
async fn send_first(stream: &UnixStream, request: &[u8], files: &[RawFd]) -> std::io::Result<usize> {
    if files.is_empty() {
        return Ok(0);
    }
    let send = || {
        let parts = [std::io::IoSlice::new(request)];
        let control = [ControlMessage::ScmRights(files)];
        let sent = sendmsg::<()>(stream.as_raw_fd(), &parts, &control, MsgFlags::MSG_NOSIGNAL, None);
        sent.map_err(std::io::Error::from)
    };
    stream.async_io(Interest::WRITABLE, send).await
}

fn open_directory(path: &Path) -> nix::Result<OwnedFd> {
    use nix::{fcntl, sys::stat::Mode};
    let flags =
        fcntl::OFlag::O_PATH | fcntl::OFlag::O_DIRECTORY | fcntl::OFlag::O_NOFOLLOW | fcntl::OFlag::O_CLOEXEC;
    fcntl::open(path, flags, Mode::empty())
}

#[cfg(test)]
mod tests;
