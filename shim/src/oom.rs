//! The kernel's kills for want of memory, seen when they happen.
//!
//! A sandbox can live on after one: the kernel may take a gofer or one of the processes that hold the guest's memory, and
//! a sentry without them hangs. So the first kill is told at once.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
    time::Duration,
};

use rustix::event::{EventfdFlags, eventfd};
use tokio::io::Interest;

use crate::{
    cgroup::Cgroup,
    stats::oom_kills,
    watched::{Watched, watch_for},
};

/// Version 1 tells of the want of memory before the kill: how often, and with which pauses, to look for the kill.
const LOOKS: u32 = 50;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A watch for kills in one cgroup.
#[derive(Debug)]
pub(crate) struct OomWatch {
    notice: Watched,
    interest: Interest,
    cgroup: Cgroup,
}

impl OomWatch {
    /// Starts to watch; `None` where no memory controller accounts for the cgroup.
    ///
    /// # Errors
    /// The kernel doesn't let it be watched.
    pub(crate) fn start(cgroup: &Cgroup) -> io::Result<Option<Self>> {
        let (notice, interest) = if let Some(directory) = cgroup.directory_with("memory.oom_control") {
            (notices_of_v1(directory)?, Interest::READABLE)
        } else if let Some(directory) = cgroup.directory_with("memory.events") {
            // The kernel marks the file as changed with POLLPRI.
            (File::open(directory.join("memory.events"))?.into(), Interest::PRIORITY)
        } else {
            return Ok(None);
        };
        let notice = watch_for(notice, interest)?;
        Ok(Some(Self { notice, interest, cgroup: cgroup.clone() }))
    }

    /// Waits for the first kill. Says whether there was one: the cgroup may go before.
    pub(crate) async fn killed(self) -> bool {
        loop {
            match self.notice.ready(self.interest).await {
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => return false,
            }
            // Read, or it stays marked.
            if self.take_notice().is_err() {
                return oom_kills(&self.cgroup).is_some_and(|kills| kills > 0);
            }
            // Version 2 tells of the kill itself.
            let looks = if self.interest.is_priority() { 1 } else { LOOKS };
            for look in 0..looks {
                if look > 0 {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                match oom_kills(&self.cgroup) {
                    None => return false,
                    Some(0) => {}
                    Some(_) => return true,
                }
            }
        }
    }

    fn take_notice(&self) -> io::Result<()> {
        let fd = self.notice.get_ref();
        let mut buffer = [0; 512];
        let read = if self.interest.is_priority() {
            rustix::io::pread(fd, &mut buffer, 0)
        } else {
            rustix::io::read(fd, &mut buffer)
        };
        match read {
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A descriptor that can be read when the cgroup is out of memory, or has been removed.
fn notices_of_v1(directory: &Path) -> io::Result<OwnedFd> {
    let notices = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let control = File::open(directory.join("memory.oom_control"))?;
    let registration = format!("{} {}", notices.as_fd().as_raw_fd(), control.as_raw_fd());
    let mut registry = OpenOptions::new().write(true).open(directory.join("cgroup.event_control"))?;
    registry.write_all(registration.as_bytes())?;
    Ok(notices)
}
