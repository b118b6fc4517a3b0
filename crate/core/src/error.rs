//! Every refusal, with a stable code, a message that says what is wrong, and a remedy.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use crate::counter::clocksource::CURRENT_PATH;
use crate::machine::udev::{apply_rules, page_rule, rules_path};
use crate::snapshot::{ClockStatus, TimeType};
use crate::timescale::Timescale;

/// The error numbers that follow from an error's kind (`asm-generic/errno.h`).
mod errno {
    pub(super) const ENODEV: i32 = 19;
    pub(super) const EINVAL: i32 = 22;
    pub(super) const ETIMEDOUT: i32 = 110;
}

/// A refusal or failure of a call, on a page, a publisher or a PTP clock.
///
/// The message (`Display`) says what is wrong. [`Error::remedy`] says what to do about it.
/// [`Error::code`] is stable; messages and remedies may be reworded in any release.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no file at the path, or no page in any of the usual places.
    #[error("{}: there is no vmclock page here", show(.path))]
    NotFound {
        /// The path as it was given.
        path: PathBuf,
    },
    /// The process may not open the file.
    #[error("{}: permission denied", show(.path))]
    Access {
        /// The path as it was given.
        path: PathBuf,
        /// True for a device, which needs a udev rule; false for a file, which needs a mode.
        is_device: bool,
        /// The system's error number, EACCES or EPERM.
        errno: i32,
    },
    /// The process may not create or write a page here.
    #[error("{}: {}: this process may not create or write a page here", show(.path), denial(*.errno))]
    WriteAccess {
        /// The path as it was given.
        path: PathBuf,
        /// The system call that was refused.
        syscall: &'static str,
        /// The system's error number, EACCES, EPERM or EROFS.
        errno: i32,
    },
    /// The directory that a page is to be created in does not exist.
    #[error("{}: the directory of this page does not exist", show(.path))]
    NoDirectory {
        /// The path as it was given.
        path: PathBuf,
    },
    /// The publisher was closed, or had to stop.
    #[error("{}: this publisher has stopped ({reason})", show(.path))]
    Stopped {
        /// The page's path.
        path: PathBuf,
        /// Why it stopped.
        reason: String,
    },
    /// The file could be written by somebody who is not trusted, or is no file that a page may be.
    #[error("{}: {reason}", show(.path))]
    Untrusted {
        /// The path as it was given.
        path: PathBuf,
        /// The fault of the file.
        reason: String,
        /// The remedy.
        remedy: String,
    },
    /// The file does not begin with `VCLK`.
    #[error("{}: this is not a vmclock page: it begins with 0x{found:08x} instead of 0x4b4c4356 (\"VCLK\")", show(.path))]
    BadMagic {
        /// The path as it was given.
        path: PathBuf,
        /// The first four bytes, little-endian.
        found: u32,
    },
    /// The page's `version` is not 1.
    #[error("{}: the page has version {found}, and this release of vmclock reads version 1", show(.path))]
    BadVersion {
        /// The path as it was given.
        path: PathBuf,
        /// The page's `version`.
        found: u16,
    },
    /// The page's `version` was 1 when the page was opened and is another now.
    #[error(
        "the page had version 1 when it was opened and has version {found} now, and this release of vmclock reads version 1"
    )]
    VersionChanged {
        /// The page's `version` now.
        found: u16,
    },
    /// The file or the page's `size` is too small, or `size` exceeds the file.
    #[error("{}: the page says that it has {declared_bytes} bytes and the file has {available_bytes}; a page has at least 32, and its file holds all of them", show(.path))]
    TooSmall {
        /// The path as it was given.
        path: PathBuf,
        /// The page's `size`; 0 where the file is too short to hold that field.
        declared_bytes: u64,
        /// Bytes that the file has.
        available_bytes: u64,
    },
    /// The page carries no time: its provider fills in the disruption marker only.
    #[error("the page carries no time ({reason})")]
    NoTime {
        /// Which part is missing.
        reason: NoTime,
    },
    /// The page's clock is in a state in which its time must not be used.
    #[error("the page's clock is {status}, so {}", unsynchronized_text(*.status))]
    Unsynchronized {
        /// The page's `clock_status`.
        status: ClockStatus,
    },
    /// The page describes a counter that this CPU does not have.
    #[error(
        "the page describes counter {found}, and this machine's is {expected}: the page was written for another architecture"
    )]
    WrongCounter {
        /// The page's `counter_id`.
        found: u8,
        /// This machine's counter.
        expected: u8,
    },
    /// The counter is more than a second behind the page's reference: they do not belong together.
    #[error(
        "the counter is {behind_ticks} ticks behind the page's reference, which is more than a second: the counter was reset, or the page was written for another machine"
    )]
    CounterMismatch {
        /// Ticks from the counter to the reference.
        behind_ticks: u64,
    },
    /// The page's counter period cannot be used.
    #[error("the page's counter period is {period} / 2^(64+{shift}) s, which no counter has")]
    BadPeriod {
        /// `counter_period_frac_sec`.
        period: u64,
        /// `counter_period_shift`.
        shift: u8,
    },
    /// The time does not fit into signed 64-bit nanoseconds since 1970 (years 1677 to 2262).
    #[error(
        "the time lies outside the years 1677 to 2262, which signed 64-bit nanoseconds can express"
    )]
    OutOfRange,
    /// The page gives no offset between TAI and UTC, or an impossible one.
    #[error("the page gives no usable offset between TAI and UTC (raw value {raw}, {})", if *.flagged { "marked valid" } else { "not marked valid" })]
    NoTaiOffset {
        /// `tai_offset_sec` as it is in the page.
        raw: i16,
        /// True if the page marks it valid.
        flagged: bool,
    },
    /// The page was being updated for as long as the reader was willing to wait.
    #[error(
        "the page was being updated for 100 ms without end (sequence number {seq}): its writer died in the middle of an update, or never pauses"
    )]
    Timeout {
        /// The sequence number that was read last. Odd: an update was begun and never ended.
        seq: u32,
    },
    /// The page has not been updated for longer than the caller allows.
    #[error("the page is {age_ms} ms old, and at most {max_age_ms} ms were allowed")]
    Stale {
        /// The page's age in milliseconds, rounded up.
        age_ms: u64,
        /// The age that the caller allows.
        max_age_ms: u64,
    },
    /// The time is known less well than the caller requires.
    #[error("the error of the time is {}, and at most {error_limit_ns} ns were allowed", .max_error_ns.map_or_else(|| "not bounded".to_owned(), |ns| format!("up to {ns} ns")))]
    TooUncertain {
        /// The bound; `None` if there is none.
        max_error_ns: Option<u64>,
        /// The ceiling that the caller set.
        error_limit_ns: u64,
    },
    /// The page was made in another boot, or on another machine.
    #[error(
        "the page was made in another boot of this machine, or on another machine, so its counter is another"
    )]
    OtherBoot,
    /// The page was in the memory of the process that this one was forked from.
    #[error("the page was in the memory of the process that this one was forked from")]
    Forked,
    /// The machine was disrupted (migrated, restored, cloned) since the token was taken.
    #[error(
        "the machine was migrated, restored or cloned since the token was taken, so its counter may not be the same"
    )]
    Disrupted,
    /// The timescale that was asked for cannot be computed from this page.
    #[error("the page's time is {page}, from which {wanted} cannot be computed")]
    Timescale {
        /// The page's `time_type`.
        page: TimeType,
        /// The timescale that was asked for.
        wanted: Timescale,
    },
    /// The call needs a timescale that follows UTC, and this clock's is another.
    #[error("this call needs a timescale that follows UTC, and this clock's is {timescale}")]
    NotUtc {
        /// The clock's timescale.
        timescale: Timescale,
    },
    /// Another live publisher holds the page.
    #[error("{}: another publisher holds this page", show(.path))]
    Busy {
        /// The page's path.
        path: PathBuf,
    },
    /// The counter is not one that time may be published from.
    #[error("{reason}")]
    UntrustedCounter {
        /// The fault of the counter.
        reason: &'static str,
        /// The remedy.
        remedy: &'static str,
    },
    /// There is no file at the path of a PTP clock.
    #[error("{}: there is no such device", show(.path))]
    NoPtpDevice {
        /// The path as it was given.
        path: PathBuf,
    },
    /// No PTP clock of this machine has the name.
    #[error("no PTP clock is called \"{}\" here, {}", escaped(.name), listed(.found))]
    NoPtpClock {
        /// The name as it was given.
        name: String,
        /// The names of the clocks that exist.
        found: Vec<String>,
    },
    /// The process may not open a PTP clock's device.
    #[error("{}: permission denied", show(.path))]
    PtpAccess {
        /// The path as it was given.
        path: PathBuf,
        /// The clock's name, where it is known.
        name: Option<String>,
        /// The system's error number, EACCES or EPERM.
        errno: i32,
    },
    /// The file is no PTP clock.
    #[error("{}: this is {kind}, and no PTP clock", show(.path))]
    NotPtp {
        /// The path as it was given.
        path: PathBuf,
        /// The kind of the file.
        kind: &'static str,
    },
    /// The clock was removed since it was opened.
    #[error("{}: this clock is gone: its driver was unbound or its device removed", show(.path))]
    Vanished {
        /// The path as it was opened.
        path: PathBuf,
    },
    /// The kernel, or the clock's driver, lacks the call.
    #[error("{}: this clock or this kernel does not have {what} (error number {errno})", show(.path))]
    NotSupported {
        /// The path as it was opened.
        path: PathBuf,
        /// The call or the option.
        what: &'static str,
        /// The remedy.
        remedy: &'static str,
        /// The system's error number: ENOTTY or EINVAL the kernel's, EOPNOTSUPP the driver's.
        errno: i32,
    },
    /// The system's clocks run on another counter than the one that the clock is read from.
    #[error("{}: the system's clocks run on the clocksource {}, and a cross timestamp needs them to run on the counter that this clock is read from", show(.path), escaped(.current.as_deref().unwrap_or("(unknown)")))]
    OtherClocksource {
        /// The path as it was opened.
        path: PathBuf,
        /// The clocksource by the kernel's name for it.
        current: Option<String>,
    },
    /// The clock did not answer for as long as its driver was willing to wait.
    #[error("{}: {call}: the clock did not answer in time; a vmclock does so where the hypervisor began an update of the page and does not end it", show(.path))]
    PtpTimeout {
        /// The path as it was opened.
        path: PathBuf,
        /// The call that was made.
        call: &'static str,
    },
    /// The clock's driver refused to give the time.
    #[error("{}: {call}: the clock's driver refuses this (EINVAL); a vmclock does so while the page's clock is unreliable or gives no TAI, and where the kernel distrusts the CPU's counter", show(.path))]
    PtpRefused {
        /// The path as it was opened.
        path: PathBuf,
        /// The call that was made.
        call: &'static str,
    },
    /// A clock's time does not fit into signed 64-bit nanoseconds (584 years around its epoch).
    #[error("{}: the clock's time is more than 292 years from its epoch, which signed 64-bit nanoseconds cannot express; a vmclock's driver gives such a time where the counter is behind the page's reference", show(.path))]
    PtpOutOfRange {
        /// The path as it was opened.
        path: PathBuf,
    },
    /// The system clock was set back within every bracket.
    #[error("{}: the system clock was set back each time between its two readings around the clock's", show(.path))]
    SystemClockStepped {
        /// The path as it was opened.
        path: PathBuf,
    },
    /// The source of time that was chosen gives no time with a bound.
    #[error("{}{source_name} gives no time with a bound: {reason}", .path.as_deref().map(|path| format!("{}: ", show(path))).unwrap_or_default())]
    NoSource {
        /// The source: ClockBound, or a PTP hardware clock.
        source_name: &'static str,
        /// The file or device, if there is one.
        path: Option<PathBuf>,
        /// The reason.
        reason: String,
        /// The remedy.
        remedy: &'static str,
        /// The system's error number, if a system call failed: ENOENT if the source does not exist.
        errno: Option<i32>,
    },
    /// An argument is outside its range.
    #[error("{reason}")]
    InvalidArgument {
        /// The fault, and the allowed values.
        reason: String,
        /// The remedy, if the reason does not give one.
        remedy: Option<&'static str>,
    },
    /// A system call failed in a way that has no code of its own.
    #[error("{}{syscall}: {source}", .path.as_deref().map(|path| format!("{}: ", show(path))).unwrap_or_default())]
    System {
        /// The system call.
        syscall: &'static str,
        /// The file that it was about, if any.
        path: Option<PathBuf>,
        /// The system's error.
        source: io::Error,
    },
}

