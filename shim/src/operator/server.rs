//! The shim's side.

use std::{io, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
};

use super::{Answer, LARGEST, PATIENCE, Request};
use crate::{
    command::{Command, Reply},
    error::Error,
    pod::PodHandle,
};

/// Between two connections that could not be accepted.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// Serves the socket at `path` until the shim ends.
///
/// # Errors
/// Nobody can listen there.
pub(crate) fn serve(path: &Path, pod: PodHandle) -> io::Result<()> {
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                // The socket's mode says the same; this holds whatever becomes of the mode.
                Ok((stream, _)) if is_root(&stream) => drop(tokio::spawn(answer(stream, pod.clone()))),
                Ok(_) => log::warn!("refused an operator who isn't root"),
                Err(_) => tokio::time::sleep(TRY_AGAIN).await,
            }
        }
    });
    Ok(())
}

fn is_root(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == nix::unistd::geteuid().as_raw())
}

async fn answer(mut stream: UnixStream, pod: PodHandle) {
    let answering = async {
        let mut line = String::new();
        BufReader::new((&mut stream).take(LARGEST)).read_line(&mut line).await?;
        let answer = match serde_json::from_str::<Request>(&line) {
            Ok(request) => carry_out(request, &pod).await,
            Err(error) => Answer::Refused { reason: format!("not understood: {error}") },
        };
        let mut line = serde_json::to_vec(&answer)?;
        line.push(b'\n');
        stream.write_all(&line).await
    };
    // Who has gone is told nothing.
    let _ = tokio::time::timeout(PATIENCE, answering).await;
}

async fn carry_out(request: Request, pod: &PodHandle) -> Answer {
    let reply = match request {
        Request::Extend { by } => pod.request(Command::Extend { by: Duration::from_millis(by) }).await,
        Request::Kill => pod.request(Command::End).await,
    };
    match reply {
        Ok(Reply::Extended { limit, clamped }) => {
            Answer::Extended { limit: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX), clamped }
        }
        Ok(Reply::Done | Reply::Pid(_) | Reply::Deleted { .. }) => Answer::Killed,
        Err(error) => refused(&error),
    }
}

fn refused(error: &Error) -> Answer {
    Answer::Refused { reason: error.to_string() }
}
