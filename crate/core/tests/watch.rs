//! A watcher on a page in a file reports every change that is still visible, and none twice. No test
//! sleeps: a notice or closing ends each wait.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails; clippy exempts only the functions marked as tests"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use vmclock::page::Page;
use vmclock::snapshot::{ClockStatus, LeapIndicator};
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
