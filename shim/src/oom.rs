//! The kernel's kills for want of memory, seen when they happen.
//!
//! A sandbox can live on after one: the kernel may take a gofer or one of the processes that hold the guest's memory, and
//! a sentry without them hangs. So the first kill is told at once.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::event::{EventfdFlags, eventfd};
use tokio::io::Interest;

use crate::{
    cgroup::Cgroup,
    stats::{oom_kills, oom_kills_in},
    watched::{Watched, watch_for},
};

/// Version 1 tells of the want of memory before the kill: how often, and with which pauses, to look for the kill.
const LOOKS: u32 = 50;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Whether the kernel has killed any process of a sandbox for want of memory, also once its cgroup is gone: systemd
/// removes a scope as soon as nobody is in it, which may be before the shim has looked.
#[derive(Debug, Clone)]
pub(crate) struct OomKills {
    cgroup: Cgroup,
    /// What was counted before, in a cgroup that somebody else had made.
    before: u64,
    above: Option<Arc<Above>>,
}

/// The cgroup above, which stays and counts the kills in all cgroups below it.
#[derive(Debug)]
struct Above {
    directory: PathBuf,
    /// The kills of others.
    others: AtomicU64,
}

impl Above {
    fn of(cgroup: &Cgroup) -> Option<Self> {
        let own = cgroup.directory_with("memory.events").filter(|_| cgroup.is_by_systemd())?;
        let above = Self { directory: own.parent()?.to_owned(), others: AtomicU64::new(0) };
        above.others.store(above.kills()?, Ordering::Relaxed);
        Some(above)
    }

    fn kills(&self) -> Option<u64> {
        oom_kills_in(&self.directory)
    }
}

impl OomKills {
    /// For a sandbox that has just been made in `cgroup`.
    pub(crate) fn of(cgroup: &Cgroup) -> Self {
        let before = oom_kills(cgroup).unwrap_or_default();
        Self { cgroup: cgroup.clone(), before, above: Above::of(cgroup).map(Arc::new) }
    }

    /// Whether there was one; `None` where that isn't counted.
    pub(crate) fn any(&self) -> Option<bool> {
        // Before our own count: what is in this and not in that is others'.
        let above = self.above.as_ref().and_then(|above| Some((above, above.kills()?)));
        match (oom_kills(&self.cgroup), above) {
            (Some(own), Some((above, kills))) if own <= self.before => {
                above.others.store(kills, Ordering::Relaxed);
                Some(false)
            }
            (Some(own), _) => Some(own > self.before),
            (None, Some((above, kills))) => Some(kills > above.others.load(Ordering::Relaxed)),
            (None, None) => None,
        }
    }

    /// The directory that is there for as long as a kill can be told.
    fn directory_with(&self, file: &str) -> Option<&Path> {
        match &self.above {
            Some(above) => Some(&above.directory),
            None => self.cgroup.directory_with(file),
        }
    }
}

/// A watch for kills in one cgroup.
#[derive(Debug)]
pub(crate) struct OomWatch {
    notice: Watched,
    interest: Interest,
    kills: OomKills,
}

impl OomWatch {
    /// Starts to watch; `None` where no memory controller accounts for the cgroup.
    ///
    /// # Errors
    /// The kernel doesn't let it be watched.
    pub(crate) fn start(kills: OomKills) -> io::Result<Option<Self>> {
        let (notice, interest) = if let Some(directory) = kills.cgroup.directory_with("memory.oom_control") {
            (notices_of_v1(directory)?, Interest::READABLE)
        } else if let Some(directory) = kills.directory_with("memory.events") {
            // The kernel marks the file as changed with POLLPRI.
            (File::open(directory.join("memory.events"))?.into(), Interest::PRIORITY)
        } else {
            return Ok(None);
        };
        let notice = watch_for(notice, interest)?;
        Ok(Some(Self { notice, interest, kills }))
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
                return self.kills.any() == Some(true);
            }
            // Version 2 tells of the kill itself.
            let looks = if self.interest.is_priority() { 1 } else { LOOKS };
            for look in 0..looks {
                if look > 0 {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                match self.kills.any() {
                    None => return false,
                    Some(false) => {}
                    Some(true) => return true,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn count(directory: &Path, kills: u64) {
        std::fs::create_dir_all(directory).unwrap();
        let text = format!("oom 1\noom_kill {kills}\n");
        crate::durable::replace(&directory.join("memory.events"), text.as_bytes()).unwrap();
    }

    #[test]
    fn a_kill_is_told_after_its_scope_is_gone_and_a_siblings_is_not() {
        let slice = tempfile::tempdir().unwrap();
        let scope = slice.path().join("a.scope");
        count(slice.path(), 3);
        count(&scope, 0);
        let kills = OomKills::of(&Cgroup::scope_at(scope.clone()));
        assert_eq!(kills.any(), Some(false));
        count(slice.path(), 4);
        assert_eq!(kills.any(), Some(false));
        std::fs::remove_dir_all(&scope).unwrap();
        assert_eq!(kills.any(), Some(false));
        count(slice.path(), 5);
        assert_eq!(kills.any(), Some(true));
    }

    #[test]
    fn a_kill_in_the_cgroup_itself_is_told_and_nothing_of_one_that_is_gone() {
        let parent = tempfile::tempdir().unwrap();
        let own = parent.path().join("a");
        count(parent.path(), 3);
        count(&own, 0);
        let kills = OomKills::of(&Cgroup::of_directories(vec![own.clone()]));
        assert_eq!(kills.any(), Some(false));
        count(&own, 1);
        assert_eq!(kills.any(), Some(true));
        // What was there before it is another's.
        assert_eq!(OomKills::of(&Cgroup::of_directories(vec![own.clone()])).any(), Some(false));
        std::fs::remove_dir_all(&own).unwrap();
        assert_eq!(kills.any(), None);
    }
}
