//! The host's limit of a sandbox's processes and threads, seen when the sandbox runs into it.
//!
//! What is inside has a lower limit, which the sentry keeps. A sandbox that comes to the host's has lost a process or
//! thread that it needed, and dies or hangs.

use std::{fs::File, io, os::fd::AsFd, time::Duration};

use tokio::io::Interest;

use crate::{
    cgroup::Cgroup,
    stats::pids_limit_hits,
    watched::{Watched, watch_for},
};

/// How often version 1 is asked.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// A watch for the first time.
#[derive(Debug)]
pub(crate) struct PidsWatch {
    events: Events,
    cgroup: Cgroup,
}

#[derive(Debug)]
enum Events {
    /// The kernel marks the file as changed with POLLPRI.
    Told(Watched),
    /// On version 1 Linux marks it no more (6.11; kernel/cgroup/pids.c, `pids_event`).
    Asked(File),
}

impl PidsWatch {
    /// Starts to watch; `None` where no pids controller counts the cgroup's processes.
    ///
    /// # Errors
    /// The kernel doesn't let it be watched.
    pub(crate) fn start(cgroup: &Cgroup) -> io::Result<Option<Self>> {
        let Some(directory) = cgroup.directory_with("pids.events") else { return Ok(None) };
        let events = File::open(directory.join("pids.events"))?;
        let events = match directory.join("cgroup.controllers").exists() {
            true => Events::Told(watch_for(events.into(), Interest::PRIORITY)?),
            false => Events::Asked(events),
        };
        Ok(Some(Self { events, cgroup: cgroup.clone() }))
    }

    /// Waits for it. Says whether it came: the cgroup may go before.
    pub(crate) async fn reached(self) -> bool {
        loop {
            let file = match &self.events {
                Events::Told(events) => match events.ready(Interest::PRIORITY).await {
                    Ok(mut ready) => {
                        ready.clear_ready();
                        events.get_ref().as_fd()
                    }
                    Err(_) => return false,
                },
                Events::Asked(events) => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                    events.as_fd()
                }
            };
            // Read, or it stays marked; and there is none to be read once the cgroup is gone.
            if rustix::io::pread(file, &mut [0; 128], 0).is_err() {
                return false;
            }
            if pids_limit_hits(&self.cgroup).is_some_and(|hits| hits > 0) {
                return true;
            }
        }
    }
}
