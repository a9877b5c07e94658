//! What the shim tells its watchdog, one packet each, and the answers.
//!
//! Both are the same program, so the form may change from one version to the next.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use crate::{cgroup::Cgroup, deadline::clock::Boottime};

/// More than a cgroup's paths can be long.
const LARGEST: usize = 64 << 10;

/// Something that the watchdog has to know from now on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Message {
    /// The shim itself, as the descriptor that comes along.
    Shim,
    /// Nothing new: that the shim lives, and whether the watchdog does.
    Ping,
    /// Whether the pod may run on, until its time is up, when its shim has died.
    Hold(bool),
    /// Where the sandbox is or will be: whatever is in it may be killed. Nobody had been in it before.
    Cgroup(Cgroup),
    /// A process of the sandbox, as the descriptor that comes along.
    Process,
    /// When the pod's time and its grace are over; `None` before it runs.
    Over(Option<Boottime>),
    /// The sandbox is gone: what was told of it is about nothing any more.
    Forget,
    /// The pod has ended, and the shim is about to.
    Release,
}

/// A message and its number, which is the answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Numbered {
    pub(super) number: u64,
    pub(super) message: Message,
}

impl Numbered {
    /// Sends it, with `process` along.
    ///
    /// # Errors
    /// `WouldBlock` if the watchdog doesn't read; anything else if it is gone.
    pub(super) fn send(&self, socket: impl AsFd, process: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let packet = serde_json::to_vec(self)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut along = SendAncillaryBuffer::new(&mut space);
        let fds: Vec<BorrowedFd<'_>> = process.into_iter().collect();
        if !fds.is_empty() {
            along.push(SendAncillaryMessage::ScmRights(&fds));
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        sendmsg(socket, &[IoSlice::new(&packet)], &mut along, flags)?;
        Ok(())
    }

    /// Receives one; `None` once nobody can send any more.
    ///
    /// # Errors
    /// `WouldBlock` if there is none, `InvalidData` for what is no message.
    pub(super) fn receive(socket: impl AsFd) -> io::Result<Option<(Self, Option<OwnedFd>)>> {
        let mut packet = vec![0; LARGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut along = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(socket, &mut [IoSliceMut::new(&mut packet)], &mut along, flags)?;
        if received.bytes == 0 {
            return Ok(None);
        }
        let process = along.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            RecvAncillaryMessage::ScmCredentials(_) | _ => None,
        });
        let message = serde_json::from_slice(&packet[..received.bytes])?;
        Ok(Some((message, process)))
    }
}

/// What the watchdog says, unasked, once it has ended a sandbox that the shim should have: no message has this number.
pub(super) const ENDED: u64 = 0;

/// Answers that everything up to `number` is known.
///
/// # Errors
/// The shim is gone.
pub(super) fn acknowledge(socket: impl AsFd, number: u64) -> io::Result<()> {
    rustix::net::send(socket, &number.to_ne_bytes(), SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The latest number that has been answered; `None` once nobody can answer any more.
///
/// # Errors
/// `WouldBlock` if there is no answer.
pub(super) fn answered(socket: impl AsFd) -> io::Result<Option<u64>> {
    let mut number = [0; 8];
    let (received, _) = rustix::net::recv(socket, &mut number, RecvFlags::DONTWAIT)?;
    Ok((received == number.len()).then(|| u64::from_ne_bytes(number)))
}

/// How long after the end of a pod's grace its watchdog kills: by then the shim has, unless it hangs.
pub(super) const MARGIN: Duration = Duration::from_secs(2);
