//! Looks at this machine's own vmclock device, and wakes the maker when the driver notifies.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::PublishOptions;
use super::guard::DisruptionSource;
use super::shared::Shared;
use crate::clock::{Options, VmClock};
use crate::counter::CpuCounter;
use crate::device::{self, Unavailable};
use crate::error::Error;
use crate::extension::{DeviceRecord, DeviceState};
use crate::machine;
use crate::page::Page;
use crate::watch::Closer;

/// This machine's own device.
pub(super) enum Device {
    /// The machine has none.
    None,
    /// This process cannot look at it.
    Unavailable(Unavailable),
    /// A page that is looked at.
    Open(Box<OpenDevice>),
}

/// A device that can be looked at, and its state at the last look.
pub(super) struct OpenDevice {
    clock: VmClock,
    number: u64,
    last: DeviceRecord,
}

impl Device {
    /// Finds the device. A page that is published there itself does not count.
    pub(super) fn find(published: Option<&Path>) -> Self {
        match device::Device::find(None) {
            // A maker that cannot tell must not record that there is none: readers rely on it.
            device::Device::None => device::unlisted().map_or(Self::None, Self::Unavailable),
            device::Device::Unavailable(unavailable) => Self::Unavailable(unavailable),
            device::Device::Open(page) if published.is_some() && page.path() == published => {
                Self::None
            }
            device::Device::Open(page) => Self::open(page),
        }
    }

    fn open(page: Page) -> Self {
        let number = page.device_number().unwrap_or(0);
        let size_bytes = page.size_bytes();
        let options = Options::default();
        Self::Open(Box::new(OpenDevice {
            clock: VmClock::new(Arc::new(page), size_bytes, CpuCounter, options),
            number,
            // Until a first look succeeds nothing is known.
            last: DeviceRecord::Unavailable,
        }))
    }

    /// Returns why this process cannot look at the device; `None` if it can, or if the machine has none.
    pub(super) fn unavailable(&self) -> Option<&Unavailable> {
        match self {
            Self::Unavailable(unavailable) => Some(unavailable),
            Self::None | Self::Open(_) => None,
        }
    }

    /// Lets the driver's notifications wake the maker from now on.
    ///
    /// Readers that do not look at the device read a wrong time until the maker notices a migration. If the device
    /// cannot be watched, for example because it is stuck in an update, the maker looks at each interval.
    pub(super) fn alarm(&self, shared: &Arc<Shared>) -> Option<DeviceAlarm> {
        let Self::Open(device) = self else {
            return None;
        };
        let alarm = DeviceAlarm::new(&device.clock, Arc::clone(shared)).ok();
        // No notification comes for a change before the watcher's first look.
        shared.wake();
        alarm
    }
}

impl DisruptionSource for Device {
    fn look(&mut self) -> DeviceRecord {
        match self {
            Self::None => DeviceRecord::None,
            Self::Unavailable(_) => DeviceRecord::Unavailable,
            Self::Open(device) => {
                // This waits once for a device that is being updated, and then not again for the same update.
                if let Ok(now) = device.clock.continuity_token() {
                    device.last = DeviceRecord::Seen(DeviceState {
                        number: device.number,
                        disruption_marker: now.disruption_marker,
                        vm_generation: now.vm_generation,
                    });
                }
                device.last
            }
        }
    }

    fn boot_id(&self) -> u128 {
        machine::boot_id().unwrap_or(0)
    }
}

/// A thread that sleeps until the driver notifies.
pub(super) struct DeviceAlarm {
    closer: Closer,
    thread: Option<JoinHandle<()>>,
}

impl DeviceAlarm {
    fn new(device: &VmClock, shared: Arc<Shared>) -> Result<Self, Error> {
        // Without notifications the publisher itself looks at the device, so this interval is the longest.
        let mut watcher = device.watch(Some(PublishOptions::INTERVAL_MAX))?;
        let closer = watcher.closer();
        let thread = std::thread::Builder::new()
            .name("vmclock-device".to_owned())
            .spawn(move || {
                while watcher.wait().is_some() {
                    shared.wake();
                }
            })
            .map_err(|error| Error::system("clone", None, error))?;
        Ok(Self {
            closer,
            thread: Some(thread),
        })
    }
}

impl Drop for DeviceAlarm {
    fn drop(&mut self) {
        self.closer.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::RawFields;
    use crate::writer::{PageHeader, PageLayout, PageWriter, blank};

    fn seen(record: DeviceRecord) -> Option<u64> {
        match record {
            DeviceRecord::Seen(state) => Some(state.disruption_marker),
            DeviceRecord::None | DeviceRecord::Unavailable => None,
        }
    }

    #[test]
    fn a_stuck_device_gives_its_last_state_and_none_before_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vmclock0");
        let fields = RawFields {
            disruption_marker: 7,
            ..blank()
        };
        let (layout, header) = (PageLayout::default(), PageHeader::default());
        let mut hypervisor = PageWriter::create(&path, &layout, header, &fields).unwrap();
        hypervisor.begin();
        let page = Page::open(&path, &[]).unwrap();
        let mut device = Device::open(page);
        assert_eq!(device.look(), DeviceRecord::Unavailable);
        hypervisor.end();
        assert_eq!(seen(device.look()), Some(7));
        hypervisor.begin();
        assert_eq!(seen(device.look()), Some(7));
        hypervisor.update(|fields| fields.disruption_marker = 8);
        assert_eq!(seen(device.look()), Some(8));
    }
}