/// The part of a time that a page lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoTime {
    /// `counter_id` is 0xff: it describes no counter.
    NoCounter,
    /// `size` ends before the time fields.
    Size(u32),
}

impl std::fmt::Display for NoTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoCounter => f.write_str("it describes no counter"),
            Self::Size(bytes) => write!(f, "its {bytes} bytes end before the time"),
        }
    }
}

impl Error {
    /// Returns the stable code, which is the same in every language: `ERR_VMCLOCK_…`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. }
            | Self::NoDirectory { .. }
            | Self::NoPtpDevice { .. }
            | Self::NoPtpClock { .. } => "ERR_VMCLOCK_NOT_FOUND",
            Self::Access { .. } | Self::WriteAccess { .. } | Self::PtpAccess { .. } => {
                "ERR_VMCLOCK_ACCESS"
            }
            Self::Stopped { .. } => "ERR_VMCLOCK_CLOSED",
            Self::Untrusted { .. } => "ERR_VMCLOCK_UNTRUSTED",
            Self::BadMagic { .. } => "ERR_VMCLOCK_BAD_MAGIC",
            Self::BadVersion { .. } | Self::VersionChanged { .. } => "ERR_VMCLOCK_BAD_VERSION",
            Self::TooSmall { .. } => "ERR_VMCLOCK_TOO_SMALL",
            Self::NoTime { .. } => "ERR_VMCLOCK_NO_TIME",
            Self::Unsynchronized { .. } => "ERR_VMCLOCK_UNSYNCHRONIZED",
            Self::WrongCounter { .. } => "ERR_VMCLOCK_WRONG_COUNTER",
            Self::CounterMismatch { .. } => "ERR_VMCLOCK_COUNTER_MISMATCH",
            Self::BadPeriod { .. } => "ERR_VMCLOCK_BAD_PERIOD",
            Self::OutOfRange | Self::PtpOutOfRange { .. } => "ERR_VMCLOCK_OUT_OF_RANGE",
            Self::NoTaiOffset { .. } => "ERR_VMCLOCK_NO_TAI_OFFSET",
            Self::Timeout { .. } | Self::PtpTimeout { .. } => "ERR_VMCLOCK_TIMEOUT",
            Self::Disrupted => "ERR_VMCLOCK_DISRUPTED",
            Self::Stale { .. } => "ERR_VMCLOCK_STALE",
            Self::TooUncertain { .. } => "ERR_VMCLOCK_TOO_UNCERTAIN",
            Self::OtherBoot => "ERR_VMCLOCK_OTHER_BOOT",
            Self::Forked => "ERR_VMCLOCK_FORKED",
            Self::Timescale { .. } | Self::NotUtc { .. } => "ERR_VMCLOCK_TIMESCALE",
            Self::Busy { .. } => "ERR_VMCLOCK_BUSY",
            Self::UntrustedCounter { .. } => "ERR_VMCLOCK_UNTRUSTED_COUNTER",
            Self::InvalidArgument { .. } => "ERR_VMCLOCK_INVALID_ARGUMENT",
            Self::NotPtp { .. } => "ERR_VMCLOCK_NOT_PTP",
            Self::Vanished { .. } => "ERR_VMCLOCK_VANISHED",
            Self::NotSupported { .. } => "ERR_VMCLOCK_NOT_SUPPORTED",
            Self::OtherClocksource { .. } => "ERR_VMCLOCK_CLOCKSOURCE",
            Self::SystemClockStepped { .. } => "ERR_VMCLOCK_STEPPED",
            Self::NoSource { .. } => "ERR_VMCLOCK_NO_SOURCE",
            Self::System { .. } | Self::PtpRefused { .. } => "ERR_VMCLOCK_SYSTEM",
        }
    }

    /// Returns the remedy in the imperative: what the caller can do. `None` if the message suffices.
    #[must_use]
    pub fn remedy(&self) -> Option<Cow<'static, str>> {
        let fixed: &'static str = match self {
            Self::Untrusted { remedy, .. } => return Some(remedy.clone().into()),
            Self::PtpAccess { name, .. } => return Some(ptp_access_remedy(name.as_deref()).into()),
            Self::OtherClocksource { .. } => return Some(other_clocksource_remedy().into()),
            Self::System {
                syscall, source, ..
            } => return system_remedy(syscall, source),
            Self::InvalidArgument { remedy, .. } => (*remedy)?,
            Self::UntrustedCounter { remedy, .. }
            | Self::NotSupported { remedy, .. }
            | Self::NoSource { remedy, .. } => remedy,
            Self::Access { is_device, .. } => access_remedy(*is_device),
            Self::NotFound { .. } => {
                "publish a page on this machine with `vmclock publish`, or give the path of an \
                 existing one (`vmclock status` lists them)"
            }
            Self::WriteAccess { .. } => {
                "publish to a path in a directory of its own (`vmclock publish <path>`), or start \
                 this process as the user who owns the page"
            }
            Self::NoDirectory { .. } => "create the directory first (mkdir -p)",
            Self::Stopped { .. } => "create another publisher",
            Self::BadMagic { .. } => "check the path",
            Self::BadVersion { .. } | Self::VersionChanged { .. } => {
                "update vmclock, or check what wrote the page"
            }
            Self::TooSmall { .. } | Self::BadPeriod { .. } => "check what wrote the page",
            Self::NoTime { .. } => {
                "open a clock without a path, which finds or makes a page with time"
            }
            Self::Unsynchronized { status } => match status {
                ClockStatus::FreeRunning => {
                    "leave that option out to take time that is relative to the page's own clock, \
                     or wait until the clock is synchronized"
                }
                ClockStatus::Unreliable => {
                    "start the publisher again (`vmclock publish`, or its service); if the page is \
                     a hypervisor's, ask who runs this machine"
                }
                _ => "wait until its provider has synchronized it, or ask who runs this machine",
            },
            Self::WrongCounter { .. } => "open this machine's own page, or publish one here",
            Self::CounterMismatch { .. } | Self::Timeout { .. } => {
                "restart what publishes the page"
            }
            Self::OutOfRange => "check the page's reference time and the counter",
            Self::NoTaiOffset { .. } => {
                "open it with the timescale 'page', which is the page's own, or have its provider \
                 set the offset"
            }
            Self::Disrupted => "take a new token and read the counter again",
            Self::Stale { .. } => {
                "start what publishes the page again (`vmclock publish`), or allow a greater age \
                 (`maxAgeMs`, --max-age)"
            }
            Self::TooUncertain { .. } => {
                "find out with `vmclock doctor` why the error is not smaller, or allow more \
                 (`errorLimitNs`, --error-limit)"
            }
            Self::OtherBoot => "publish a page in this boot (`vmclock publish`), or open another",
            Self::Forked => "open the clock again in this process",
            Self::Timescale {
                page: TimeType::Utc | TimeType::Tai | TimeType::Monotonic,
                ..
            } => "open it with the timescale 'page', which is the page's own",
            Self::Timescale { .. } => "have its provider give UTC, TAI or a monotonic time instead",
            Self::NotUtc { .. } => "open the page with 'utc' as well",
            Self::Busy { .. } => "stop it first, or publish to another path",
            Self::NoPtpDevice { .. } => {
                "find the PTP clock of a vmclock by its name with `vmclock ptp`, or see \
                 /sys/class/ptp, which lists all clocks"
            }
            Self::NoPtpClock { .. } => {
                "look at the page with `vmclock status`: the kernel's driver makes the clock \
                 vmclock0 of a page that has time when the driver is loaded"
            }
            Self::NotPtp { .. } => {
                "give the path of a PTP clock such as /dev/ptp0: /sys/class/ptp lists all clocks"
            }
            Self::Vanished { .. } => "open the clock again by its name once it is back",
            Self::PtpTimeout { .. } | Self::PtpRefused { .. } => {
                "look at the page with `vmclock status`"
            }
            Self::PtpOutOfRange { .. } => {
                "set the clock, or look at its page with `vmclock status`"
            }
            Self::SystemClockStepped { .. } => {
                "sample a clock that is never set ('monotonic'), or find out what sets it"
            }
        };
        Some(fixed.into())
    }

    /// Returns the file that the error is about, if there is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::NotFound { path }
            | Self::Access { path, .. }
            | Self::WriteAccess { path, .. }
            | Self::NoDirectory { path }
            | Self::Stopped { path, .. }
            | Self::Untrusted { path, .. }
            | Self::BadMagic { path, .. }
            | Self::BadVersion { path, .. }
            | Self::TooSmall { path, .. }
            | Self::Busy { path }
            | Self::NoPtpDevice { path }
            | Self::PtpAccess { path, .. }
            | Self::NotPtp { path, .. }
            | Self::Vanished { path }
            | Self::NotSupported { path, .. }
            | Self::OtherClocksource { path, .. }
            | Self::PtpTimeout { path, .. }
            | Self::PtpRefused { path, .. }
            | Self::PtpOutOfRange { path }
            | Self::SystemClockStepped { path } => Some(path),
            Self::System { path, .. } | Self::NoSource { path, .. } => path.as_deref(),
            _ => None,
        }
    }

    /// Returns the system's error number, if a system call failed.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Access { errno, .. }
            | Self::WriteAccess { errno, .. }
            | Self::PtpAccess { errno, .. }
            | Self::NotSupported { errno, .. } => Some(*errno),
            Self::NoSource { errno, .. } => *errno,
            Self::Vanished { .. } | Self::OtherClocksource { .. } => Some(errno::ENODEV),
            Self::PtpTimeout { .. } => Some(errno::ETIMEDOUT),
            Self::PtpRefused { .. } => Some(errno::EINVAL),
            Self::System { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// Returns the system call that failed, if one did.
    #[must_use]
    pub fn syscall(&self) -> Option<&'static str> {
        match self {
            Self::Access { .. } | Self::PtpAccess { .. } => Some("open"),
            Self::PtpTimeout { call, .. } | Self::PtpRefused { call, .. } => Some(syscall_of(call)),
            Self::NotSupported { .. } | Self::OtherClocksource { .. } => Some("ioctl"),
            Self::WriteAccess { syscall, .. } => Some(syscall),
            Self::System { syscall, .. } => Some(syscall),
            _ => None,
        }
    }

    /// Makes the error for an argument outside its range. `reason` says what is allowed.
    #[must_use]
    pub fn invalid_argument(reason: impl Into<String>) -> Self {
        Self::InvalidArgument {
            reason: reason.into(),
            remedy: None,
        }
    }

    /// Makes the error for a failed system call.
    pub(crate) fn system(
        syscall: &'static str,
        path: Option<&Path>,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::System {
            syscall,
            path: path.map(Path::to_path_buf),
            source: source.into(),
        }
    }
}

