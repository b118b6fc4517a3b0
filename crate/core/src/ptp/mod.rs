//! The kernel's PTP hardware clocks (PHCs): lists and opens them, and reads their time, alone and
//! together with the system's clocks.
//!
//! The driver `ptp_vmclock.c` registers a PTP clock named `vmclock0` as `/dev/ptpN` if the page has time
//! when the driver is loaded. Network cards and other hypervisors' drivers register clocks too, and
//! everything here works on all of them.
//!
//! A vmclock's PTP clock gives the page's time, in TAI from Linux 7.0 on and in UTC before.
//! [`PtpClock::timescale`] determines which. The two times differ if the counter is behind the page's
//! reference: the driver treats that distance as unsigned and gives a time centuries ahead.
//!
//! The calls are those of `include/uapi/linux/ptp_clock.h`. If the kernel or the clock's driver lacks a
//! call and an older one gives the same result, the older one is used. Otherwise the result is
//! [`Error::NotSupported`]. Every call needs only the right to read the device, and none changes the
//! clock.

mod attributes;
mod calls;
mod device;
mod sample;
mod timescale;

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat, major, minor};
use rustix::io::Errno;

use crate::clock::VmClock;
use crate::counter::Counter;
use crate::error::Error;
use crate::open;
use crate::seqlock::SharedWords;
use crate::timescale::Timescale;

use calls::Calls;
use device::{Device, KernelDevice};

pub use attributes::{Attributes, CounterKind, PtpStatus, PtpTimescale, SystemCounter};
pub use sample::{CounterBracket, CrossTimestamp, PtpReading, Sample};

/// The largest number of samples that one call takes: PTP_MAX_SAMPLES.
pub const MAX_SAMPLES: u32 = device::MAX_SAMPLES;

/// MAX_AUX_CLOCKS.
const AUXILIARY_CLOCKS: u8 = 8;

const SYSFS_CLASS: &str = "/sys/class/ptp";

/// The capabilities of a clock and its driver: `struct ptp_clock_caps`. A figure that the kernel does
/// not know yet is 0 or false.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The largest adjustment of the clock's rate, in parts per billion. It is 0 for a clock whose rate
    /// cannot be adjusted, such as a vmclock's.
    pub max_adjustment_ppb: i32,
    /// The largest phase adjustment, in nanoseconds (Linux 6.5).
    pub max_phase_adjustment_ns: i32,
    /// The number of programmable alarms.
    pub alarms: u32,
    /// The number of channels that timestamp external events.
    pub external_timestamps: u32,
    /// The number of programmable periodic outputs.
    pub periodic_outputs: u32,
    /// The number of programmable pins.
    pub pins: u32,
    /// True if the clock gives a pulse every second.
    pub pulse_per_second: bool,
    /// True if the driver supports [`PtpClock::cross_timestamp`].
    pub cross_timestamping: bool,
    /// True if the clock's phase can be adjusted.
    pub phase_adjustment: bool,
    /// True if the driver states attributes with [`PtpClock::samples`].
    pub extended_attributes: bool,
    /// True if the driver states attributes with [`PtpClock::cross_timestamp`].
    pub precise_attributes: bool,
}

/// A system clock that a PTP clock is sampled against.
///
/// All but the first need Linux 6.12. For a vmclock's PTP clock they need a later release, whose driver
/// supports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SampledClock {
    /// CLOCK_REALTIME: this machine's UTC since 1970.
    #[default]
    Realtime,
    /// CLOCK_MONOTONIC: never stepped, slewed together with CLOCK_REALTIME.
    Monotonic,
    /// CLOCK_MONOTONIC_RAW: never stepped, never slewed.
    MonotonicRaw,
    /// The auxiliary clock CLOCK_AUX + this number, 0 to 7. It needs Linux 6.17 with CONFIG_POSIX_AUX_CLOCKS, and
    /// an operator who enabled it.
    Auxiliary(u8),
}

/// One of this machine's PTP clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PtpDevice {
    /// `/dev/ptpN`.
    pub path: PathBuf,
    /// The name that the driver gave the clock, such as `vmclock0`, or a network card's or a driver's
    /// name. Not unique.
    pub name: String,
}

/// Lists this machine's PTP clocks in the order of their numbers. The list is empty if the kernel has
/// no PTP support.
#[must_use]
pub fn list() -> Vec<PtpDevice> {
    list_in(Path::new(SYSFS_CLASS))
}

