//! A watcher on a page in a file reports every change that is still visible, and none twice. No test
//! sleeps: a notice or closing ends each wait.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails; clippy exempts only the functions marked as tests"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use vmclock::clock::guard::{Guard, GuardDevice};
use vmclock::counter::{Counter, CpuCounter};
use vmclock::extension::{DeviceRecord, DeviceState, Extension};
use vmclock::page::Page;
use vmclock::snapshot::{ClockStatus, LeapIndicator, RawFields};
use vmclock::watch::{Change, Notice, WatchOptions};
use vmclock::writer::{PageHeader, PageLayout, PageWriter, blank};
use vmclock::{Error, Maintenance, Watcher, abi};

fn create(path: &Path) -> PageWriter {
    let layout = PageLayout::default();
    PageWriter::create(path, &layout, PageHeader::default(), &blank()).unwrap()
}

fn watch(path: &Path) -> Watcher {
    watch_every(path, Duration::from_millis(1))
}

fn watch_every(path: &Path, interval: Duration) -> Watcher {
    let page = Arc::new(Page::open(path, &[]).unwrap());
    let options = WatchOptions {
        interval,
        ..WatchOptions::default()
    };
    Watcher::new(page, options).unwrap()
}

fn change(watcher: &mut Watcher) -> Change {
    match watcher.wait() {
        Some(Notice::Change(change)) => change,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_change_is_reported_with_the_number_of_updates() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("page");
    let mut writer = create(&path);
    let mut watcher = watch(&path);
    for marker in 1..=5 {
        writer.update(|page| page.disruption_marker = marker);
    }
    writer.update(|page| {
        page.flags = abi::VMCLOCK_FLAG_DISRUPTION_SOON | abi::VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT;
        page.clock_status = abi::VMCLOCK_STATUS_UNRELIABLE;
        page.leap_indicator = abi::VMCLOCK_LEAP_PRE_POS;
    });
    let reported = change(&mut watcher);
    assert_eq!(reported.updates, 6);
    let kinds = reported.kinds;
    assert!(
        kinds.disruption && kinds.generation && kinds.maintenance && kinds.status && kinds.leap
    );
    assert_eq!(reported.after.disruption_marker, 5);
    assert_eq!(reported.after.vm_generation, Some(0));
    assert_eq!(reported.after.maintenance, Maintenance::Soon);
    assert_eq!(reported.after.status, Some(ClockStatus::Unreliable));
    assert_eq!(reported.after.leap, Some(LeapIndicator::PrePositive));

    // Updates of the time alone are not reported, but the next report counts them.
    writer.update(|page| page.time_sec = 1);
    writer.update(|page| page.disruption_marker = 6);
    let next = change(&mut watcher);
    assert_eq!((next.updates, next.before), (2, reported.after));
}

#[test]
fn closing_ends_another_threads_wait_and_every_later_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("page");
    let _writer = create(&path);
    // No test may take that long.
    let mut watcher = watch_every(&path, Duration::from_secs(3600));
    let closer = watcher.closer();
    let waiting = std::thread::spawn(move || {
        let ended = watcher.wait().is_none();
        ended && watcher.wait().is_none()
    });
    closer.close();
    assert!(waiting.join().unwrap());
}

#[test]
fn a_replaced_file_is_reported_once_and_the_old_page_stays_watched() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("page");
    let mut writer = create(&path);
    let mut watcher = watch(&path);
    create(&path);
    assert!(matches!(watcher.wait(), Some(Notice::Replaced)));
    writer.update(|page| page.disruption_marker = 1);
    assert!(change(&mut watcher).kinds.disruption);
}

#[test]
fn a_removed_file_does_not_count_as_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("page");
    let mut writer = create(&path);
    let mut watcher = watch(&path);
    std::fs::remove_file(&path).unwrap();
    writer.update(|page| page.disruption_marker = 1);
    assert!(change(&mut watcher).kinds.disruption);
}

#[test]
fn a_stuck_page_is_reported_once_and_the_changes_meanwhile_afterwards() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("page");
    let mut writer = create(&path);
    let mut watcher = watch(&path);
    writer.begin();
    assert!(matches!(
        watcher.wait(),
        Some(Notice::Unreadable(Error::Timeout { seq })) if seq % 2 == 1
    ));
    // The next writer begins the update again and ends it.
    writer.update(|page| page.disruption_marker = 1);
    let reported = change(&mut watcher);
    assert!(reported.kinds.disruption);
    assert_eq!(reported.updates, 1);
    writer.begin();
    assert!(matches!(watcher.wait(), Some(Notice::Unreadable(_))));
}

#[test]
fn a_page_that_is_stuck_at_the_start_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("page");
    let mut writer = create(&path);
    writer.begin();
    let page = Arc::new(Page::open(&path, &[]).unwrap());
    let refused = Watcher::new(page, WatchOptions::default());
    assert!(matches!(refused, Err(Error::Timeout { .. })));
}

#[test]
fn a_page_of_another_version_is_reported_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("page");
    let mut writer = create(&path);
    let mut watcher = watch(&path);
    writer.update(|page| page.version = 2);
    assert!(matches!(
        watcher.wait(),
        Some(Notice::Unreadable(Error::VersionChanged { found: 2 }))
    ));
    writer.update(|page| {
        page.version = 1;
        page.clock_status = abi::VMCLOCK_STATUS_SYNCHRONIZED;
    });
    assert!(change(&mut watcher).kinds.status);
}

const NUMBER: u64 = 0xa7d;
const BOOT: u128 = 7;