/// Returns in words why a file may not be written.
fn denial(errno: i32) -> &'static str {
    if errno == libc::EROFS {
        "the file system is read-only"
    } else {
        "permission denied"
    }
}

/// The longest path that a message quotes whole, in characters.
const QUOTED_CHARS: usize = 256;

/// Formats a path for a message. A long one loses its middle.
fn show(path: &Path) -> String {
    let text = path.to_string_lossy();
    let length = text.chars().count();
    if length <= QUOTED_CHARS {
        return escaped(&text);
    }
    let begin: String = text.chars().take(QUOTED_CHARS / 2).collect();
    let end: String = text.chars().skip(length - QUOTED_CHARS / 2).collect();
    format!("{}…{}", escaped(&begin), escaped(&end))
}

/// Formats text of another program for a message: it escapes every character that could move a terminal's
/// cursor.
fn escaped(text: &str) -> String {
    text.escape_debug().to_string()
}

fn unsynchronized_text(status: ClockStatus) -> &'static str {
    match status {
        ClockStatus::FreeRunning => {
            "the option requireSynchronized (--require-synchronized) refuses its time"
        }
        ClockStatus::Unreliable => {
            "its time must not be used: its publisher was stopped, or its provider withdrew it"
        }
        _ => "its time must not be used",
    }
}

