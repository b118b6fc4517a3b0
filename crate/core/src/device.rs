//! Finds the machine's own vmclock device, which reports the machine's disruptions.

use std::path::{Path, PathBuf};

use crate::page::Page;

/// The directory of device nodes.
const DEV: &str = "/dev";
/// The kernel's list of the devices of the class that the driver registers with. Containers see it too.
const SYS_CLASS: &str = "/sys/class/misc";
/// The start of the driver's names; a number follows.
const NAME: &str = "vmclock";
/// The device of the proposed host driver, on a machine that hosts others. Its page has this machine's own time
/// and a marker that never changes, so it guards nothing.
const HOST_NAME: &str = "vmclock_host";

/// The machine's vmclock device.
#[derive(Debug)]
pub enum Device {
    /// The kernel knows of none. Nothing on this machine can notice a migration.
    None,
    /// The device's page, mapped.
    Open(Page),
    /// The machine has one, and this process cannot look at it.
    Unavailable(Unavailable),
}

/// The fault of a device that this process cannot look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// The device's path.
    pub path: PathBuf,
    /// The fault.
    pub reason: String,
    /// The remedy, in the imperative.
    pub remedy: String,
}

impl Device {
    /// Finds the device with this `st_rdev`; without a number, the first.
    #[must_use]
    pub fn find(number: Option<u64>) -> Self {
        Self::find_in(Path::new(DEV), Path::new(SYS_CLASS), number)
    }

    fn find_in(dev: &Path, sys_class: &Path, number: Option<u64>) -> Self {
        let mut refusal = None;
        for path in numbered(dev) {
            match Page::open(&path, &[]) {
                Ok(page) if number.is_none() || page.device_number() == number => {
                    return Self::Open(page);
                }
                Ok(_) => {}
                Err(error) => {
                    refusal.get_or_insert_with(|| Unavailable {
                        path,
                        reason: error.to_string(),
                        remedy: error.remedy().unwrap_or_default().into_owned(),
                    });
                }
            }
        }
        if let Some(refusal) = refusal {
            return Self::Unavailable(refusal);
        }
        let listed = numbered(sys_class);
        let Some(name) = listed.first().and_then(|path| path.file_name()) else {
            // A page can be recorded under a device that was removed since.
            return number.map_or(Self::None, |_| Self::Unavailable(removed(dev)));
        };
        let path = dev.join(name);
        Self::Unavailable(Unavailable {
            reason: format!(
                "the kernel has the device {}, and this process sees another or none there",
                path.display()
            ),
            remedy: format!(
                "pass the device to the container (docker run --device {}:{}:r)",
                path.display(),
                path.display()
            ),
            path,
        })
    }
}

/// Returns why this process cannot tell whether the machine has a device; `None` if it can. Only the kernel's list
/// shows that there is none.
pub(crate) fn unlisted() -> Option<Unavailable> {
    unlisted_in(Path::new(DEV), Path::new(SYS_CLASS))
}

fn unlisted_in(dev: &Path, sys_class: &Path) -> Option<Unavailable> {
    // A kernel may have no device of the class, and then no directory of it.
    let can_list = |path: &Path| std::fs::read_dir(path).is_ok();
    if can_list(sys_class) || sys_class.parent().is_some_and(can_list) {
        return None;
    }
    Some(Unavailable {
        path: dev.join(format!("{NAME}0")),
        reason: format!(
            "{} cannot be read, so whether the machine has a vmclock device is unknown",
            sys_class.display()
        ),
        remedy: "mount /sys, and let this process read it".to_owned(),
    })
}

fn removed(dev: &Path) -> Unavailable {
    Unavailable {
        path: dev.join(format!("{NAME}0")),
        reason: "the device that the page was made under is gone".to_owned(),
        remedy: "load its driver again (modprobe ptp_vmclock), or restart what publishes the page"
            .to_owned(),
    }
}

/// Returns the paths of the machine's devices in the order of their numbers, and last the host driver's.
#[must_use]
pub fn paths() -> Vec<PathBuf> {
    paths_in(Path::new(DEV))
}

fn paths_in(dev: &Path) -> Vec<PathBuf> {
    let mut found = numbered(dev);
    let host = dev.join(HOST_NAME);
    if host.exists() {
        found.push(host);
    }
    found
}

/// Returns the devices whose page can be chosen: the guest devices, else the host driver's.
///
/// A machine with both is a guest that hosts others. The host driver's page there does not notice when the machine
/// itself is migrated, so nobody may take it for a page that does.
#[must_use]
pub fn candidates() -> Vec<PathBuf> {
    candidates_in(Path::new(DEV), Path::new(SYS_CLASS))
}

