//! Descriptors that the runtime watches.

#![allow(unsafe_code, reason = "tokio takes a descriptor's word for staying the same on trust")]

use std::{io, os::fd::OwnedFd};

use tokio::io::{Interest, unix::AsyncFd};

/// A descriptor with its readiness.
pub(crate) type Watched = AsyncFd<OwnedFd>;

/// Has the runtime watch a descriptor, which must be non-blocking.
///
/// # Errors
/// The kind of file cannot be watched.
pub(crate) fn watch(fd: OwnedFd) -> io::Result<Watched> {
    watch_for(fd, Interest::READABLE | Interest::WRITABLE)
}

/// As [`watch`], for this alone.
///
/// # Errors
/// As [`watch`].
pub(crate) fn watch_for(fd: OwnedFd, interest: Interest) -> io::Result<Watched> {
    // SAFETY: an `OwnedFd` names the same open descriptor for as long as it lives, and it is dropped only after
    // `AsyncFd` has deregistered it.
    let watched = unsafe { AsyncFd::register_with_interest(fd, interest) };
    Ok(watched?)
}
