//! Opening what a request names: containerd's FIFOs, and files.

use std::{
    fs::{File, OpenOptions},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{FileTypeExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, open},
    sys::stat::Mode,
};

use super::error::StdioError;

/// How a terminal's stdin is opened: both ways, so that a containerd that restarts doesn't end it. A terminal has no end of
/// input but CloseIO.
pub(super) const TERMINAL_STDIN: OFlag = OFlag::O_RDWR;

/// Opens the file that a `file://` URI names, to append; `None` for anything else.
pub(super) fn open_file_at(stream: &'static str, uri: &str) -> Result<Option<File>, StdioError> {
    let Some(path) = uri.strip_prefix("file://") else { return Ok(None) };
    if !path.starts_with('/') || path.contains('\0') {
        return Err(StdioError::NotAbsolute { stream, path: uri.to_owned() });
    }
    let opened = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path);
    let path = PathBuf::from(path);
    match opened.and_then(|file| Ok((file.metadata()?.is_file(), file))) {
        Ok((true, file)) => Ok(Some(file)),
        Ok((false, _)) => Err(StdioError::NotFile { stream, path }),
        Err(source) => Err(StdioError::Open { stream, path, source }),
    }
}

/// Opens the FIFO at `path`, non-blocking; `None` for an empty path.
pub(super) fn open_fifo_at(
    stream: &'static str,
    path: &str,
    direction: OFlag,
) -> Result<Option<OwnedFd>, StdioError> {
    if path.is_empty() {
        return Ok(None);
    }
    open_fifo(stream, fifo_path(stream, path)?, direction).map(Some)
}

pub(super) fn fifo_path<'a>(stream: &'static str, path: &'a str) -> Result<&'a Path, StdioError> {
    let plain = match path.split_once("://") {
        Some(("fifo", rest)) => rest,
        Some(_) => return Err(StdioError::Unsupported { stream, uri: path.to_owned() }),
        None => path,
    };
    if !plain.starts_with('/') || plain.contains('\0') {
        return Err(StdioError::NotAbsolute { stream, path: path.to_owned() });
    }
    Ok(Path::new(plain))
}

pub(super) fn open_fifo(stream: &'static str, path: &Path, direction: OFlag) -> Result<OwnedFd, StdioError> {
    let flags = direction | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    let fd = open(path, flags, Mode::empty()).map_err(|e| {
        let path = path.to_owned();
        if matches!(e, nix::Error::ELOOP | nix::Error::EISDIR) {
            StdioError::NotFifo { stream, path }
        } else {
            StdioError::Open { stream, path, source: e.into() }
        }
    })?;
    // Asked of the descriptor: what is at the path may have changed since.
    let owned_fifo =
        fd.as_fd().try_clone_to_owned().and_then(|fd| std::fs::File::from(fd).metadata()).map(|m| {
            use std::os::unix::fs::MetadataExt;
            m.file_type().is_fifo() && m.uid() == nix::unistd::geteuid().as_raw()
        });
    match owned_fifo {
        Ok(true) => Ok(fd),
        Ok(false) => Err(StdioError::NotFifo { stream, path: path.to_owned() }),
        Err(source) => Err(StdioError::Open { stream, path: path.to_owned(), source }),
    }
}
