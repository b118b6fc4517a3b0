//! Everything that can be refused, each with a stable code and a message that says what to do.

use std::io;
use std::path::{Path, PathBuf};

use crate::Timescale;
use crate::counter::clocksource::CURRENT_PATH;
use crate::machine::udev::{apply_rules, page_rule, rules_path};
use crate::snapshot::{ClockStatus, TimeType};

/// The system's error numbers that an error stands for by itself (`asm-generic/errno.h`).
mod errno {
    pub(super) const ENODEV: i32 = 19;
    pub(super) const EINVAL: i32 = 22;
    pub(super) const ETIMEDOUT: i32 = 110;
}

/// Why a page could not be opened, read, converted or published, or a PTP clock not be read.
///
/// [`Error::code`] is stable; messages may be reworded in any release.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no file at the path, or no page in any of the usual places.
    #[error("{}: there is no vmclock page here; on a machine without one, `vmclock publish` makes one (`vmclock status` lists what was found)", show(.path))]
    NotFound {
        /// The path as it was asked for.
        path: PathBuf,
    },
    /// The file may not be opened.
    #[error("{}: permission denied; {}, or start this process as a user who may read it", show(.path), access_remedy(*.is_device))]
    Access {
        /// The path as it was asked for.
        path: PathBuf,
        /// Whether it is a device, which udev's rules are for, and no file that somebody publishes.
        is_device: bool,
        /// The system's error number, EACCES or EPERM.
        errno: i32,
    },
    /// A page may not be created or written here.
    #[error("{}: permission denied: this process may not create or write a page here; publish to a path in a folder of its own (`vmclock publish <path>`), or start it as the user who owns the page", show(.path))]
    WriteAccess {
        /// The path as it was asked for.
        path: PathBuf,
        /// The system call that was refused.
        syscall: &'static str,
        /// The system's error number, EACCES, EPERM or EROFS.
        errno: i32,
    },
    /// The folder that a page is to be created in does not exist.
    #[error("{}: the folder that this page is to be created in does not exist; create it first (mkdir -p)", show(.path))]
    NoFolder {
        /// The path as it was asked for.
        path: PathBuf,
    },
    /// The publisher was closed, or had to stop.
    #[error("{}: this publisher has stopped ({reason}); create another one", show(.path))]
    Stopped {
        /// The page's path.
        path: PathBuf,
        /// Why it stopped.
        reason: String,
    },
    /// Somebody who is not trusted could write the page, or it is no file that a page may be.
    #[error("{}: {reason}", show(.path))]
    Untrusted {
        /// The path as it was asked for.
        path: PathBuf,
        /// What is wrong with it, and the remedy.
        reason: String,
    },
    /// The file does not begin with `VCLK`.
    #[error("{}: this is not a vmclock page: it begins with 0x{found:08x} instead of 0x4b4c4356 (\"VCLK\"); check the path", show(.path))]
    BadMagic {
        /// The path as it was asked for.
        path: PathBuf,
        /// The first four bytes, little-endian.
        found: u32,
    },
    /// The page's `version` is not 1.
    #[error("{}: the page has version {found}, and this release of vmclock reads version 1; update vmclock, or check what wrote the page", show(.path))]
    BadVersion {
        /// The path as it was asked for.
        path: PathBuf,
        /// The page's `version`.
        found: u16,
    },
    /// The page's `version` was 1 when the page was opened and is another now.
    #[error(
        "the page had version 1 when it was opened and has version {found} now, and this release of vmclock reads version 1; update vmclock, or check what wrote the page"
    )]
    VersionChanged {
        /// The page's `version` now.
        found: u16,
    },
    /// The file or the page's `size` is too small, or `size` promises more than the file holds.
    #[error("{}: the page says that it has {declared_bytes} bytes and the file has {available_bytes}; a page has at least 32 and its file holds all of them: check what wrote it", show(.path))]
    TooSmall {
        /// The path as it was asked for.
        path: PathBuf,
        /// The page's `size`; 0 where the file is too short to hold that field.
        declared_bytes: u64,
        /// Bytes that the file has.
        available_bytes: u64,
    },
    /// The page carries no time: its provider fills in the disruption marker only.
    #[error(
        "the page carries no time ({reason}); continuity and watching work on it, and `vmclock publish` makes a page with time"
    )]
    NoTime {
        /// Which part is missing.
        reason: NoTime,
    },
    /// The page's clock is not in a state that its time may be used in.
    #[error(
        "the page's clock is {status}, so its time is not to be used; wait until its provider has synchronized it, or ask who runs this machine"
    )]
    Unsynchronized {
        /// The page's `clock_status`.
        status: ClockStatus,
    },
    /// The page describes a counter that this CPU does not have.
    #[error(
        "the page describes counter {found}, and this machine's is {expected}; it was written for another architecture: open this machine's own page, or publish one here"
    )]
    WrongCounter {
        /// The page's `counter_id`.
        found: u8,
        /// This machine's counter.
        expected: u8,
    },
    /// The counter is more than a second behind the page's reference: they do not belong together.
    #[error(
        "the counter is {behind_ticks} ticks behind the page's reference, which is more than a second: the counter was reset or the page was written for another machine; restart what publishes it"
    )]
    CounterMismatch {
        /// Ticks from the counter to the reference.
        behind_ticks: u64,
    },
    /// The page's counter period cannot be used.
    #[error(
        "the page's counter period is {period} / 2^(64+{shift}) s, which no counter has; check what wrote the page"
    )]
    BadPeriod {
        /// `counter_period_frac_sec`.
        period: u64,
        /// `counter_period_shift`.
        shift: u8,
    },
    /// The time does not fit into signed 64-bit nanoseconds since 1970 (years 1677 to 2262).
    #[error(
        "the time lies outside the years 1677 to 2262, which signed 64-bit nanoseconds hold; check the page's reference time and the counter"
    )]
    OutOfRange,
    /// The page does not say how far TAI is ahead of UTC, or says something impossible.
    #[error("the page gives no usable offset between TAI and UTC (raw value {raw}, {}); use the timescale that the page itself has, or have its provider set the offset", if *.flagged { "marked valid" } else { "not marked valid" })]
    NoTaiOffset {
        /// `tai_offset_sec` as it stands in the page.
        raw: i16,
        /// Whether the page marks it valid.
        flagged: bool,
    },
    /// The page was being updated for as long as the reader was willing to wait.
    #[error(
        "the page was not still within 100 ms (sequence number {seq}): its writer died in the middle of an update or never pauses; restart what publishes it"
    )]
    Timeout {
        /// The sequence number that was seen last. Odd: an update was begun and never ended.
        seq: u32,
    },
    /// The machine was disrupted (migrated, restored, cloned) since the token was taken.
    #[error(
        "the machine was migrated, restored or cloned since the token was taken, so its counter may not be the same; take a new token and read the counter again"
    )]
    Disrupted,
    /// The timescale that was asked for cannot be had from this page.
    #[error(
        "the page's time is {page}, from which {wanted} cannot be computed; open it with another timescale"
    )]
    Timescale {
        /// The page's `time_type`.
        page: TimeType,
        /// The timescale that was asked for.
        wanted: Timescale,
    },
    /// The call is for timescales that follow UTC, and this clock's is another.
    #[error(
        "this needs a timescale that follows UTC, and this clock's is {timescale}; open the page with 'utc' as well"
    )]
    NotUtc {
        /// The clock's timescale.
        timescale: Timescale,
    },
    /// Another live publisher holds the page.
    #[error("{}: another publisher holds this page; stop it first, or publish to another path", show(.path))]
    Busy {
        /// The page's path.
        path: PathBuf,
    },
    /// The counter is not one that time may be published from.
    #[error("{reason}")]
    UntrustedCounter {
        /// What is wrong with it, and the remedy.
        reason: String,
    },
    /// There is no file at the path of a PTP clock.
    #[error("{}: there is no such device; `vmclock ptp` finds the PTP clock of a vmclock by its name, and /sys/class/ptp lists all that there are", show(.path))]
    NoPtpDevice {
        /// The path as it was asked for.
        path: PathBuf,
    },
    /// No PTP clock of this machine has the name.
    #[error("no PTP clock is called \"{}\" here, {}; of a vmclock page that has time when the kernel's driver is loaded the driver makes one, called vmclock0: `vmclock status` shows the page", escaped(.name), listed(.found))]
    NoPtpClock {
        /// The name as it was asked for.
        name: String,
        /// The names that there are.
        found: Vec<String>,
    },
    /// A PTP clock's device may not be opened.
    #[error("{}: permission denied; {}start this process as a user who may read it, and in a container pass the device to it (--device)", show(.path), ptp_rule(.name.as_deref()))]
    PtpAccess {
        /// The path as it was asked for.
        path: PathBuf,
        /// The clock's name, where it is known.
        name: Option<String>,
        /// The system's error number, EACCES or EPERM.
        errno: i32,
    },
    /// The file is no PTP clock.
    #[error("{}: this is {kind}, and no PTP clock; give the path of one, such as /dev/ptp0: /sys/class/ptp lists all that there are", show(.path))]
    NotPtp {
        /// The path as it was asked for.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// The clock was taken away since it was opened.
    #[error("{}: this clock is gone: its driver was unbound or its device removed; open the clock again once it is back, by its name", show(.path))]
    Vanished {
        /// The path as it was opened.
        path: PathBuf,
    },
    /// The kernel, or the clock's driver, does not have what was asked for.
    #[error("{}: this clock or this kernel does not have {what} (error number {errno}); {remedy}", show(.path))]
    NotSupported {
        /// The path as it was opened.
        path: PathBuf,
        /// What was asked for.
        what: &'static str,
        /// What to do instead.
        remedy: &'static str,
        /// The system's error number: ENOTTY or EINVAL the kernel's, EOPNOTSUPP the driver's.
        errno: i32,
    },
    /// The system's clocks run on another counter than the one that the clock is read from.
    #[error("{}: the system's clocks run on the clocksource {}, and a cross timestamp needs them to run on the counter that this clock is read from; as root, write that one's name (tsc on x86-64, arch_sys_counter on Arm) to {CURRENT_PATH} or boot with clocksource=NAME, or take samples(), which need no common counter", show(.path), escaped(.current.as_deref().unwrap_or("(unknown)")))]
    OtherClocksource {
        /// The path as it was opened.
        path: PathBuf,
        /// The clocksource by the kernel's name for it.
        current: Option<String>,
    },
    /// The clock did not answer for as long as its driver was willing to wait.
    #[error("{}: {call}: the clock did not answer in time; a vmclock's does so where the hypervisor began an update of the page and does not end it: `vmclock status` shows the page", show(.path))]
    PtpTimeout {
        /// The path as it was opened.
        path: PathBuf,
        /// What was asked.
        call: &'static str,
    },
    /// The clock's driver refused to tell the time.
    #[error("{}: {call}: the clock's driver refuses this (EINVAL); a vmclock's does so while the page's clock is unreliable or gives no TAI, and where the kernel distrusts the CPU's counter: `vmclock status` shows the page", show(.path))]
    PtpRefused {
        /// The path as it was opened.
        path: PathBuf,
        /// What was asked.
        call: &'static str,
    },
    /// A clock's time does not fit into signed 64-bit nanoseconds (584 years around its epoch).
    #[error("{}: the clock's time lies outside what signed 64-bit nanoseconds hold, 292 years to each side of its epoch; set the clock, or look at its page (`vmclock status`): the kernel's driver lands there where the counter is behind the page's reference", show(.path))]
    PtpOutOfRange {
        /// The path as it was opened.
        path: PathBuf,
    },
    /// The system clock was set back within every bracket.
    #[error("{}: the system clock was set back each time between its two readings around the clock's; sample a clock that is never set ('monotonic'), or find out what sets it", show(.path))]
    SystemClockStepped {
        /// The path as it was opened.
        path: PathBuf,
    },
    /// An argument is outside its range.
    #[error("{0}")]
    InvalidArgument(String),
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

/// Which part of a time a page lacks.
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
    /// The stable code, the same in every language: `ERR_VMCLOCK_…`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. }
            | Self::NoFolder { .. }
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
            Self::Timescale { .. } | Self::NotUtc { .. } => "ERR_VMCLOCK_TIMESCALE",
            Self::Busy { .. } => "ERR_VMCLOCK_BUSY",
            Self::UntrustedCounter { .. } => "ERR_VMCLOCK_UNTRUSTED_COUNTER",
            Self::InvalidArgument(_) => "ERR_VMCLOCK_INVALID_ARGUMENT",
            Self::NotPtp { .. } => "ERR_VMCLOCK_NOT_PTP",
            Self::Vanished { .. } => "ERR_VMCLOCK_VANISHED",
            Self::NotSupported { .. } => "ERR_VMCLOCK_NOT_SUPPORTED",
            Self::OtherClocksource { .. } => "ERR_VMCLOCK_CLOCKSOURCE",
            Self::SystemClockStepped { .. } => "ERR_VMCLOCK_STEPPED",
            Self::System { .. } | Self::PtpRefused { .. } => "ERR_VMCLOCK_SYSTEM",
        }
    }

    /// The file that the error is about, where there is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::NotFound { path }
            | Self::Access { path, .. }
            | Self::WriteAccess { path, .. }
            | Self::NoFolder { path }
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
            Self::System { path, .. } => path.as_deref(),
            _ => None,
        }
    }

    /// The system's error number, where a system call failed.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Access { errno, .. }
            | Self::WriteAccess { errno, .. }
            | Self::PtpAccess { errno, .. }
            | Self::NotSupported { errno, .. } => Some(*errno),
            Self::Vanished { .. } | Self::OtherClocksource { .. } => Some(errno::ENODEV),
            Self::PtpTimeout { .. } => Some(errno::ETIMEDOUT),
            Self::PtpRefused { .. } => Some(errno::EINVAL),
            Self::System { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// The system call that failed, where one did.
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

    /// A failed system call.
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

/// A path as it may stand in a message.
fn show(path: &Path) -> String {
    escaped(&path.to_string_lossy())
}

/// Somebody else's text as it may stand in a message: whatever could move a terminal's cursor is
/// escaped. So is the semicolon: the first one in a message parts what is wrong from what to do, and
/// `vmclock doctor` tells people to do what stands behind it.
fn escaped(text: &str) -> String {
    text.escape_debug().to_string().replace(';', "\\u{3b}")
}

/// How to let a process read a page.
fn access_remedy(is_device: bool) -> &'static str {
    if is_device {
        concat!(
            "the device belongs to root by default: install a udev rule such as ",
            page_rule!(),
            " in ",
            rules_path!(),
            " and run `",
            apply_rules!(),
            "` (`vmclock doctor --udev-rule` prints the file)"
        )
    } else {
        "have its owner let others read the page (chmod 0644) and pass through its folders (chmod a+x)"
    }
}

/// The system call by which a PTP clock is asked: one has a name of its own, the others are requests.
pub(crate) fn syscall_of(call: &'static str) -> &'static str {
    if call.starts_with("PTP_") {
        "ioctl"
    } else {
        call
    }
}

/// What PTP clocks there are, for a message.
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

/// The udev rule for a PTP clock, where the kernel says that the device is one. A name that a rule would
/// read as something else matches no clock, so then the rule is for all of them.
fn ptp_rule(name: Option<&str>) -> String {
    let Some(name) = name else {
        return String::new();
    };
    let is_plain = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || " _-.:".contains(c));
    let of_it = if is_plain {
        format!(", ATTR{{clock_name}}==\"{name}\"")
    } else {
        String::new()
    };
    format!(
        "the device belongs to root by default: install a udev rule such as SUBSYSTEM==\"ptp\"{of_it}, \
         MODE=\"0444\" in {} and run `{}`, or ",
        rules_path!(),
        apply_rules!()
    )
}