fn candidates_in(dev: &Path, sys_class: &Path) -> Vec<PathBuf> {
    let found = paths_in(dev);
    if numbered(sys_class).is_empty() && numbered(dev).is_empty() {
        return found;
    }
    let host = dev.join(HOST_NAME);
    found.into_iter().filter(|path| *path != host).collect()
}

/// Returns the entries of a directory that have a device's name, in the order of their numbers.
fn numbered(directory: &Path) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let number = name.to_str()?.strip_prefix(NAME)?.parse().ok()?;
            Some((number, entry.path()))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writer::{PageHeader, PageLayout, PageWriter, blank};

    /// A machine whose /dev has these pages and whose kernel lists these devices.
    fn machine(pages: &[&str], listed: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("dev")).unwrap();
        std::fs::create_dir(directory.path().join("class")).unwrap();
        for name in pages {
            let path = directory.path().join("dev").join(name);
            let layout = PageLayout::default();
            PageWriter::create(&path, &layout, PageHeader::default(), &blank()).unwrap();
        }
        for name in listed {
            std::fs::create_dir(directory.path().join("class").join(name)).unwrap();
        }
        directory
    }

    fn find(machine: &tempfile::TempDir, number: Option<u64>) -> Device {
        let (dev, class) = (machine.path().join("dev"), machine.path().join("class"));
        Device::find_in(&dev, &class, number)
    }

    #[test]
    fn the_first_device_by_number_is_found() {
        let machine = machine(&["vmclock10", "vmclock9", "vmclock_host"], &["vmclock9"]);
        let Device::Open(page) = find(&machine, None) else {
            panic!("no device");
        };
        assert_eq!(page.path().unwrap().file_name().unwrap(), "vmclock9");
    }

    #[test]
    fn the_host_drivers_device_is_listed_last_and_chosen_only_without_a_guests() {
        let names = |paths: Vec<PathBuf>| -> Vec<String> {
            let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
            paths.into_iter().map(name).collect()
        };
        let seen = |pages: &[&str], listed: &[&str]| {
            let machine = machine(pages, listed);
            let (dev, class) = (machine.path().join("dev"), machine.path().join("class"));
            (names(paths_in(&dev)), names(candidates_in(&dev, &class)))
        };
        let host = || vec![HOST_NAME.to_owned()];
        assert_eq!(seen(&[HOST_NAME], &[]), (host(), host()));
        let both = vec!["vmclock0".to_owned(), HOST_NAME.to_owned()];
        assert_eq!(
            seen(&[HOST_NAME, "vmclock0"], &["vmclock0"]),
            (both, vec!["vmclock0".to_owned()])
        );
        // A container that does not see the guest's device.
        assert_eq!(seen(&[HOST_NAME], &["vmclock0"]), (host(), vec![]));
    }

    #[test]
    fn a_device_that_only_the_kernel_lists_is_unavailable() {
        let machine = machine(&[], &["vmclock0", "rfkill"]);
        let Device::Unavailable(unavailable) = find(&machine, None) else {
            panic!("a device");
        };
        assert!(unavailable.remedy.contains("--device"));
    }

    #[test]
    fn another_device_than_the_recorded_one_does_not_serve() {
        let machine = machine(&["vmclock0"], &["vmclock0"]);
        assert!(matches!(find(&machine, Some(7)), Device::Unavailable(_)));
    }

    #[test]
    fn a_machine_without_a_device_has_none() {
        let machine = machine(&[], &["rfkill"]);
        assert!(matches!(find(&machine, None), Device::None));
        assert!(matches!(find(&machine, Some(7)), Device::Unavailable(_)));
    }

    #[test]
    fn without_the_kernels_list_nobody_can_tell_that_there_is_no_device() {
        let machine = machine(&[], &[]);
        let unlisted = |class: &str| unlisted_in(machine.path(), &machine.path().join(class));
        assert_eq!(unlisted("class"), None);
        assert_eq!(unlisted("class/misc"), None);
        let reason = unlisted("sys/class/misc").unwrap().reason;
        assert!(reason.contains("cannot be read"), "{reason}");
    }

    #[test]
    fn a_device_that_cannot_be_read_is_unavailable_with_its_remedy() {
        let machine = machine(&[], &[]);
        std::fs::write(machine.path().join("dev/vmclock0"), [0; 4096]).unwrap();
        let Device::Unavailable(unavailable) = find(&machine, None) else {
            panic!("a device");
        };
        assert!(unavailable.reason.contains("not a vmclock page"));
    }
}
