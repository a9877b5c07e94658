//! When processes end, to the moment: by descriptors that the kernel makes ready, and not by asking again and again.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use harness::proc::Process;
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::time::{ClockId, Timespec, clock_gettime};

use super::Result;

/// Nanoseconds since boot, on the clock that deadlines are kept on.
pub(crate) fn boottime() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)).unwrap_or(0)
}

/// Some sandboxes, by their processes.
#[derive(Debug)]
pub(crate) struct Watch {
    epoll: OwnedFd,
    processes: Vec<OwnedFd>,
    /// For each process, whose it is.
    owners: Vec<usize>,
    /// For each sandbox the file that lists who is in its cgroup.
    members: Vec<PathBuf>,
}

impl Watch {
    pub(crate) fn new() -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, processes: Vec::new(), owners: Vec::new(), members: Vec::new() })
    }

    /// Takes a sandbox under watch; its number is that of the call.
    pub(crate) fn add(&mut self, processes: &[Process], members: PathBuf) -> Result<()> {
        let owner = self.members.len();
        self.members.push(members);
        for process in processes {
            let pid = Pid::from_raw(process.pid).ok_or("a process without a pid")?;
            let descriptor = pidfd_open(pid, PidfdFlags::empty())?;
            if !process.is_alive() {
                return Err(format!("{} has ended before its time", process.command).into());
            }
            let data = epoll::EventData::new_u64(self.processes.len() as u64);
            epoll::add(&self.epoll, &descriptor, data, epoll::EventFlags::IN | epoll::EventFlags::ONESHOT)?;
            self.processes.push(descriptor);
            self.owners.push(owner);
        }
        Ok(())
    }

    /// Kills all of them, as fast as can be, and says when.
    pub(crate) fn kill(&self) -> u64 {
        let began = boottime();
        for process in &self.processes {
            // Who has ended needs no end.
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
        began
    }

    /// Waits until nothing is left of any, and says of each when that was, on the clock of [`boottime`].
    pub(crate) fn ends(self, limit: Duration) -> Result<Vec<u64>> {
        let mut ends = vec![0; self.members.len()];
        let mut left = self.processes.len();
        let patience = Timespec::try_from(limit)?;
        let mut events = Vec::with_capacity(64);
        while left > 0 {
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&patience)) {
                Ok(0) => return Err(format!("{left} processes are there after {limit:?}").into()),
                Ok(_) => {}
                Err(error) if error == rustix::io::Errno::INTR => continue,
                Err(error) => return Err(error.into()),
            }
            let now = boottime();
            for event in events.drain(..) {
                let index = usize::try_from(event.data.u64())?;
                ends[self.owners[index]] = now;
                left -= 1;
            }
        }
        for (end, members) in ends.iter_mut().zip(&self.members) {
            *end = nobody_is_in(members, *end)?;
        }
        Ok(ends)
    }
}

/// The moment from which on a cgroup was empty: `seen` if it is, and later if somebody was made after the last look.
fn nobody_is_in(members: &std::path::Path, seen: u64) -> Result<u64> {
    let mut end = seen;
    loop {
        match std::fs::read_to_string(members) {
            Ok(text) if !text.is_empty() => end = boottime(),
            Ok(_) => return Ok(end),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound) => return Ok(end),
            // Removed while it was read.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => {
                return Ok(end);
            }
            Err(error) => return Err(error.into()),
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}
