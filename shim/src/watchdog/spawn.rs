//! The start of a watchdog.

#![allow(clippy::disallowed_methods, reason = "the shim starts itself here; runsc is started in the bridge")]

use std::{
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Command, Stdio},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::{process::PidFd, sandbox_dir::SandboxDir};

/// Starts this program once more as the watchdog of the pod in `dir`. Returns its process and our end of the socket that
/// it listens to.
///
/// # Errors
/// What kept it from being executed.
pub(super) fn spawn(namespace: &str, id: &str, dir: &SandboxDir) -> io::Result<(PidFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, its) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let child = Command::new("/proc/self/exe")
        // As the shim has it.
        .arg0(std::env::current_exe()?)
        .args(["-namespace", namespace, "-id", id, "-sandbox-dir"])
        .arg(dir.path())
        .arg("watchdog")
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(its))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok((PidFd::open(child.id().cast_signed())?, ours))
}
