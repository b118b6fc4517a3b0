//! Notice that CLOCK_REALTIME was set.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use crate::error::Error;

/// Reports at once that CLOCK_REALTIME was set: by `settimeofday`, ADJ_SETOFFSET, a leap second, another TAI
/// offset or a resume. It does not report slews.
///
/// It is a timer that never expires, and that the kernel cancels when the clock is set
/// (TFD_TIMER_CANCEL_ON_SET, `timerfd_create(2)`).
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
            // Cancelled: the clock was set meanwhile. The timer is armed all the same.
            Ok(_) | Err(Errno::CANCELED) => Ok(Self { timer }),
            Err(errno) => Err(Error::system("timerfd_settime", None, errno)),
        }
    }

    /// Returns whether the clock was set since the last call, without waiting. The alarm stays armed: the
    /// next step cancels the timer again.
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
