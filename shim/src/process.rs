//! Processes of the host: named so that a recycled pid is never mistaken, and ended through descriptors.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    process::ExitStatus,
    time::{Duration, SystemTime},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;

use crate::watched::watch_for;

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    /// The exit code, 128 + signal for a process that a signal ended, 124 for one that ran out of time.
    pub(crate) status: u32,
    /// When we saw it. Never zero: containerd keeps a container running for ever otherwise.
    pub(crate) at: SystemTime,
}

/// The exit code of a container that was still running when its time was up, as GNU `timeout` has it.
pub(crate) const STATUS_TIMED_OUT: u32 = 124;
/// The exit code of a process ended by SIGKILL.
pub(crate) const STATUS_KILLED: u32 = 128 + 9;

impl Exit {
    /// An exit that is seen now.
    pub(crate) fn now(status: u32) -> Self {
        Self { status, at: SystemTime::now() }
    }
}

/// A wait status as containerd reports it.
pub(crate) fn exit_code(status: ExitStatus) -> u32 {
    match (status.code(), status.signal()) {
        (Some(code), _) => code.cast_unsigned(),
        (None, Some(signal)) => 128 + signal.cast_unsigned(),
        (None, None) => STATUS_KILLED,
    }
}

/// A process named by its pid and the time it started, in clock ticks since boot: the pair is unique until a reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessName {
    pub(crate) pid: i32,
    start_time: u64,
}

impl ProcessName {
    /// Names the process that has `pid` now.
    pub(crate) fn of(pid: i32) -> io::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let start_time = start_time(&stat).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat: {stat:?}"))
        })?;
        Ok(Self { pid, start_time })
    }

    /// Opens the process, unless it has ended and its pid is nobody's or somebody else's.
    pub(crate) fn open(self) -> Option<PidFd> {
        let pidfd = PidFd::open(self.pid).ok()?;
        // Checked with the descriptor open: from here on it can only mean the process that has this start time.
        (Self::of(self.pid).ok()? == self).then_some(pidfd)
    }
}

/// The kernel's flag for a task that is on its way out, signals and descriptors included (`include/linux/sched.h`).
const PF_EXITING: u64 = 4;

impl ProcessName {
    /// Whether the process runs and isn't just ending. One that was killed holds its locks and sockets for a moment.
    pub(crate) fn is_running(self) -> bool {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)) else { return false };
        start_time(&stat) == Some(self.start_time)
            && flags(&stat).is_some_and(|flags| flags & PF_EXITING == 0)
    }
}

/// Field 9 of `/proc/PID/stat`.
fn flags(stat: &str) -> Option<u64> {
    let (_, after_command) = stat.rsplit_once(')')?;
    after_command.split_ascii_whitespace().nth(6)?.parse().ok()
}

/// Field 22 of `/proc/PID/stat`; the command in field 2 may hold spaces and parentheses.
fn start_time(stat: &str) -> Option<u64> {
    let (_, after_command) = stat.rsplit_once(')')?;
    after_command.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Between two looks at a process that is about to end.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// A descriptor of a process. Unlike a pid it cannot come to mean another one.
#[derive(Debug)]
pub(crate) struct PidFd(OwnedFd);

impl From<OwnedFd> for PidFd {
    /// Of a descriptor that is one: anything else has no process to end.
    fn from(pidfd: OwnedFd) -> Self {
        Self(pidfd)
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl PidFd {
    /// Opens the process that has `pid` now.
    pub(crate) fn open(pid: i32) -> io::Result<Self> {
        let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::NotFound)?;
        Ok(Self(pidfd_open(pid, PidfdFlags::NONBLOCK)?))
    }

    /// Sends SIGKILL. A process that has ended already is fine.
    pub(crate) fn kill(&self) {
        let _ = pidfd_send_signal(&self.0, Signal::KILL);
    }

    /// Whether the process has ended, reaped or not.
    pub(crate) fn has_ended(&self) -> bool {
        let mut watched = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut watched, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Waits until the process has ended.
    pub(crate) async fn ended(&self) {
        match self.0.try_clone().and_then(|fd| watch_for(fd, Interest::READABLE)) {
            Ok(watched) => drop(watched.readable().await),
            Err(_) => {
                while !self.has_ended() {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
        }
    }

    /// Waits until the process has ended, for `limit` at most. Says whether it has.
    pub(crate) async fn ended_within(&self, limit: Duration) -> bool {
        let ended = async {
            while !self.has_ended() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(limit, ended).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_time_is_found_behind_any_command() {
        let fields: Vec<String> = (3..=52).map(|n| n.to_string()).collect();
        let stat = format!("7 (a) b (c) {}", fields.join(" "));
        assert_eq!(start_time(&stat), Some(22));
        assert_eq!(flags(&stat), Some(9));
        assert_eq!(start_time("7 (cut"), None);
    }

    #[test]
    fn a_process_with_another_start_time_is_not_opened() {
        let me = ProcessName::of(std::process::id().cast_signed()).unwrap();
        assert!(me.open().is_some());
        assert!(me.is_running());
        assert!(!ProcessName { start_time: me.start_time + 1, ..me }.is_running());
        assert!(ProcessName { start_time: me.start_time + 1, ..me }.open().is_none());
    }

    #[test]
    fn exit_codes_follow_the_shells_convention() {
        assert_eq!(exit_code(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(exit_code(ExitStatus::from_raw(9)), 137);
    }
}
