//! What can be wrong with the streams that a request names.

use std::{io, path::PathBuf};

use thiserror::Error;

/// A stream that cannot be opened as asked.
#[derive(Debug, Error)]
pub(crate) enum StdioError {
    /// A kind of stream that this version doesn't serve.
    #[error(
        "{stream} {:?}: only FIFOs, file:// and, as stdout, binary:// are supported",
        without_query(.uri)
    )]
    Unsupported { stream: &'static str, uri: String },
    /// A path that could mean another file at another time.
    #[error("{stream} {:?} is not an absolute path", without_query(.path))]
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
        "{:?} is a program on the host: pod.binary_logger of the node's configuration doesn't allow it",
        without_query(.uri)
    )]
    LoggerNotAllowed { uri: String },
    /// A logger that cannot be started or doesn't get ready.
    #[error("logger {}: {source}", path.display())]
    Logger { path: PathBuf, source: io::Error },
    /// It cannot be opened.
    #[error("cannot open {stream} {}: {source}", path.display())]
    Open { stream: &'static str, path: PathBuf, source: io::Error },
}

/// A logger's arguments are nobody's business.
fn without_query(uri: &str) -> &str {
    uri.split_once('?').map_or(uri, |(path, _)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_shows_a_loggers_arguments() {
        let uri = || "binary:///x?token=secret".to_owned();
        for error in [
            StdioError::LoggerNotAllowed { uri: uri() },
            StdioError::Unsupported { stream: "stderr", uri: uri() },
            StdioError::NotAbsolute { stream: "stdout", path: uri() },
        ] {
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
