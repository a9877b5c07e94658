//! A timer on CLOCK_BOOTTIME.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use super::clock::Boottime;
use crate::watched::{Watched, watch};

const NANOS: u64 = 1_000_000_000;

/// A timer that isn't set, as a descriptor that can be read once it has fired.
///
/// # Errors
/// What the system says.
pub(crate) fn timer() -> io::Result<OwnedFd> {
    Ok(timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?)
}

/// Sets a timer to a moment, at once if that has passed; `None` unsets it.
///
/// # Errors
/// What the system says.
pub(crate) fn set(timer: impl AsFd, due: Option<Boottime>) -> io::Result<()> {
    // Zero would unset it, and beyond the kernel's range is as good as never.
    let nanos = due.map_or(0, |due| due.nanos().clamp(1, i64::MAX.unsigned_abs()));
    let spec = |nanos: u64| Timespec {
        tv_sec: i64::try_from(nanos / NANOS).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(nanos % NANOS).unwrap_or(0),
    };
    let value = Itimerspec { it_interval: spec(0), it_value: spec(nanos) };
    timerfd_settime(timer, TimerfdTimerFlags::ABSTIME, &value)?;
    Ok(())
}

/// Whether a timer has fired since it was last asked.
pub(crate) fn has_fired(timer: impl AsFd) -> bool {
    rustix::io::read(timer, &mut [0; 8]).is_ok()
}

/// A timer that the runtime watches. It fires once.
#[derive(Debug)]
pub(crate) struct BoottimeTimer(Watched);

impl BoottimeTimer {
    /// A timer that isn't set.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(watch(timer()?)?))
    }

    /// As [`set`].
    pub(crate) fn set(&self, due: Option<Boottime>) -> io::Result<()> {
        set(self.0.get_ref(), due)
    }

    /// Waits until the timer fires; for ever while it isn't set.
    pub(crate) async fn expired(&self) {
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
