//! The machine's VMGENID device: the kernel reseeds its random generator when the hypervisor changes its
//! identifier.
//!
//! Some kernels announce this by a uevent with `NEW_VMGENID=1`, after they have reseeded. It comes when the
//! restored machine already runs.
//!
//! References: the driver `drivers/virt/vmgenid.c`, and netlink(7), `NETLINK_KOBJECT_UEVENT`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};

use crate::error::Error;

/// The kernel's list of the devices that its driver is bound to.
const DRIVERS: [&str; 2] = [
    "/sys/bus/platform/drivers/vmgenid",
    "/sys/bus/acpi/drivers/vmgenid",
];
/// The multicast group of the kernel's own uevents; udev's are in another.
const KERNEL_GROUP: u32 = 1;
/// More than the kernel puts into one uevent (`UEVENT_BUFFER_SIZE` is 2,048).
const MESSAGE_BYTES: usize = 8192;
/// The variable of the uevent.
const VARIABLE: &[u8] = b"NEW_VMGENID=1";

/// Returns whether the kernel's driver is bound to a VMGENID device.
#[must_use]
pub fn is_present() -> bool {
    DRIVERS.iter().any(|path| is_bound(Path::new(path)))
}

fn is_bound(driver: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(driver) else {
        return false;
    };
    // Each device is a symbolic link, as is the driver's own module.
    entries.flatten().any(|entry| {
        entry.file_name() != "module" && entry.file_type().is_ok_and(|kind| kind.is_symlink())
    })
}

/// A uevent that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The machine was restored or cloned, and the kernel has reseeded its generator.
    Reseeded,
    /// The kernel dropped uevents, because nobody read them in time. That one may be among them.
    Missed,
}

/// Receives the kernel's uevents from now on.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
}

impl Listener {
    /// Subscribes to the kernel's uevents. That needs no privilege.
    ///
    /// # Errors
    ///
    /// [`Error::System`], for example in a sandbox without netlink.
    pub fn open() -> Result<Self, Error> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::KOBJECT_UEVENT),
        )
        .map_err(|errno| Error::system("socket", None, errno))?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, KERNEL_GROUP))
            .map_err(|errno| Error::system("bind", None, errno))?;
        Ok(Self { socket })
    }

    /// Waits for the next [`Event`].
    ///
    /// # Errors
    ///
    /// [`Error::System`].
    pub fn wait(&self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.receive(RecvFlags::empty())? {
                return Ok(event);
            }
        }
    }

    /// Returns the next [`Event`] that has come already; `None` if there is none. The socket is readable, for
    /// `poll(2)`, when a uevent has come.
    ///
    /// # Errors
    ///
    /// [`Error::System`].
    pub fn try_wait(&self) -> Result<Option<Event>, Error> {
        self.receive(RecvFlags::DONTWAIT)
    }

    /// Receives until there is an event. `None` if receiving would wait, which `flags` forbid.
    fn receive(&self, flags: RecvFlags) -> Result<Option<Event>, Error> {
        let mut message = [0; MESSAGE_BYTES];
        loop {
            let received = rustix::net::recvfrom(&self.socket, &mut message, flags);
            let (length, sender) = match received {
                Ok((length, _, sender)) => (length, sender),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::NOBUFS) => return Ok(Some(Event::Missed)),
                Err(errno) => return Err(Error::system("recvfrom", None, errno)),
            };
            // Programs can send to a socket and, with CAP_NET_ADMIN, to the group. The kernel's port is 0.
            let is_kernels = sender
                .and_then(|address| SocketAddrNetlink::try_from(address).ok())
                .is_some_and(|address| address.pid() == 0);
            if is_kernels && message.get(..length).is_some_and(tells_reseed) {
                return Ok(Some(Event::Reseeded));
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Returns whether a uevent, `ACTION@PATH` and variables, each ended by a zero byte, has the variable.
fn tells_reseed(message: &[u8]) -> bool {
    message
        .split(|byte| *byte == 0)
        .any(|part| part == VARIABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_uevent_with_the_variable_says_that_the_kernel_reseeded() {
        let real = b"change@/devices/platform/QEMUVGID:00\0ACTION=change\0SUBSYSTEM=platform\0NEW_VMGENID=1\0";
        assert!(tells_reseed(real));
        // The kernel prefixes the variables of a uevent that a user asks for through sysfs.
        for other in [
            &b"change@/devices/x\0ACTION=change\0SYNTH_ARG_NEW_VMGENID=1\0"[..],
            b"change@/devices/NEW_VMGENID=1\0ACTION=change\0",
            b"change@/devices/x\0NEW_VMGENID=10\0",
            b"",
        ] {
            assert!(!tells_reseed(other), "{other:?}");
        }
    }

    #[test]
    fn a_driver_without_a_device_is_no_vmgenid() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!is_bound(&directory.path().join("absent")));
        std::fs::write(directory.path().join("bind"), "").unwrap();
        std::os::unix::fs::symlink("/sys/module/x", directory.path().join("module")).unwrap();
        assert!(!is_bound(directory.path()));
        std::os::unix::fs::symlink("/sys/devices/x", directory.path().join("QEMUVGID:00")).unwrap();
        assert!(is_bound(directory.path()));
    }
}
