//! What a descriptor is ready for at this moment, without the runtime.

use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Asks the kernel; nothing where it doesn't say.
pub(crate) fn readiness(fd: impl AsFd) -> PollFlags {
    let mut polled = [PollFd::new(fd.as_fd(), PollFlags::POLLIN | PollFlags::POLLOUT)];
    match poll(&mut polled, PollTimeout::ZERO) {
        Ok(_) => polled[0].revents().unwrap_or(PollFlags::empty()),
        Err(_) => PollFlags::empty(),
    }
}

/// Whether anybody can read what is written here: a pipe's writing end reports an error once nobody has the other one.
pub(crate) fn has_reader(writer: impl AsFd) -> bool {
    !readiness(writer).contains(PollFlags::POLLERR)
}