pub(crate) fn list_in(class: &Path) -> Vec<PtpDevice> {
    let mut found: Vec<(u32, PtpDevice)> = fs::read_dir(class)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let file = entry.file_name();
            let number = file.to_str()?.strip_prefix("ptp")?.parse().ok()?;
            let path = Path::new("/dev").join(&file);
            let name = clock_name(&entry.path())?;
            Some((number, PtpDevice { path, name }))
        })
        .collect();
    found.sort_by_key(|(number, _)| *number);
    found.into_iter().map(|(_, device)| device).collect()
}

/// Returns the name that the driver gave a clock, from the clock's directory in sysfs.
fn clock_name(directory: &Path) -> Option<String> {
    let bytes = fs::read(directory.join("clock_name")).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// An open PTP clock.
#[derive(Debug)]
pub struct PtpClock {
    calls: Calls<KernelDevice>,
    name: Option<String>,
}

impl PtpClock {
    /// Opens the clock at `path`, such as `/dev/ptp0`, for reading.
    ///
    /// # Errors
    ///
    /// [`Error::NoPtpDevice`], [`Error::PtpAccess`], [`Error::NotPtp`], [`Error::Vanished`],
    /// [`Error::System`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let (file, stat) = open_device(path)?;
        let device = KernelDevice::new(file);
        // This asks the open file itself, while sysfs describes a device number. It is also no ioctl,
        // which a device of another kind might take for one of its own.
        device.resolution().map_err(|errno| match errno {
            Errno::NODEV => vanished(path),
            Errno::INVAL => not_ptp(path, "another device"),
            other => Error::system("clock_getres", Some(path), other),
        })?;
        Ok(Self {
            calls: Calls::new(device, path.to_path_buf()),
            name: name_of_device(&stat),
        })
    }

    /// Opens the first clock whose driver named it `name`. The clock of `/dev/vmclock0` is `vmclock0`.
    ///
    /// # Errors
    ///
    /// [`Error::NoPtpClock`], and those of [`PtpClock::open`].
    pub fn find(name: &str) -> Result<Self, Error> {
        let found = list();
        let missing = || Error::NoPtpClock {
            name: name.to_owned(),
            found: found
                .iter()
                .filter(|device| device.name != name)
                .map(|device| device.name.clone())
                .collect(),
        };
        let device = found
            .iter()
            .find(|device| device.name == name)
            .ok_or_else(missing)?;
        let clock = Self::open(&device.path)?;
        // Another clock may have the number by now, and a container's /dev may differ from sysfs.
        if clock.name() == Some(name) {
            Ok(clock)
        } else {
            Err(missing())
        }
    }

    /// Returns the path as it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.calls.path
    }

    /// Returns the name that the driver gave the clock; `None` if sysfs does not have it.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the clock's capabilities: PTP_CLOCK_GETCAPS2.
    ///
    /// # Errors
    ///
    /// [`Error::Vanished`], [`Error::System`].
    pub fn capabilities(&self) -> Result<Capabilities, Error> {
        self.calls.capabilities()
    }

    /// Returns the clock's time in nanoseconds since the epoch of its timescale: `clock_gettime` on the
    /// clock's descriptor.
    ///
    /// # Errors
    ///
    /// [`Error::PtpTimeout`], [`Error::PtpRefused`], [`Error::PtpOutOfRange`], [`Error::Vanished`],
    /// [`Error::NotSupported`], [`Error::System`].
    pub fn now_ns(&self) -> Result<i64, Error> {
        self.calls.now_ns()
    }

    /// Reads the clock, CLOCK_REALTIME and CLOCK_MONOTONIC_RAW at one instant:
    /// PTP_SYS_OFFSET_PRECISE_ATTRS, or PTP_SYS_OFFSET_PRECISE2 where the kernel lacks that.
    ///
    /// It works for clocks that are read from the counter that the system's clocks run on, and for
    /// network cards that can latch that counter.
    ///
    /// # Errors
    ///
    /// [`Error::NotSupported`], [`Error::OtherClocksource`], and those of [`PtpClock::now_ns`].
    pub fn cross_timestamp(&self) -> Result<CrossTimestamp, Error> {
        self.calls.cross_timestamp()
    }

    /// Reads the clock between two readings of a system clock, `count` times: PTP_SYS_OFFSET_EXTENDED_ATTRS, or
    /// PTP_SYS_OFFSET_EXTENDED2 where the kernel lacks that.
    ///
    /// If the clock's driver lacks both, this uses PTP_SYS_OFFSET2, which has only CLOCK_REALTIME.
    /// There one sample's `after_ns` is the next one's `before_ns`.
    ///
    /// # Errors
    ///
    /// - [`Error::InvalidArgument`] unless `count` is 1 to 25 and an auxiliary clock's number 0 to 7
    /// - [`Error::NotSupported`] if the kernel or the clock has no samples of `clock`
    /// - [`Error::SystemClockStepped`]
    /// - those of [`PtpClock::now_ns`]
    pub fn samples(&self, count: u32, clock: SampledClock) -> Result<Vec<Sample>, Error> {
        if let SampledClock::Auxiliary(number) = clock
            && number >= AUXILIARY_CLOCKS
        {
            return Err(Error::invalid_argument(format!(
                "an auxiliary clock's number is 0 to 7, and this is {number}"
            )));
        }
        self.calls.samples(count, clock)
    }

    /// Reads the clock by one request for one sample, without a second attempt. The system's clock plays no part.
    ///
    /// # Errors
    ///
    /// Those of [`PtpClock::now_ns`].
    pub(crate) fn reading(&self) -> Result<PtpReading, Error> {
        self.calls.reading()
    }

    /// Determines whether this clock gives TAI or UTC, by comparison with a page. `None` means that the
    /// comparison is inconclusive.
    ///
    /// The clock is read between two readings of the page. Each timescale that the page gives has an
    /// interval that held it meanwhile, from the earliest time of the two readings to the latest. The
    /// clock gives TAI if its time is in TAI's interval and cannot be UTC, and the other way round. A
    /// page that gives only one of the timescales leaves the other anywhere from 10 to 255 s away.
    ///
    /// If the page states no bound, the interval ends at the two readings themselves. Then the method
    /// recognises a clock that is derived from this page, and no clock that is merely close to it.
    ///
    /// The result is `None` for a clock that gives neither timescale, or that is further from the truth
    /// than the page's bound. It is also `None` for a page whose bound spans both timescales, and for a
    /// page that changes during every comparison.
    ///
    /// # Errors
    ///
    /// Those of [`PtpClock::now_ns`] and of [`VmClock::read`]: a page without time gives
    /// [`Error::NoTime`], one whose time is neither UTC nor TAI [`Error::Timescale`].
    pub fn timescale<M: SharedWords, C: Counter + Clone>(
        &self,
        page: &VmClock<M, C>,
    ) -> Result<Option<Timescale>, Error> {
        timescale::compare(page, || self.now_ns())
    }
}

