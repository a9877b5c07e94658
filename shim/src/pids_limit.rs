//! The host's limit of a sandbox's processes and threads, seen when the sandbox runs into it.
//!
//! What is inside has a lower limit, which the sentry keeps. A sandbox that comes to the host's has lost a process or
//! thread that it needed, and dies or hangs.

use std::{fs::File, io, time::Duration};

use tokio::io::Interest;

use crate::{
    cgroup::Cgroup,
    stats::pids_limit_hits,
    watched::{Watched, watch_for},
};

/// How often version 1 is asked.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Whether a sandbox has run into that limit.
#[derive(Debug, Clone)]
pub(crate) struct PidsLimit {
    cgroup: Cgroup,
    /// What was counted before, in a cgroup that somebody else had made.
    before: u64,
}

impl PidsLimit {
    /// For a sandbox that has just been made in `cgroup`.
    pub(crate) fn of(cgroup: &Cgroup) -> Self {
        Self { cgroup: cgroup.clone(), before: pids_limit_hits(cgroup).unwrap_or_default() }
    }

    /// Whether it has; `None` where that isn't counted, or the cgroup is gone.
    pub(crate) fn was_reached(&self) -> Option<bool> {
        Some(pids_limit_hits(&self.cgroup)? > self.before)
    }
}

/// A watch for the first time.
#[derive(Debug)]
pub(crate) struct PidsWatch {
    limit: PidsLimit,
    /// Where the kernel marks the file as changed, with POLLPRI. On version 1 Linux marks it no more (6.11;
    /// kernel/cgroup/pids.c, `pids_event`).
    events: Option<Watched>,
}

impl PidsWatch {
    /// Starts to watch; `None` where no pids controller counts the cgroup's processes.
    ///
    /// # Errors
    /// The kernel doesn't let it be watched.
    pub(crate) fn start(limit: PidsLimit) -> io::Result<Option<Self>> {
        let Some(directory) = limit.cgroup.directory_with("pids.events") else { return Ok(None) };
        let events = match directory.join("cgroup.controllers").exists() {
            true => {
                let events = File::open(directory.join("pids.events"))?;
                Some(watch_for(events.into(), Interest::PRIORITY)?)
            }
            false => None,
        };
        Ok(Some(Self { limit, events }))
    }

    /// Waits for it. Says whether it came: the cgroup may go before.
    pub(crate) async fn reached(self) -> bool {
        loop {
            match &self.events {
                Some(events) => {
                    let Ok(mut ready) = events.ready(Interest::PRIORITY).await else { return false };
                    ready.clear_ready();
                    // Read, or it stays marked; and there is none to be read once the cgroup is gone.
                    if rustix::io::pread(events.get_ref(), &mut [0; 128], 0).is_err() {
                        return false;
                    }
                }
                None => tokio::time::sleep(LOOK_AGAIN).await,
            }
            match self.limit.was_reached() {
                None => return false,
                Some(false) => {}
                Some(true) => return true,
            }
        }
    }
}
