//! Descriptors that the runtime watches.

#![allow(unsafe_code, reason = "tokio takes a descriptor's word for staying the same on trust")]

use std::{io, os::fd::OwnedFd};

use tokio::io::unix::AsyncFd;

/// A descriptor with its readiness.
pub(crate) type Watched = AsyncFd<OwnedFd>;

/// Has the runtime watch a descriptor, which must be non-blocking.
///
/// # Errors
/// The kind of file cannot be watched.
pub(crate) fn watch(fd: OwnedFd) -> io::Result<Watched> {
    // SAFETY: an `OwnedFd` names the same open descriptor for as long as it lives, and it is dropped only after
    // `AsyncFd` has deregistered it.
    let watched = unsafe { AsyncFd::register(fd) };
    Ok(watched?)
}