/// Opens the device at `path` for reading, unless it is certainly no PTP clock.
fn open_device(path: &Path) -> Result<(OwnedFd, Stat), Error> {
    let refusal = |errno| match errno {
        Errno::NOENT | Errno::NOTDIR => Error::NoPtpDevice {
            path: path.to_path_buf(),
        },
        Errno::ACCESS | Errno::PERM => Error::PtpAccess {
            path: path.to_path_buf(),
            name: rustix::fs::stat(path)
                .ok()
                .and_then(|stat| name_of_device(&stat)),
            errno: errno.raw_os_error(),
        },
        Errno::NXIO => not_ptp(path, "a device without a driver"),
        Errno::NODEV => vanished(path),
        other => Error::system("open", Some(path), other),
    };
    open::for_reading(path, |stat| check_kind(path, stat), refusal)
}

/// Refuses a file that is certainly no PTP clock.
fn check_kind(path: &Path, stat: &Stat) -> Result<(), Error> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => {
            let directory = sysfs_directory(stat);
            // Without sysfs the device's kind is unknown here.
            if !directory.exists() || clock_name(&directory).is_some() {
                return Ok(());
            }
            "another device"
        }
        FileType::Directory => "a directory",
        FileType::RegularFile => "a file",
        FileType::Socket => "a socket",
        _ => "no character device",
    };
    Err(not_ptp(path, kind))
}

fn not_ptp(path: &Path, kind: &'static str) -> Error {
    Error::NotPtp {
        path: path.to_path_buf(),
        kind,
    }
}

fn vanished(path: &Path) -> Error {
    Error::Vanished {
        path: path.to_path_buf(),
    }
}

fn name_of_device(stat: &Stat) -> Option<String> {
    clock_name(&sysfs_directory(stat))
}

