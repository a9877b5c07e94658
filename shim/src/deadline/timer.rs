//! A timer on CLOCK_BOOTTIME.

use std::{io, time::Duration};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::watched::{Watched, watch};

/// A timer that fires once, at an absolute time since boot.
#[derive(Debug)]
pub(super) struct BoottimeTimer(Watched);

const NEVER: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

impl BoottimeTimer {
    /// A timer that isn't set.
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Boottime, flags)?;
        Ok(Self(watch(fd)?))
    }

    /// Sets the timer to `after` from now.
    pub(super) fn set(&self, after: Duration) -> io::Result<()> {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let overflow = || io::Error::from(io::ErrorKind::InvalidInput);
        // A time that has passed already must still fire, and zero would clear the timer.
        let nanos = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
        let due = nanos + i128::try_from(after.as_nanos()).map_err(|_| overflow())?;
        let seconds = i64::try_from(due / 1_000_000_000).map_err(|_| overflow())?;
        let rest = i64::try_from(due % 1_000_000_000).map_err(|_| overflow())?;
        self.set_absolute(Timespec { tv_sec: seconds, tv_nsec: rest })
    }

    /// Unsets the timer.
    pub(super) fn clear(&self) {
        // Clearing a valid descriptor with a valid time cannot fail.
        let _ = self.set_absolute(NEVER);
    }

    fn set_absolute(&self, due: Timespec) -> io::Result<()> {
        let value = Itimerspec { it_interval: NEVER, it_value: due };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::ABSTIME, &value)?;
        Ok(())
    }

    /// Waits until the timer fires; for ever while it isn't set.
    pub(super) async fn expired(&self) {
        loop {
            let Ok(mut ready) = self.0.readable().await else { return };
            let mut count = [0; 8];
            // Readiness from before the timer was set anew reads as EAGAIN.
            if let Ok(Ok(_)) = ready.try_io(|fd| Ok(rustix::io::read(fd, &mut count)?)) {
                return;
            }
        }
    }
}
