//! What can be wrong with the streams that a request names.

use std::{io, path::PathBuf};

use thiserror::Error;

/// A stream that cannot be opened as asked.
#[derive(Debug, Error)]
pub(crate) enum StdioError {
    /// A kind of stream that this version doesn't serve.
    #[error("{stream} {uri:?}: only FIFOs, file:// and, as stdout, binary:// are supported")]
    Unsupported { stream: &'static str, uri: String },
    /// A path that could mean another file at another time.
    #[error("{stream} {path:?} is not an absolute path")]
    NotAbsolute { stream: &'static str, path: String },
    /// A directory, a link, a regular file.
    #[error("{stream} {} is not a FIFO of ours", path.display())]
    NotFifo { stream: &'static str, path: PathBuf },
    /// A `file://` that names something else.
    #[error("{stream} {} is not a regular file", path.display())]
    NotFile { stream: &'static str, path: PathBuf },
    /// The pipes or the terminal for the sandbox cannot be made.
    #[error("cannot make the streams for the sandbox: {source}")]
    Pipe { source: io::Error },
    /// A logger, on a node that allows none.
    #[error(
        "{uri:?} is a program on the host: pod.binary_logger of the node's configuration doesn't allow it"
    )]
    LoggerNotAllowed { uri: String },
    /// A logger that cannot be started or doesn't get ready.
    #[error("logger {}: {source}", path.display())]
    Logger { path: PathBuf, source: io::Error },
    /// It cannot be opened.
    #[error("cannot open {stream} {}: {source}", path.display())]
    Open { stream: &'static str, path: PathBuf, source: io::Error },
}