/// Returns what to do about a failed system call, by its error.
fn system_remedy(syscall: &str, source: &io::Error) -> Option<Cow<'static, str>> {
    let remedy = match (syscall, source.raw_os_error()?) {
        ("adjtimex", libc::EPERM | libc::EACCES | libc::ENOSYS) => {
            "allow the calls adjtimex and clock_adjtime, which change nothing here, in the seccomp filter of \
             this process or its container; a page with time needs it also with a stated error, \
             for leap seconds and the clock's rate. Or publish a marker alone (--shape marker)"
        }
        (_, libc::EPERM | libc::ENOSYS) => {
            return Some(
                format!(
                    "allow the system call {syscall} in the seccomp filter or security policy of \
                     this process or its container"
                )
                .into(),
            );
        }
        (_, libc::EMFILE) => {
            "close some files, or raise this process's limit of open files (`ulimit -n`)"
        }
        (_, libc::ENFILE) => "raise the system's limit of open files (fs.file-max)",
        ("clone", libc::EAGAIN) => {
            "raise the limit of threads (`ulimit -u`, or pids.max of the container)"
        }
        ("mmap", libc::ENOMEM | libc::EAGAIN) => {
            "close clocks that are not used, or raise the limit that was reached: \
             vm.max_map_count, `ulimit -v`, `ulimit -l` or the container's memory"
        }
        (_, libc::ENOMEM) => "free memory, or raise the limit of this process or its container",
        (_, libc::ENOSPC | libc::EDQUOT) => "free space on that file system",
        (_, libc::EROFS) => "give a path on a file system that can be written",
        (_, libc::EFBIG) => "raise this process's limit of file sizes (`ulimit -f`)",
        (_, libc::ENAMETOOLONG) => "give a shorter path",
        (_, libc::EIO) => "see the kernel's log for the device (`dmesg`)",
        _ => return None,
    };
    Some(remedy.into())
}

