//! Finds a PTP clock that gives a time with a bound, and what is known of its driver.

use std::fs;
use std::path::{Path, PathBuf};

use super::card::{Card, Driver, DriverBound, MachineCard};
use super::{absent, refusal};
use crate::error::Error;
use crate::ptp::{PtpClock, PtpDevice};

const SYSFS: &str = "/sys";

/// The PTP clocks of a machine.
pub trait Cards {
    /// One of them.
    type Card: Card;

    /// Opens the first clock that may give a time with a bound. `has_host_error` says that the operator states the
    /// error of the hosts' clocks.
    ///
    /// # Errors
    ///
    /// The reason why there is none.
    fn find(&self, has_host_error: bool) -> Result<Self::Card, Error>;
}

/// This machine's PTP clocks, by the sysfs tree at a root.
#[derive(Clone, Debug)]
pub struct MachineCards {
    sysfs: PathBuf,
}

impl Default for MachineCards {
    fn default() -> Self {
        Self {
            sysfs: SYSFS.into(),
        }
    }
}

impl MachineCards {
    /// Returns the clocks of another sysfs tree, such as a staged one.
    #[must_use]
    pub fn below(sysfs: &Path) -> Self {
        Self {
            sysfs: sysfs.into(),
        }
    }

    /// Lists the clocks in the order of their numbers: device, driver, and the path of the driver's error bound.
    ///
    /// The card is found from its clock. A container has the network interfaces of its own namespace, but sees all
    /// PTP clocks of the machine.
    fn list(&self) -> Vec<(PtpDevice, Driver, PathBuf)> {
        let class = self.sysfs.join("class/ptp");
        let found = crate::ptp::list_in(&class).into_iter();
        found
            .map(|device| {
                let name = device.path.file_name().unwrap_or_default();
                let parent = class.join(name).join("device");
                let driver = driver(&device.name, &parent);
                (device, driver, parent.join("phc_error_bound"))
            })
            .collect()
    }
}

/// Returns the driver of a clock. Those without a card have names of their own.
fn driver(name: &str, parent: &Path) -> Driver {
    let is_vmclock =
        |number: &str| !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit());
    if name.strip_prefix("vmclock").is_some_and(is_vmclock) {
        return Driver::VmClock;
    }
    let uevent = fs::read_to_string(parent.join("uevent")).unwrap_or_default();
    match uevent.lines().find_map(|line| line.strip_prefix("DRIVER=")) {
        Some("ena") => Driver::Ena,
        Some(_) => Driver::Other,
        None => match name {
            "KVM virtual PTP" => Driver::Kvm,
            "hyperv" => Driver::HyperV,
            _ => Driver::Other,
        },
    }
}

impl Cards for MachineCards {
    type Card = MachineCard;