/// A page in a file, and a file in the place of the device that guards it.
struct Machine {
    page: PageWriter,
    device: PageWriter,
    page_path: PathBuf,
    device_path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (page_path, device_path) = (
            directory.path().join("page"),
            directory.path().join("device"),
        );
        let mut machine = Self {
            page: create(&page_path),
            device: create(&device_path),
            page_path,
            device_path,
            _directory: directory,
        };
        machine.change_device(5, 0);
        machine.publish(&synchronized(100, 0), 5);
        machine
    }

    fn change_device(&mut self, marker: u64, flags: u64) {
        self.device.update(|device| {
            device.disruption_marker = marker;
            device.vm_generation_counter = 9;
            device.flags = flags | abi::VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT;
        });
    }

    /// Publishes the page as a maker that saw the device's `marker`.
    fn publish(&mut self, fields: &RawFields, marker: u64) {
        let extension = Extension {
            boot_id: BOOT,
            device: DeviceRecord::Seen(DeviceState {
                number: NUMBER,
                disruption_marker: marker,
                vm_generation: Some(9),
            }),
            ..Extension::default()
        };
        self.page.publish(fields, &extension);
    }

    fn guard(&self, boot_id: u128) -> Guard<Page> {
        let memory = Arc::new(Page::open(&self.device_path, &[]).unwrap());
        Guard {
            boot_id: Some(boot_id),
            device: GuardDevice::Open {
                number: NUMBER,
                size_bytes: memory.size_bytes(),
                path: self.device_path.clone(),
                memory,
            },
        }
    }

    fn watch(&self) -> Watcher {
        self.watch_as(BOOT).unwrap()
    }

    fn watch_as(&self, boot_id: u128) -> Result<Watcher, Error> {
        let page = Arc::new(Page::open(&self.page_path, &[]).unwrap());
        let options = WatchOptions {
            interval: Duration::from_millis(1),
            stale_after: Duration::from_secs(3600),
            ..WatchOptions::default()
        };
        Watcher::guarded(page, self.guard(boot_id), options)
    }
}

/// A page whose time was taken `age_sec` ago by its own period of 2^-30 s.
fn synchronized(marker: u64, age_sec: u64) -> RawFields {
    RawFields {
        clock_status: abi::VMCLOCK_STATUS_SYNCHRONIZED,
        counter_id: CpuCounter.id(),
        counter_value: CpuCounter.read().wrapping_sub(age_sec << 30),
        counter_period_frac_sec: 1 << 34,
        disruption_marker: marker,
        flags: abi::VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT,
        vm_generation_counter: 50,
        ..blank()
    }
}

#[test]
fn a_migration_is_reported_once_by_the_device_and_not_again_by_the_maker() {
    let mut machine = Machine::new();
    let mut watcher = machine.watch();
    machine.change_device(6, 0);
    let reported = change(&mut watcher);
    assert!(reported.kinds.disruption && !reported.kinds.generation);
    assert_eq!(reported.before.disruption_marker, 100);
    assert_eq!(reported.after.disruption_marker, 101);
    // The maker follows. Only its other change is news.
    machine.publish(&synchronized(101, 0), 6);
    let free_running = RawFields {
        clock_status: abi::VMCLOCK_STATUS_FREERUNNING,
        ..synchronized(101, 0)
    };
    machine.publish(&free_running, 6);
    let reported = change(&mut watcher);
    assert!(reported.kinds.status && !reported.kinds.disruption);
    assert_eq!(reported.updates, 2);
    // A disruption that the maker notices by itself is its own.
    machine.publish(&synchronized(102, 0), 6);
    assert!(change(&mut watcher).kinds.disruption);
}

#[test]
fn maintenance_is_the_devices_where_there_is_a_guard() {
    let mut machine = Machine::new();
    let mut watcher = machine.watch();
    let announcing = RawFields {
        flags: abi::VMCLOCK_FLAG_DISRUPTION_SOON | abi::VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT,
        leap_indicator: abi::VMCLOCK_LEAP_PRE_POS,
        ..synchronized(100, 0)
    };
    machine.publish(&announcing, 5);
    let reported = change(&mut watcher);
    assert!(reported.kinds.leap && !reported.kinds.maintenance);
    machine.change_device(5, abi::VMCLOCK_FLAG_DISRUPTION_IMMINENT);
    let reported = change(&mut watcher);
    assert_eq!(reported.after.maintenance, Maintenance::Imminent);
}

#[test]
fn a_stuck_device_is_reported_once_and_its_change_afterwards() {
    let mut machine = Machine::new();
    let mut watcher = machine.watch();
    machine.device.begin();
    assert!(matches!(
        watcher.wait(),
        Some(Notice::Unreadable(Error::Timeout { .. }))
    ));
    machine.change_device(6, 0);
    assert!(change(&mut watcher).kinds.disruption);
}

#[test]
fn a_page_of_another_boot_is_not_watched() {
    let machine = Machine::new();
    assert!(matches!(machine.watch_as(BOOT + 1), Err(Error::OtherBoot)));
}

#[test]
fn a_page_that_nobody_updates_is_reported_once_and_its_next_update_too() {
    let mut machine = Machine::new();
    machine.publish(&synchronized(100, 7200), 5);
    let mut watcher = machine.watch();
    let Some(Notice::Stale { age_ns }) = watcher.wait() else {
        panic!("not stale");
    };
    assert!(age_ns >= 7_200_000_000_000);
    // Another update of the same age is none.
    machine.publish(&synchronized(101, 7200), 5);
    assert!(change(&mut watcher).kinds.disruption);
    machine.publish(&synchronized(101, 0), 5);
    assert!(matches!(watcher.wait(), Some(Notice::Fresh)));
    machine.publish(&synchronized(101, 7200), 5);
    assert!(matches!(watcher.wait(), Some(Notice::Stale { .. })));
}