/// Returns how to let a process read a page.
fn access_remedy(is_device: bool) -> &'static str {
    if is_device {
        concat!(
            "install a udev rule, because the device belongs to root by default: ",
            page_rule!(),
            " in ",
            rules_path!(),
            " (`vmclock doctor --udev-rule` prints the file), and run `",
            apply_rules!(),
            "`; or start this process as a user who may read it"
        )
    } else {
        "have its owner let others read the page (chmod 0644) and enter its directories \
         (chmod a+x), or start this process as a user who may read it"
    }
}

/// Returns how to let a process read a PTP clock. It gives a rule only if the kernel says that the device is
/// a PTP clock. A name with special characters would be a pattern in the rule, so the rule is then for all
/// PTP clocks.
fn ptp_access_remedy(name: Option<&str>) -> String {
    let other = "start this process as a user who may read it, and in a container pass the device \
                 to it (--device)";
    let Some(name) = name else {
        return other.to_owned();
    };
    let is_plain = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || " _-.:".contains(c));
    let pattern = if is_plain {
        format!(", ATTR{{clock_name}}==\"{name}\"")
    } else {
        String::new()
    };
    format!(
        "install a udev rule, because the device belongs to root by default: \
         SUBSYSTEM==\"ptp\"{pattern}, MODE=\"0444\" in {}, and run `{}`; or {other}",
        rules_path!(),
        apply_rules!()
    )
}

/// Returns how to get a cross timestamp, or what to use instead.
fn other_clocksource_remedy() -> String {
    format!(
        "as root, write that counter's name (tsc on x86-64, arch_sys_counter on Arm) to \
         {CURRENT_PATH} or boot with clocksource=NAME, or take samples(), which need no common \
         counter"
    )
}

/// Returns the system call behind a call of a PTP clock: `ioctl` for a request, else the call itself.
pub(crate) fn syscall_of(call: &'static str) -> &'static str {
    if call.starts_with("PTP_") {
        "ioctl"
    } else {
        call
    }
}

/// Formats the PTP clocks that exist for a message.
fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "and there is no other".to_owned();
    }
    let shown: Vec<String> = names
        .iter()
        .map(|name| format!("\"{}\"", escaped(name)))
        .collect();
    format!("only {}", shown.join(", "))
}
