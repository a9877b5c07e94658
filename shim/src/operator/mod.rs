//! The node's operator, who asks a living shim for what only that can do. One socket in the sandbox's directory, for root
//! alone: a line of JSON each way, then the end.

mod server;

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde::{Deserialize, Serialize};

pub(crate) use self::server::serve;

/// The longest line, in bytes.
const LARGEST: u64 = 4 << 10;
/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);

/// What can be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// More time, in milliseconds.
    Extend { by: u64 },
    /// The pod's end, at once.
    Kill,
}

/// What comes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// The time that the pod has from its beginning, in milliseconds, and whether that is less than was asked for.
    Extended {
        limit: u64,
        clamped: bool,
    },
    Killed,
    Refused {
        reason: String,
    },
}

/// Asks the shim that listens at `socket`.
///
/// # Errors
/// There is none, or it doesn't answer.
pub(crate) fn ask(socket: &Path, request: &Request) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(io::Read::take(stream, LARGEST)).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}
