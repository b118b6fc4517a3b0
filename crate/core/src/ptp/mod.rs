//! The kernel's PTP hardware clocks (PHCs): finding one, what it can do, its time, and its time
//! against the system's clocks.
//!
//! The driver `ptp_vmclock.c` makes one of a vmclock page that has time when the driver is loaded:
//! `/dev/ptpN`, by the name `vmclock0`. Network cards and other hypervisors' drivers make theirs, and
//! all of this works on any of them. A vmclock's tells the same time as its page, in TAI from Linux
//! 7.0 on and in UTC before: [`PtpClock::timescale`] finds out which. (The two part where the counter is
//! behind the page's reference: the driver takes that distance for an unsigned one, and tells a time
//! centuries ahead.)
//!
//! The calls are those of `include/uapi/linux/ptp_clock.h`, of which each later one does more than the
//! one before; a call that the kernel or the clock's driver does not have is made up for where an older
//! one gives the same, and is [`Error::NotSupported`] where none does. None of them needs more than the
//! right to read the device, and none changes the clock.

mod calls;
mod device;
mod sample;
mod timescale;

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat, major, minor};
use rustix::io::Errno;

use crate::clock::VmClock;
use crate::counter::Counter;
use crate::error::Error;
use crate::seqlock::SharedWords;
use crate::time::leap::Timescale;

use calls::Calls;
use device::{Device, KernelDevice};

pub use sample::{CrossTimestamp, Sample};

/// The most samples that one call takes: PTP_MAX_SAMPLES.
pub const MAX_SAMPLES: u32 = device::MAX_SAMPLES;

const SYSFS_CLASS: &str = "/sys/class/ptp";

/// What a clock and its driver can do. A kernel that does not know a figure yet says 0 or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The most by which its rate may be adjusted, in parts per billion; 0 for a clock that cannot be,
    /// as a vmclock's.
    pub max_adjustment_ppb: i32,
    /// The largest phase adjustment, in nanoseconds (Linux 6.5).
    pub max_phase_adjustment_ns: i32,
    /// Programmable alarms.
    pub alarms: u32,
    /// Channels that stamp external events.
    pub external_timestamps: u32,
    /// Programmable periodic outputs.
    pub periodic_outputs: u32,
    /// Programmable pins.
    pub pins: u32,
    /// Whether it calls back every second.
    pub pulse_per_second: bool,
    /// Whether its driver has [`PtpClock::cross_timestamp`].
    pub cross_timestamping: bool,
    /// Whether its phase can be adjusted.
    pub phase_adjustment: bool,
}

/// A system clock that samples are taken of. All but the first need Linux 6.12, and of a vmclock's own
/// clock a later one, whose driver knows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SampledClock {
    /// CLOCK_REALTIME: UTC since 1970, as this machine has it.
    #[default]
    Realtime,
    /// CLOCK_MONOTONIC: never set, slewed as CLOCK_REALTIME is.
    Monotonic,
    /// CLOCK_MONOTONIC_RAW: never set, never slewed.
    MonotonicRaw,
}

/// A PTP clock that this machine has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PtpDevice {
    /// `/dev/ptpN`.
    pub path: PathBuf,
    /// What its driver calls it: `vmclock0`, or a network card's or driver's name. Not unique.
    pub name: String,
}

/// The PTP clocks that this machine has, in the order of their numbers. None where the kernel has no
/// PTP support.
#[must_use]
pub fn list() -> Vec<PtpDevice> {
    list_in(Path::new(SYSFS_CLASS))
}

