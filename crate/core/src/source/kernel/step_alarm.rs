//! Notice that CLOCK_REALTIME was set.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use crate::error::Error;

/// Tells at once when CLOCK_REALTIME is set (`settimeofday`, ADJ_SETOFFSET, a leap second, a
/// resume): a timer that never runs out, but is cancelled by that (TFD_TIMER_CANCEL_ON_SET,
/// `timerfd_create(2)`). Slewing does not trigger it.
#[derive(Debug)]
pub struct StepAlarm {
    timer: OwnedFd,
}

impl StepAlarm {
    /// Arms the alarm.
    ///
    /// # Errors
    ///
    /// [`Error::System`].
    pub fn new() -> Result<Self, Error> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Realtime, flags)
            .map_err(|errno| Error::system("timerfd_create", None, errno))?;
        let never = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: Timespec {
                tv_sec: i64::MAX,
                tv_nsec: 0,
            },
        };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        match rustix::time::timerfd_settime(&timer, flags, &never) {
            // Cancelled: the clock was set while this armed the timer, which it did all the same.
            Ok(_) | Err(Errno::CANCELED) => Ok(Self { timer }),
            Err(errno) => Err(Error::system("timerfd_settime", None, errno)),
        }
    }

    /// Whether the clock was set since the last call. Does not wait, and leaves the alarm armed:
    /// a cancelled timer that was read is cancelled again by the next step.
    #[must_use]
    pub fn went_off(&self) -> bool {
        let mut expirations = [0_u8; 8];
        matches!(
            rustix::io::read(&self.timer, &mut expirations),
            Err(Errno::CANCELED)
        )
    }
}

impl AsFd for StepAlarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}