    fn find(&self, has_host_error: bool) -> Result<MachineCard, Error> {
        let mut reason = absent("this machine has none");
        for (device, driver, bound_path) in self.list() {
            if driver == Driver::VmClock {
                reason = absent(
                    "that of a vmclock device gives the time of its page, so the page is opened instead",
                );
                continue;
            }
            let clock = match PtpClock::open(&device.path) {
                Ok(clock) => clock,
                Err(error) => {
                    reason = error;
                    continue;
                }
            };
            match states_bound(&clock, driver, &bound_path, has_host_error) {
                Ok(()) => return Ok(MachineCard::new(clock, &device.path, driver, bound_path)),
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }
}

/// Checks whether a clock may give a time with a bound, without a reading: a network card's clock that nobody asks for
/// is left alone.
fn states_bound(
    clock: &PtpClock,
    driver: Driver,
    bound_path: &PathBuf,
    has_host_error: bool,
) -> Result<(), Error> {
    if clock.capabilities()?.extended_attributes {
        return Ok(());
    }
    match (driver, DriverBound::read(bound_path)) {
        (Driver::Ena, DriverBound::Ns(_) | DriverBound::Unknown) => Ok(()),
        (Driver::Ena, DriverBound::Off) => Err(refusal(
            "its driver has it switched off",
            "switch the PTP clock of the card on: `vmclock doctor` prints the command",
        )),
        (driver, _) if driver.gives_utc() && has_host_error => Ok(()),
        (driver, _) if driver.gives_utc() => Err(refusal(
            "its driver states no bound",
            "state the host's error (`hostErrorNs`, --host-error)",
        )),
        // Such as a network card's. ptp4l may keep it, and then chrony or phc2sys can follow it.
        _ => Err(absent("its driver states neither a bound nor a timescale")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sysfs tree with these clocks: file, name, driver, error bound.
    fn staged(clocks: &[(&str, &str, Option<&str>, Option<&str>)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (file, name, driver, bound) in clocks {
            let directory = root.path().join("class/ptp").join(file);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("clock_name"), format!("{name}\n")).unwrap();
            if let Some(driver) = driver {
                let parent = directory.join("device");
                fs::create_dir_all(&parent).unwrap();
                let uevent = format!("DRIVER={driver}\nPCI_SLOT_NAME=0000:00:05.0\n");
                fs::write(parent.join("uevent"), uevent).unwrap();
                if let Some(bound) = bound {
                    fs::write(parent.join("phc_error_bound"), bound).unwrap();
                }
            }
        }
        root
    }

    #[test]
    fn the_driver_of_a_clock_comes_from_its_card_or_from_its_name() {
        let root = staged(&[
            ("ptp0", "ena-ptp-05", Some("ena"), Some("23456\n")),
            ("ptp1", "KVM virtual PTP", None, None),
            ("ptp2", "hyperv", None, None),
            ("ptp3", "vmclock0", Some("vmclock"), None),
            ("ptp4", "igb", Some("igb"), None),
            // A card's own name does not make it another's.
            ("ptp5", "KVM virtual PTP", Some("igb"), None),
            ("ptp6", "vmclock_x", None, None),
        ]);
        let found = MachineCards::below(root.path()).list();
        let drivers: Vec<Driver> = found.iter().map(|(_, driver, _)| *driver).collect();
        use Driver::{Ena, HyperV, Kvm, Other, VmClock};
        assert_eq!(drivers, [Ena, Kvm, HyperV, VmClock, Other, Other, Other]);
        let (device, _, bound) = &found[0];
        assert_eq!(device.path, Path::new("/dev/ptp0"));
        assert_eq!(DriverBound::read(bound), DriverBound::Ns(23_456));
    }

    #[test]
    fn an_error_bound_is_a_decimal_number_of_32_bits_and_else_unknown() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("phc_error_bound");
        assert_eq!(DriverBound::read(&path), DriverBound::None);
        for (text, bound) in [
            ("0\n", DriverBound::Ns(0)),
            ("4294967294", DriverBound::Ns(4_294_967_294)),
            ("4294967295", DriverBound::Unknown),
            ("4294967296", DriverBound::Unknown),
            ("-1", DriverBound::Unknown),
            ("0x10", DriverBound::Unknown),
            ("", DriverBound::Unknown),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(DriverBound::read(&path), bound, "{text:?}");
        }
        // Reading a directory fails: the driver has the file, and gives no figure.
        assert_eq!(
            DriverBound::read(&root.path().to_path_buf()),
            DriverBound::Unknown
        );
    }

    #[test]
    fn a_machine_without_clocks_says_so_and_a_vmclocks_clock_is_left_to_its_page() {
        let none = tempfile::tempdir().unwrap();
        let told = |root: &Path| {
            let error = MachineCards::below(root).find(true).unwrap_err();
            let seen = (error.code(), error.errno());
            assert_eq!(seen, ("ERR_VMCLOCK_NO_SOURCE", Some(libc::ENOENT)));
            error.to_string()
        };
        assert!(told(none.path()).contains("this machine has none"));
        let page = staged(&[("ptp3", "vmclock0", Some("vmclock"), None)]);
        assert!(told(page.path()).contains("page"));
    }
}