fn list_in(class: &Path) -> Vec<PtpDevice> {
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

/// The name that the driver gave a clock, from the clock's folder in sysfs.
fn clock_name(folder: &Path) -> Option<String> {
    let bytes = fs::read(folder.join("clock_name")).ok()?;
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
        let not_ptp = |kind| Error::NotPtp {
            path: path.to_path_buf(),
            kind,
        };
        let gone = || Error::Vanished {
            path: path.to_path_buf(),
        };
        // Before it is opened, which a FIFO's writer and some devices would notice: a watchdog starts. What
        // cannot be looked at cannot be opened either, for the same reason.
        if let Ok(stat) = rustix::fs::stat(path) {
            check_kind(&stat).map_err(not_ptp)?;
        }
        // Without O_NONBLOCK a FIFO that came to stand there meanwhile would hang here.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR => Error::NoPtpDevice {
                path: path.to_path_buf(),
            },
            Errno::ACCESS | Errno::PERM => Error::PtpAccess {
                path: path.to_path_buf(),
                name: rustix::fs::stat(path)
                    .ok()
                    .and_then(|stat| name_of_device(stat.st_rdev)),
                errno: errno.raw_os_error(),
            },
            Errno::NXIO => not_ptp("a device without a driver"),
            Errno::NODEV => gone(),
            other => Error::system("open", Some(path), other),
        })?;
        let stat =
            rustix::fs::fstat(&file).map_err(|errno| Error::system("fstat", Some(path), errno))?;
        check_kind(&stat).map_err(not_ptp)?;
        let device = KernelDevice::new(file);
        // Asked of the file itself: what sysfs says is said of a number. No request is sent to a
        // device that might take it for one of its own.
        match device.resolution() {
            Ok(()) => Ok(Self {
                calls: Calls::new(device, path.to_path_buf()),
                name: name_of_device(stat.st_rdev),
            }),
            Err(Errno::NODEV) => Err(gone()),
            Err(Errno::INVAL) => Err(not_ptp("another device")),
            Err(errno) => Err(Error::system("clock_getres", Some(path), errno)),
        }
    }

    /// Opens the first clock that its driver calls `name`: `vmclock0` is that of `/dev/vmclock0`.
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
        // Another clock may have got its number meanwhile, and a container's /dev may hold others.
        if clock.name() == Some(name) {
            Ok(clock)
        } else {
            Err(missing())
        }
    }

    /// The path as it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.calls.path
    }

    /// What the clock's driver calls it; `None` where sysfs does not tell.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What the clock can do: PTP_CLOCK_GETCAPS2.
    ///
    /// # Errors
    ///
    /// [`Error::Vanished`], [`Error::System`].
    pub fn capabilities(&self) -> Result<Capabilities, Error> {
        self.calls.capabilities()
    }

    /// The clock's time in nanoseconds since the epoch of its timescale: `clock_gettime` on the clock's
    /// descriptor.
    ///
    /// # Errors
    ///
    /// [`Error::PtpTimeout`], [`Error::PtpRefused`], [`Error::PtpOutOfRange`], [`Error::Vanished`],
    /// [`Error::NotSupported`], [`Error::System`].
    pub fn now_ns(&self) -> Result<i64, Error> {
        self.calls.now_ns()
    }

    /// The clock's time, CLOCK_REALTIME and CLOCK_MONOTONIC_RAW at one and the same instant:
    /// PTP_SYS_OFFSET_PRECISE2. For clocks that are read from the counter that the system's clocks run
    /// on, and network cards that can latch it.
    ///
    /// # Errors
    ///
    /// [`Error::NotSupported`], [`Error::OtherClocksource`], and those of [`PtpClock::now_ns`].
    pub fn cross_timestamp(&self) -> Result<CrossTimestamp, Error> {
        self.calls.cross_timestamp()
    }

    /// The clock's time between two readings of a system clock, `count` times: PTP_SYS_OFFSET_EXTENDED2,
    /// or PTP_SYS_OFFSET2 where the clock has no better, which has CLOCK_REALTIME only and in which one
    /// sample's reading after is the next one's before.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] where `count` is not 1 to 25, [`Error::NotSupported`] where kernel or
    /// clock have no samples of `clock`, [`Error::SystemClockStepped`], and those of
    /// [`PtpClock::now_ns`].
    pub fn samples(&self, count: u32, clock: SampledClock) -> Result<Vec<Sample>, Error> {
        self.calls.samples(count, clock)
    }

    /// Whether this clock tells TAI or UTC, by comparison with a page: `None` where the comparison
    /// decides nothing.
    ///
    /// The clock is read between two readings of the page. It tells TAI if its time lies in the interval
    /// in which TAI lay meanwhile by the page, and certainly not in that of UTC; and the other way
    /// round. The interval is from the page's earliest time to its latest, and where the page states no
    /// bound, from its one time to its other: a clock made of this very page is told then, and none that
    /// is merely close. A page that gives only one of the two timescales leaves the other where it can be,
    /// 10 to 255 s away. So a clock that is set to neither, that is further from the truth than the page's
    /// bound, or a page whose bound spans both, is `None`, and so is a page that changes all the while.
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

