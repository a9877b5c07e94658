//! Moments that mean the same after a crash, in another process, and after a reboot.

use std::{
    io,
    os::unix::fs::MetadataExt,
    time::{Duration, SystemTime},
};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// A moment on CLOCK_BOOTTIME, in nanoseconds since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Boottime(u64);

impl Boottime {
    pub(crate) fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        let nanos = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
        Self(u64::try_from(nanos).unwrap_or(0))
    }

    /// `self` and `later`, or the last moment there is where that is beyond what can be written.
    pub(crate) fn after(self, later: Duration) -> Self {
        let later = u64::try_from(later.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(later))
    }

    /// `self` less `sooner`, or the boot where that was before it.
    pub(crate) fn before(self, sooner: Duration) -> Self {
        let sooner = u64::try_from(sooner.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(sooner))
    }

    /// From `earlier` to `self`; zero if it isn't earlier.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Nanoseconds since boot.
    pub(crate) fn nanos(self) -> u64 {
        self.0
    }
}

/// Which clock CLOCK_BOOTTIME is: another after a reboot, and another in another time namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClockName {
    boot: String,
    /// The namespace's inode; 0 on a kernel that has none (before Linux 5.6).
    time_namespace: u64,
}

impl ClockName {
    /// The clock of this process.
    ///
    /// # Errors
    /// The kernel's files cannot be read.
    pub(crate) fn current() -> io::Result<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        let time_namespace = match std::fs::metadata("/proc/self/ns/time") {
            Ok(metadata) => metadata.ino(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        Ok(Self { boot, time_namespace })
    }
}

/// A moment as it is written down: on CLOCK_BOOTTIME, which nobody can set, and for whoever has another such clock by the
/// wall's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moment {
    clock: ClockName,
    boottime: Boottime,
    /// Milliseconds since 1970.
    realtime: u64,
}

impl Moment {
    /// The moment that is `boottime` on this process's clock.
    ///
    /// # Errors
    /// As [`ClockName::current`].
    pub(crate) fn at(boottime: Boottime) -> io::Result<Self> {
        let (now, realtime) = (Boottime::now(), unix_millis(SystemTime::now()));
        let ahead = millis(boottime.since(now));
        let behind = millis(now.since(boottime));
        Ok(Self {
            clock: ClockName::current()?,
            boottime,
            realtime: realtime.saturating_add(ahead).saturating_sub(behind),
        })
    }

    /// The same moment on this process's clock, which may have been started since.
    ///
    /// # Errors
    /// As [`ClockName::current`].
    pub(crate) fn here(&self) -> io::Result<Boottime> {
        if self.clock == ClockName::current()? {
            return Ok(self.boottime);
        }
        let (now, realtime) = (Boottime::now(), unix_millis(SystemTime::now()));
        // What was before this boot was at its beginning, at the earliest.
        let ahead = Duration::from_millis(self.realtime.saturating_sub(realtime));
        let behind = Duration::from_millis(realtime.saturating_sub(self.realtime));
        let behind = u64::try_from(behind.as_nanos()).unwrap_or(u64::MAX);
        Ok(Boottime(now.after(ahead).0.saturating_sub(behind)))
    }

    /// The same as another boot's, which only the wall's clock tells of.
    #[cfg(test)]
    pub(crate) fn on_another_clock(self) -> Self {
        Self { clock: ClockName { boot: "another".into(), ..self.clock }, boottime: Boottime(7), ..self }
    }

    /// By the wall's clock, for people and for what outlives a boot.
    pub(crate) fn on_the_wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.realtime)
    }
}

/// Milliseconds since 1970; 0 for what is before.
pub(crate) fn unix_millis(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, millis)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn close(a: Boottime, b: Boottime) -> bool {
        a.since(b).max(b.since(a)) < SECOND
    }

    #[test]
    fn a_moment_of_this_boot_is_exact() {
        let due = Boottime::now().after(Duration::from_secs(600));
        assert_eq!(Moment::at(due).unwrap().here().unwrap(), due);
    }

    #[test]
    fn a_moment_of_another_boot_or_time_namespace_is_found_by_the_wall() {
        let now = Boottime::now();
        for due in [now.after(Duration::from_secs(600)), Boottime(now.0.saturating_sub(5_000_000_000))] {
            let moment = Moment::at(due).unwrap();
            let other_boot = ClockName { boot: "another".into(), ..moment.clock.clone() };
            let other_namespace = ClockName { time_namespace: 1, ..moment.clock.clone() };
            for clock in [other_boot, other_namespace] {
                let moment = Moment { clock, boottime: Boottime(7), ..moment.clone() };
                assert!(close(moment.here().unwrap(), due));
            }
        }
    }

    #[test]
    fn moments_beyond_what_can_be_written_are_the_last() {
        let last = Boottime(u64::MAX);
        assert_eq!(Boottime::now().after(Duration::MAX), last);
        assert_eq!(Moment::at(last).unwrap().here().unwrap(), last);
        assert_eq!(Boottime(3).since(Boottime(5)), Duration::ZERO);
    }
}