/// Returns the sysfs directory of a device's number.
fn sysfs_directory(stat: &Stat) -> PathBuf {
    let number = format!("{}:{}", major(stat.st_rdev), minor(stat.st_rdev));
    Path::new("/sys/dev/char").join(number)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, Mode, inotify, makedev, mkfifoat, mknodat};

    use super::*;

    #[test]
    fn list_sorts_clocks_by_number_and_gives_their_drivers_names() {
        let directory = tempfile::tempdir().unwrap();
        let class = directory.path().join("class");
        for (file, name) in [
            ("ptp10", "eth \u{1b}[2J"),
            ("ptp2", "vmclock0"),
            ("other", "x"),
        ] {
            let real = directory.path().join(file);
            fs::create_dir(&real).unwrap();
            fs::write(real.join("clock_name"), format!("{name}\n")).unwrap();
            fs::create_dir_all(&class).unwrap();
            symlink(&real, class.join(file)).unwrap();
        }
        // A clock that is removed during the listing.
        symlink("/nowhere", class.join("ptp3")).unwrap();
        let device = |path: &str, name: &str| PtpDevice {
            path: path.into(),
            name: name.to_owned(),
        };
        assert_eq!(
            list_in(&class),
            [
                device("/dev/ptp2", "vmclock0"),
                device("/dev/ptp10", "eth \u{1b}[2J")
            ]
        );
        assert_eq!(list_in(&directory.path().join("none")), []);
    }

    #[test]
    fn open_refuses_other_files_and_names_their_kind() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let missing = directory.path().join("missing");
        for (path, code, words) in [
            (
                Path::new("/dev/null"),
                "ERR_VMCLOCK_NOT_PTP",
                "another device",
            ),
            (&file, "ERR_VMCLOCK_NOT_PTP", "a file"),
            (directory.path(), "ERR_VMCLOCK_NOT_PTP", "a directory"),
            (&missing, "ERR_VMCLOCK_NOT_FOUND", "no such device"),
        ] {
            let error = PtpClock::open(path).unwrap_err();
            assert_eq!((error.code(), error.path()), (code, Some(path)));
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn open_does_not_open_files_that_are_no_ptp_clock() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        mkfifoat(CWD, &fifo, Mode::RWXU).unwrap();
        let mut paths = vec![fifo];
        // A node for /dev/zero that nobody else opens, if this user may make one.
        let device = directory.path().join("device");
        let zero = makedev(1, 5);
        if mknodat(CWD, &device, FileType::CharacterDevice, Mode::RWXU, zero).is_ok() {
            paths.push(device);
        }
        for path in paths {
            let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
            inotify::add_watch(&watch, &path, inotify::WatchFlags::OPEN).unwrap();
            let error = PtpClock::open(&path).unwrap_err();
            assert_eq!(error.code(), "ERR_VMCLOCK_NOT_PTP");
            let mut buffer = [std::mem::MaybeUninit::uninit(); 512];
            let mut events = inotify::Reader::new(&watch, &mut buffer);
            assert_eq!(events.next().unwrap_err(), Errno::AGAIN, "{path:?}");
        }
    }

    #[test]
    fn only_a_ptp_clocks_refusal_names_a_udev_rule() {
        let remedy = |name: Option<&str>| {
            let error = Error::PtpAccess {
                path: "/dev/ptp7".into(),
                name: name.map(str::to_owned),
                errno: Errno::PERM.raw_os_error(),
            };
            error.remedy().unwrap().into_owned()
        };
        let plain = r#"SUBSYSTEM=="ptp", ATTR{clock_name}=="vmclock0", MODE="0444""#;
        assert!(remedy(Some("vmclock0")).contains(plain));
        // The rule cannot match this name literally.
        assert!(remedy(Some("a\"b*")).contains(r#"SUBSYSTEM=="ptp", MODE="0444""#));
        let unknown = remedy(None);
        assert!(
            !unknown.contains("SUBSYSTEM") && unknown.contains("--device"),
            "{unknown}"
        );
    }

    #[test]
    fn find_of_an_unknown_name_fails_with_a_printable_remedy() {
        let error = PtpClock::find("no such \u{1b} clock").unwrap_err();
        assert_eq!(error.code(), "ERR_VMCLOCK_NOT_FOUND");
        assert!(!error.to_string().contains('\u{1b}'));
    }
}