/// What it is in words where it is surely no PTP clock.
fn check_kind(stat: &Stat) -> Result<(), &'static str> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => {
            let folder = sysfs_folder(stat.st_rdev);
            if folder.exists() && clock_name(&folder).is_none() {
                Err("another device")
            } else {
                Ok(())
            }
        }
        FileType::Directory => Err("a directory"),
        FileType::RegularFile => Err("a file"),
        FileType::Socket => Err("a socket"),
        _ => Err("no character device"),
    }
}

fn name_of_device(device: u64) -> Option<String> {
    clock_name(&sysfs_folder(device))
}

fn sysfs_folder(device: u64) -> PathBuf {
    let number = format!("{}:{}", major(device), minor(device));
    Path::new("/sys/dev/char").join(number)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, inotify, makedev, mkfifoat, mknodat};

    use super::*;

    #[test]
    fn clocks_are_listed_by_number_with_the_names_that_their_drivers_gave() {
        let folder = tempfile::tempdir().unwrap();
        let class = folder.path().join("class");
        for (file, name) in [
            ("ptp10", "eth \u{1b}[2J"),
            ("ptp2", "vmclock0"),
            ("other", "x"),
        ] {
            let real = folder.path().join(file);
            fs::create_dir(&real).unwrap();
            fs::write(real.join("clock_name"), format!("{name}\n")).unwrap();
            fs::create_dir_all(&class).unwrap();
            symlink(&real, class.join(file)).unwrap();
        }
        // A clock that goes away while it is looked at.
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
        assert_eq!(list_in(&folder.path().join("none")), []);
    }

    #[test]
    fn what_is_no_ptp_clock_is_refused_by_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let missing = folder.path().join("missing");
        for (path, code, words) in [
            (
                Path::new("/dev/null"),
                "ERR_VMCLOCK_NOT_PTP",
                "another device",
            ),
            (&file, "ERR_VMCLOCK_NOT_PTP", "a file"),
            (folder.path(), "ERR_VMCLOCK_NOT_PTP", "a directory"),
            (&missing, "ERR_VMCLOCK_NOT_FOUND", "no such device"),
        ] {
            let error = PtpClock::open(path).unwrap_err();
            assert_eq!((error.code(), error.path()), (code, Some(path)));
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn what_is_no_ptp_clock_is_not_even_opened() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        mkfifoat(CWD, &fifo, Mode::RWXU).unwrap();
        let mut paths = vec![fifo];
        // /dev/zero by a node that nobody else opens, where this user may make one.
        let device = folder.path().join("device");
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
    fn a_refusal_advises_a_udev_rule_of_nothing_but_a_ptp_clock() {
        let message = |name: Option<&str>| {
            let error = Error::PtpAccess {
                path: "/dev/ptp7".into(),
                name: name.map(str::to_owned),
                errno: Errno::PERM.raw_os_error(),
            };
            error.to_string()
        };
        let plain = r#"SUBSYSTEM=="ptp", ATTR{clock_name}=="vmclock0", MODE="0444""#;
        assert!(message(Some("vmclock0")).contains(plain));
        // A name that the rule would not take as it stands.
        assert!(message(Some("a\"b*")).contains(r#"SUBSYSTEM=="ptp", MODE="0444""#));
        let unknown = message(None);
        assert!(
            !unknown.contains("SUBSYSTEM") && unknown.contains("--device"),
            "{unknown}"
        );
    }

    #[test]
    fn a_name_that_no_clock_has_is_not_found_and_the_message_says_which_there_are() {
        let error = PtpClock::find("no such \u{1b} clock").unwrap_err();
        assert_eq!(error.code(), "ERR_VMCLOCK_NOT_FOUND");
        assert!(!error.to_string().contains('\u{1b}'));
    }
}
