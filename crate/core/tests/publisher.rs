//! Publishes on this machine: files, locks, readers that have the page mapped, and the real clock.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected fails"
)]

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode};
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;
use vmclock::no_bound::{Distrust, NoBound};
use vmclock::publish::{Generation, PublishOptions, Publisher, Shape};
use vmclock::snapshot::{ClockStatus, RawFields};
use vmclock::source::kernel::clock::{KernelClock, SystemClock};
use vmclock::source::kernel::leap_seconds::LeapSeconds;
use vmclock::source::kernel::step_alarm::StepAlarm;
use vmclock::writer::{PageHeader, PageLayout, PageWriter, blank};
use vmclock::{Error, Maintenance, Options, VmClock};

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("page");
    (directory, path)
}

/// The tests are about publishing, not about the counter of the machine that they run on.
fn options() -> PublishOptions {
    PublishOptions {
        allow_untrusted_counter: true,
        ..PublishOptions::default()
    }
}

fn open(path: &Path) -> VmClock {
    VmClock::open(path, Options::default()).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A clock is compared with the system's at least so often.
const LOOKS: u32 = 5000;

fn now_ns(clock: ClockId) -> i128 {
    let now = clock_gettime(clock);
    i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)
}

fn realtime_ns() -> i128 {
    now_ns(ClockId::Realtime)
}

#[test]
fn the_first_page_has_time() {
    let (_directory, path) = place();
    let publisher = Publisher::create(&path, options()).unwrap();
    let mut clock = open(&path);
    let before = realtime_ns();
    let now = i128::from(clock.now_ns().unwrap());
    let after = realtime_ns();
    assert!((before - 1_000_000..after + 1_000_000).contains(&now));
    assert!(publisher.updates() >= 1);
    assert_eq!(publisher.failure(), None);
    assert_eq!(publisher.path(), path);
    publisher.close().unwrap();
}

#[test]
fn the_system_clock_lies_within_the_bound_if_the_stated_error_is_0() {
    let (_directory, path) = place();
    let options = PublishOptions {
        max_error_ns: Some(0),
        interval: PublishOptions::INTERVAL_MIN,
        ..options()
    };
    let publisher = Publisher::create(&path, options).unwrap();
    let mut clock = open(&path);
    assert_eq!(clock.read().unwrap().status, ClockStatus::Synchronized);
    // Through the first baseline and some updates after it.
    let mut looks = 0;
    while publisher.updates() < 5 || looks < LOOKS {
        looks += 1;
        let before = realtime_ns();
        let reading = clock.read().unwrap();
        let after = realtime_ns();
        let earliest = i128::from(reading.earliest_ns.unwrap());
        let latest = i128::from(reading.latest_ns.unwrap());
        assert!(
            earliest <= after && before <= latest,
            "CLOCK_REALTIME {before} to {after}, page {earliest} to {latest}"
        );
    }
    publisher.close().unwrap();
}

#[test]
fn two_readings_are_as_far_apart_as_the_raw_clock_says() {
    /// The kernel may slew CLOCK_REALTIME by this against CLOCK_MONOTONIC_RAW, in parts per million.
    const SLEW_PPM: i128 = 600;
    let (_directory, path) = place();
    let options = PublishOptions {
        max_error_ns: Some(0),
        interval: PublishOptions::INTERVAL_MIN,
        ..options()
    };
    let publisher = Publisher::create(&path, options).unwrap();
    let mut clock = open(&path);
    let mut look = || {
        let before = now_ns(ClockId::MonotonicRaw);
        let reading = clock.read().unwrap();
        let after = now_ns(ClockId::MonotonicRaw);
        let interval = (reading.earliest_ns.unwrap(), reading.latest_ns.unwrap());
        (
            before,
            after,
            i128::from(interval.0),
            i128::from(interval.1),
        )
    };
    let first = look();
    let mut looks = 0;
    while publisher.updates() < 5 || looks < LOOKS {
        looks += 1;
        let last = look();
        let (raw_least, raw_most) = (last.0 - first.1, last.1 - first.0);
        let (least, most) = (last.2 - first.3, last.3 - first.2);
        let slewed = raw_most * SLEW_PPM / 1_000_000 + 1;
        assert!(
            least <= raw_most + slewed && raw_least - slewed <= most,
            "raw clock {raw_least} to {raw_most}, page {least} to {most}"
        );
    }
    publisher.close().unwrap();
}

#[test]
fn a_closed_page_is_unreliable_and_the_only_file_left_behind() {
    let (directory, path) = place();
    let publisher = Publisher::create(&path, options()).unwrap();
    assert_eq!(names(directory.path()), ["page", "page.lock"]);
    let mut mapped = open(&path);
    mapped.now_ns().unwrap();
    publisher.close().unwrap();
    publisher.close().unwrap();
    for clock in [&mut mapped, &mut open(&path)] {
        assert!(matches!(
            clock.now_ns(),
            Err(Error::Unsynchronized {
                status: ClockStatus::Unreliable
            })
        ));
    }
    assert_eq!(names(directory.path()), ["page"]);
    for refused in [
        publisher.disrupt(),
        publisher.bump_generation(),
        publisher.set_maintenance(Maintenance::Soon),
    ] {
        assert_eq!(refused.unwrap_err().code(), "ERR_VMCLOCK_CLOSED");
    }
}

#[test]
fn a_kept_page_goes_on_until_its_successor_does() {
    let (directory, path) = place();
    let kept = PublishOptions {
        keep_on_exit: true,
        max_error_ns: Some(1_000_000),
        ..options()
    };
    let first = Publisher::create(&path, kept.clone()).unwrap();
    let mut clock = open(&path);
    let token = clock.continuity_token().unwrap();
    let before = clock.snapshot().unwrap();
    first.close().unwrap();
    assert_eq!(names(directory.path()), ["page"]);
    let left = clock.snapshot().unwrap();
    assert_eq!(left.clock_status(), Some(ClockStatus::Synchronized));
    assert!(left.seq_count >= before.seq_count);
    let reading = clock.read().unwrap();
    let second = Publisher::create(&path, kept).unwrap();
    let later = clock.read().unwrap();
    assert!(clock.is_continuous(&token).unwrap());
    assert!(reading.latest_ns.is_some() && later.latest_ns.is_some());
    // Without the option the end marks the page.
    second.close().unwrap();
    drop(Publisher::create(&path, options()).unwrap());
    assert!(clock.now_ns().is_err());
}

#[test]
fn a_page_keeps_its_record_when_its_publisher_is_closed() {
    let (_directory, path) = place();
    let publisher = Publisher::create(&path, options()).unwrap();
    let mut clock = open(&path);
    let of = |clock: &mut VmClock| clock.snapshot().unwrap().extension.unwrap();
    let open_page = of(&mut clock);
    assert_eq!(open_page.boot_id, vmclock::machine::boot_id().unwrap());
    assert_eq!(open_page.void_after_ns, 1_000_000_000_000);
    publisher.close().unwrap();
    let closed = of(&mut clock);
    assert_eq!(
        (closed.boot_id, closed.device, closed.began_ns),
        (open_page.boot_id, open_page.device, open_page.began_ns)
    );
}

#[test]
fn an_error_that_holds_after_a_migration_must_be_stated() {
    let (_directory, path) = place();
    let refused = PublishOptions {
        max_error_after_migration: true,
        ..options()
    };
    let error = Publisher::create(&path, refused).unwrap_err();
    assert_eq!(error.code(), "ERR_VMCLOCK_INVALID_ARGUMENT");
}

#[test]
fn dropping_a_publisher_closes_it() {
    let (directory, path) = place();
    drop(Publisher::create(&path, options()).unwrap());
    assert_eq!(names(directory.path()), ["page"]);
    assert!(open(&path).now_ns().is_err());
}

#[test]
#[allow(unsafe_code, reason = "nothing forks safely")]
fn a_forked_child_that_drops_a_publisher_neither_waits_nor_touches_the_page() {
    let (directory, path) = place();
    let publisher = Publisher::create(&path, options()).unwrap();
    // SAFETY: the child only drops and compares what it has, and ends without running anything of
    // the test harness.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        let refused = publisher.disrupt().is_err();
        drop(publisher);
        // SAFETY: ends the process, as meant.
        unsafe { libc::_exit(if refused { 0 } else { 1 }) }
    }
    let mut status = -1;
    let begun = std::time::Instant::now();
    // SAFETY: `status` is a whole integer that the call may write.
    while unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == 0 {
        if begun.elapsed() > std::time::Duration::from_secs(5) {
            // SAFETY: the child is this test's own and has not been waited for.
            unsafe { libc::kill(child, libc::SIGKILL) };
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(status, 0);
    assert_eq!(names(directory.path()), ["page", "page.lock"]);
    open(&path).now_ns().unwrap();
    publisher.disrupt().unwrap();
    publisher.close().unwrap();
}

#[test]
fn a_page_has_one_live_publisher_even_within_one_process() {
    let (directory, path) = place();
    let first = Publisher::create(&path, options()).unwrap();
    let lock = directory.path().join("page.lock");
    for _ in 0..3 {
        let second = Publisher::create(&path, options());
        assert!(matches!(second, Err(Error::Busy { .. })), "{second:?}");
    }
    // The first is unharmed, and so is its lock.
    assert!(lock.exists());
    first.disrupt().unwrap();
    open(&path).now_ns().unwrap();
    first.close().unwrap();
    // A lock that another open file holds, as another process's would be.
    let other = fs::File::create(&lock).unwrap();
    rustix::fs::flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
    assert!(matches!(
        Publisher::create(&path, options()),
        Err(Error::Busy { .. })
    ));
    // Also for children that other tests fork just now.
    rustix::fs::flock(&other, FlockOperation::Unlock).unwrap();
    drop(other);
    // The next publisher takes a lock file that a killed process left behind.
    Publisher::create(&path, options()).unwrap();
}

#[test]
fn a_page_has_one_live_publisher_whatever_names_its_file_has() {
    let (directory, path) = place();
    let publisher = Publisher::create(&path, options()).unwrap();
    let other = directory.path().join("elsewhere");
    fs::create_dir(&other).unwrap();
    let link = other.join("link");
    fs::hard_link(&path, &link).unwrap();
    fs::remove_file(directory.path().join("page.lock")).unwrap();
    for name in [&path, &link] {
        let refused = Publisher::create(name, options()).unwrap_err();
        assert_eq!(refused.code(), "ERR_VMCLOCK_BUSY", "{refused}");
    }
    // The refused ones have not marked the page, and readers' locks keep no publisher out.
    open(&path).now_ns().unwrap();
    publisher.close().unwrap();
    let reader = fs::File::open(&path).unwrap();
    read_lock(&reader);
    let next = Publisher::create(&link, options()).unwrap();
    open(&path).now_ns().unwrap();
    next.close().unwrap();
}

/// Takes a read lock of the whole open file, as any reader may.
#[allow(
    unsafe_code,
    reason = "no safe library call takes a lock of an open file"
)]
fn read_lock(file: &fs::File) {
    let lock = libc::flock {
        l_type: libc::F_RDLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // SAFETY: the descriptor is open, and the kernel reads one `flock`.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock) };
    assert_eq!(result, 0);
}

#[test]
fn a_publisher_whose_page_loses_its_name_stops_and_says_so() {
    for (what, reason) in [
        ("removed", "was removed"),
        ("replaced", "another file"),
        ("moved", "directory was moved"),
        ("shadowed", "another file"),
    ] {
        let (place, _) = place();
        let directory = place.path().join("directory");
        let elsewhere = place.path().join("elsewhere");
        fs::create_dir(&directory).unwrap();
        let path = directory.join("page");
        let publisher = Publisher::create(&path, options()).unwrap();
        let mut clock = open(&path);
        match what {
            "removed" => fs::remove_file(&path).unwrap(),
            "replaced" => {
                fs::write(&elsewhere, [0; 4096]).unwrap();
                fs::rename(&elsewhere, &path).unwrap();
            }
            _ => fs::rename(&directory, &elsewhere).unwrap(),
        }
        if what == "shadowed" {
            fs::create_dir(&directory).unwrap();
            fs::write(&path, [0; 4096]).unwrap();
        }
        let failure = failure_of(&publisher);
        // Between the two steps that shadow it, the page is moved only.
        let is_seen_early = what == "shadowed" && failure.contains("directory was moved");
        assert!(failure.contains(reason) || is_seen_early, "{failure}");
        assert_eq!(
            publisher.disrupt().unwrap_err().code(),
            "ERR_VMCLOCK_CLOSED"
        );
        // Readers who have the page mapped are told.
        assert!(clock.now_ns().is_err());
    }
}

#[test]
fn a_publisher_whose_file_is_emptied_stops_and_does_not_crash() {
    for bytes in [0, 100] {
        let (_directory, path) = place();
        let publisher = Publisher::create(&path, options()).unwrap();
        let page = fs::OpenOptions::new().write(true).open(&path).unwrap();
        page.set_len(bytes).unwrap();
        assert!(failure_of(&publisher).contains("was shortened"));
        drop(publisher);
        // The next publisher makes the page anew.
        Publisher::create(&path, options())
            .unwrap()
            .close()
            .unwrap();
        open(&path);
    }
}

fn failure_of(publisher: &Publisher) -> String {
    loop {
        if let Some(failure) = publisher.failure() {
            return failure;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn a_publisher_releases_its_lock_in_the_renamed_directory() {
    let (place, _) = place();
    let [old, new] = ["old", "new"].map(|name| place.path().join(name));
    fs::create_dir(&old).unwrap();
    let moved = Publisher::create(&old.join("page"), options()).unwrap();
    fs::rename(&old, &new).unwrap();
    fs::create_dir(&old).unwrap();
    let other = Publisher::create(&old.join("page"), options()).unwrap();
    // It stops by itself if it looks at the path before it is closed.
    let _ = moved.close();
    assert_eq!(names(&new), ["page"]);
    assert_eq!(names(&old), ["page", "page.lock"]);
    assert!(matches!(
        Publisher::create(&old.join("page"), options()),
        Err(Error::Busy { .. })
    ));
    other.close().unwrap();
    assert_eq!(names(&old), ["page"]);
}

#[test]
fn a_lock_file_that_is_a_link_to_another_file_is_refused_and_left_alone() {
    let (directory, path) = place();
    let precious = directory.path().join("precious");
    fs::write(&precious, "").unwrap();
    fs::set_permissions(&precious, fs::Permissions::from_mode(0o644)).unwrap();
    for link in [
        |precious: &Path, lock: &Path| fs::hard_link(precious, lock),
        |precious: &Path, lock: &Path| symlink(precious, lock),
    ] {
        let lock = directory.path().join("page.lock");
        link(&precious, &lock).unwrap();
        Publisher::create(&path, options()).unwrap_err();
        assert_eq!(names(directory.path()), ["page.lock", "precious"]);
        assert_eq!(fs::metadata(&precious).unwrap().mode() & 0o777, 0o644);
        fs::remove_file(&lock).unwrap();
    }
}

#[test]
fn the_umask_does_not_change_a_mode() {
    let (directory, path) = place();
    let old = rustix::process::umask(Mode::from_raw_mode(0o077));
    let publisher = Publisher::create(&path, options());
    rustix::process::umask(old);
    let publisher = publisher.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&path), 0o644);
    assert_eq!(mode(&directory.path().join("page.lock")), 0o600);
    drop(publisher);
    let private = PublishOptions {
        mode: 0o600,
        ..options()
    };
    let _taken_over = Publisher::create(&path, private).unwrap();
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn readers_who_have_the_page_mapped_carry_on_through_close_and_takeover() {
    let (_directory, path) = place();
    let first = Publisher::create(&path, options()).unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    let mut clock = open(&path);
    let token = clock.continuity_token().unwrap();
    let before = clock.snapshot().unwrap();
    first.close().unwrap();
    assert!(clock.now_ns().is_err());
    let second = Publisher::create(&path, options()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    clock.now_ns().unwrap();
    assert!(clock.is_continuous(&token).unwrap());
    let after = clock.snapshot().unwrap();
    assert!(after.seq_count > before.seq_count && after.seq_count.is_multiple_of(2));
    second.disrupt().unwrap();
    assert!(!clock.is_continuous(&token).unwrap());
}

#[test]
fn a_takeover_of_an_unfinished_update_changes_the_marker() {
    let (_directory, path) = place();
    Publisher::create(&path, options())
        .unwrap()
        .close()
        .unwrap();
    let mut dead = PageWriter::open(&path, 0).unwrap();
    dead.begin();
    let (seq, marker) = (dead.seq_count(), dead.fields().disruption_marker);
    assert_eq!(seq % 2, 1);
    drop(dead);
    let _publisher = Publisher::create(&path, options()).unwrap();
    let now = open(&path).snapshot().unwrap();
    assert_eq!(now.seq_count, seq + 1);
    assert_ne!(now.raw.disruption_marker, marker);
}

#[test]
fn a_takeover_of_a_page_that_contradicts_the_present_changes_the_marker() {
    let (_directory, path) = place();
    Publisher::create(&path, options())
        .unwrap()
        .close()
        .unwrap();
    let mut writer = PageWriter::open(&path, 0).unwrap();
    let marker = writer.fields().disruption_marker;
    writer.update(|fields| fields.time_sec -= 60);
    let _publisher = Publisher::create(&path, options()).unwrap();
    let now = open(&path).snapshot().unwrap();
    assert_ne!(now.raw.disruption_marker, marker);
}

#[test]
fn commands_have_taken_effect_when_they_return() {
    let (_directory, path) = place();
    let options = PublishOptions {
        generation: Generation::Always,
        ..options()
    };
    let publisher = Publisher::create(&path, options).unwrap();
    let mut clock = open(&path);
    for _ in 0..20 {
        let before = clock.snapshot().unwrap();
        publisher.disrupt().unwrap();
        publisher.bump_generation().unwrap();
        publisher.set_maintenance(Maintenance::Imminent).unwrap();
        let after = clock.snapshot().unwrap();
        assert_eq!(
            after.raw.disruption_marker,
            before.raw.disruption_marker + 1
        );
        assert_eq!(
            after.vm_generation().unwrap(),
            before.vm_generation().unwrap() + 1
        );
        assert!(after.is_disruption_imminent());
        publisher.set_maintenance(Maintenance::None).unwrap();
        assert!(!clock.snapshot().unwrap().is_disruption_imminent());
        clock.now_ns().unwrap();
    }
}

#[test]
fn a_marker_page_refuses_a_generation_and_goes_on() {
    let (_directory, path) = place();
    let options = PublishOptions {
        shape: Shape::Marker,
        ..PublishOptions::default()
    };
    let publisher = Publisher::create(&path, options).unwrap();
    let refused = publisher.bump_generation().unwrap_err();
    assert_eq!(refused.code(), "ERR_VMCLOCK_INVALID_ARGUMENT");
    publisher.disrupt().unwrap();
    assert!(!open(&path).has_time().unwrap());
}

#[test]
fn what_is_not_a_page_is_never_replaced_or_written() {
    let (directory, path) = place();
    let code = || Publisher::create(&path, options()).unwrap_err().code();
    fs::write(&path, "precious").unwrap();
    assert_eq!(code(), "ERR_VMCLOCK_BAD_MAGIC");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    fs::remove_file(&path).unwrap();
    let target = directory.path().join("target");
    fs::write(&target, "precious").unwrap();
    symlink(&target, &path).unwrap();
    assert_eq!(code(), "ERR_VMCLOCK_UNTRUSTED");
    assert_eq!(fs::read(&target).unwrap(), b"precious");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(code(), "ERR_VMCLOCK_UNTRUSTED");
    fs::remove_dir(&path).unwrap();
    assert_eq!(names(directory.path()), ["target"]);
    let nowhere = directory.path().join("missing").join("page");
    let missing = Publisher::create(&nowhere, options()).unwrap_err();
    assert_eq!(missing.code(), "ERR_VMCLOCK_NOT_FOUND");
    assert!(missing.remedy().unwrap().contains("mkdir -p"), "{missing}");
    // No reader could use it, so it is replaced whole.
    fs::write(&path, "").unwrap();
    Publisher::create(&path, options()).unwrap();
    open(&path);
}

#[test]
fn a_full_file_system_is_an_error_and_not_a_crash() {
    // A file that was only extended has no memory yet. A store into it ends the process (SIGBUS) if none is
    // left.
    const FOLDER: &str = "VMCLOCK_TEST_FULL_FOLDER";
    const NAME: &str = "a_full_file_system_is_an_error_and_not_a_crash";
    if let Some(directory) = std::env::var_os(FOLDER) {
        let directory = PathBuf::from(directory);
        let refused = Publisher::create(&directory.join("page"), options()).unwrap_err();
        assert_eq!(refused.code(), "ERR_VMCLOCK_SYSTEM", "{refused}");
        assert_eq!(
            refused.errno(),
            Some(rustix::io::Errno::NOSPC.raw_os_error())
        );
        assert_eq!(names(&directory), ["full"]);
        return;
    }
    let (directory, _) = place();
    // A mount of its own needs a namespace. Without one this test shows nothing.
    let within = |script: &str| {
        std::process::Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
            .arg(format!(
                "mount -t tmpfs -o size=4k none \"${FOLDER}\" && {script}"
            ))
            .arg(std::env::current_exe().unwrap())
            .env(FOLDER, directory.path())
            .output()
    };
    if !within("true").is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no mount namespace to be had");
        return;
    }
    // The emulator that runs this test also starts a test of another architecture.
    let script = format!(
        "head -c 4096 /dev/zero > \"${FOLDER}/full\" \
         && exec ${{VMCLOCK_TEST_RUNNER:-}} \"$0\" --exact {NAME} --nocapture"
    );
    let output = within(&script).unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_page_that_others_may_write_is_replaced_not_taken_over() {
    let (_directory, path) = place();
    Publisher::create(&path, options())
        .unwrap()
        .close()
        .unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    let old = fs::File::open(&path).unwrap();
    let _publisher = Publisher::create(&path, options()).unwrap();
    assert_ne!(fs::metadata(&path).unwrap().ino(), inode);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
    // The old file stays whole for those who have it open.
    assert_eq!(old.metadata().unwrap().len(), 4096);
}

#[test]
fn a_writer_changes_no_byte_before_its_first_update() {
    let (_directory, path) = place();
    let fields = RawFields {
        disruption_marker: 7,
        ..blank()
    };
    let layout = PageLayout {
        file_bytes: 3 * 4096,
        page_offset: 4096 - 0x38,
        mode: 0o640,
    };
    let header = PageHeader::default();
    let mut writer = PageWriter::create(&path, &layout, header, &fields).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
    let before = fs::read(&path).unwrap();
    let opened = PageWriter::open(&path, layout.page_offset).unwrap();
    assert_eq!((opened.fields(), opened.header()), (fields, header));
    assert_eq!(fs::read(&path).unwrap(), before);
    writer.update(|fields| fields.disruption_marker = 8);
    assert_eq!(writer.seq_count(), 4);
    let after = fs::read(&path).unwrap();
    let start = usize::try_from(layout.page_offset).unwrap();
    let changed: Vec<_> = (0..before.len())
        .filter(|at| before[*at] != after[*at])
        .collect();
    assert_eq!(changed, [start + 0x0c, start + 0x10]);
    writer.begin();
    assert_eq!(writer.seq_count(), 5);
    writer.begin();
    assert_eq!(writer.seq_count(), 5);
    writer.end();
    assert_eq!(writer.seq_count(), 6);
    writer.store_unguarded(PageHeader { magic: 1, size: 2 }, &fields, 99);
    assert_eq!((writer.seq_count(), writer.header().magic), (99, 1));
}

#[test]
fn a_writer_refuses_files_that_cannot_hold_a_page() {
    let (directory, path) = place();
    let create = |file_bytes, page_offset| {
        let layout = PageLayout {
            file_bytes,
            page_offset,
            ..PageLayout::default()
        };
        PageWriter::create(&path, &layout, PageHeader::default(), &blank()).err()
    };
    for (bytes, offset) in [
        (0, 0),
        (4096, 4),
        (4096, 4096),
        (4096, 4096 - 0x68),
        (4096, u64::MAX - 7),
    ] {
        let refused = create(bytes, offset).unwrap();
        assert_eq!(
            refused.code(),
            "ERR_VMCLOCK_INVALID_ARGUMENT",
            "{bytes} {offset}"
        );
    }
    assert_eq!(names(directory.path()), Vec::<String>::new());
    assert!(create(0x20, 0).is_none());
    assert!(create(4096, 4096 - 0x70).is_none());
    assert!(PageWriter::open(&path, 0).is_ok());
    assert_eq!(
        PageWriter::open(&path, 4096).unwrap_err().code(),
        "ERR_VMCLOCK_TOO_SMALL"
    );
    assert_eq!(
        PageWriter::open(directory.path(), 0).unwrap_err().code(),
        "ERR_VMCLOCK_UNTRUSTED"
    );
    let missing = directory.path().join("missing");
    assert_eq!(
        PageWriter::open(&missing, 0).unwrap_err().code(),
        "ERR_VMCLOCK_NOT_FOUND"
    );
    // A directory has the name: nothing is left beside it.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("kept"), "").unwrap();
    assert_eq!(create(4096, 0).unwrap().code(), "ERR_VMCLOCK_UNTRUSTED");
    assert_eq!(names(directory.path()), ["page"]);
}

#[test]
fn the_kernels_clocks_answer() {
    let discipline = KernelClock.discipline().unwrap();
    assert!(discipline.maxerror_us <= 16_000_000);
    assert!((9_000..=11_000).contains(&discipline.tick_us));
    let counter = vmclock::counter::CpuCounter;
    let before = realtime_ns();
    let bracket = KernelClock.bracket(&counter);
    let after = realtime_ns();
    assert!((before..=after).contains(&bracket.realtime_ns));
    // Both are 0 if all of it fell into one step of the counter.
    assert!(bracket.width_ticks <= bracket.span_ticks);
    assert!(KernelClock.suspended_ns() > -1_000_000);
    assert!(!StepAlarm::new().unwrap().went_off());
}

#[test]
fn a_leap_second_list_counts_until_it_expires_and_only_whole() {
    const LIST: &str = "#\tcomment\n#$ 3900000000\n#@ 3991593600\n2272060800 10 # 1972\n\
                        3692217600\t37\t# 2017\n#h 1 2 3\n";
    let list = LeapSeconds::parse(LIST).unwrap();
    let unix = |ntp: i64| ntp - 2_208_988_800;
    let at = |ntp| list.tai_minus_utc_sec(unix(ntp));
    assert_eq!(at(2_272_060_799), None);
    assert_eq!(at(2_272_060_800), Some(10));
    assert_eq!(at(3_692_217_599), Some(10));
    assert_eq!(at(3_991_593_599), Some(37));
    assert_eq!(at(3_991_593_600), None);
    for broken in [
        "",
        "3692217600 37\n",
        "#@ 3991593600\n",
        "#@ 1\nx 37\n",
        "#@ 1\n3692217600\n",
    ] {
        assert_eq!(LeapSeconds::parse(broken), None, "{broken}");
    }
}

/// Returns the bytes of a page behind the structure, without the extension.
fn rest(path: &Path) -> Vec<u8> {
    let mut content = fs::read(path).unwrap();
    content.drain(0x800..0x848);
    content.drain(..0x70);
    content
}

#[test]
fn a_page_says_why_it_states_no_bound() {
    let (_directory, path) = place();
    let publisher = Publisher::create(&path, options()).unwrap();
    let mut clock = open(&path);
    let snapshot = clock.snapshot().unwrap();
    assert_eq!(
        snapshot.no_bound().is_some(),
        snapshot.time_max_error_ns().is_none()
    );
    assert_eq!(&fs::read(&path).unwrap()[0x800..0x804], b"VCLX");
    assert!(rest(&path).iter().all(|byte| *byte == 0));
    publisher.disrupt().unwrap();
    let disrupted = NoBound::Distrusted {
        cause: Distrust::Disruption,
        updates_left: 8,
    };
    let is_synchronized = snapshot.no_bound() != Some(NoBound::Unsynchronized);
    let expected = if is_synchronized {
        disrupted
    } else {
        NoBound::Unsynchronized
    };
    assert_eq!(publisher.no_bound(), Some(expected));
    assert_eq!(clock.snapshot().unwrap().no_bound(), Some(expected));
    // Readers refuse its time from now on.
    publisher.close().unwrap();
    assert_eq!(clock.snapshot().unwrap().no_bound(), None);
    // A stated error is a bound.
    let stated = PublishOptions {
        max_error_ns: Some(1_000_000),
        ..options()
    };
    let publisher = Publisher::create(&path, stated).unwrap();
    assert_eq!(publisher.no_bound(), None);
    assert_eq!(clock.snapshot().unwrap().no_bound(), None);
}

#[test]
fn a_reason_ends_with_the_update_that_gave_it() {
    let (_directory, path) = place();
    let publisher = Publisher::create(&path, options()).unwrap();
    publisher.disrupt().unwrap();
    drop(publisher);
    let mut clock = open(&path);
    // A writer that knows no extension.
    let mut other = PageWriter::open(&path, 0).unwrap();
    let before = fs::read(&path).unwrap();
    other.update(|fields| fields.clock_status = 3);
    assert_eq!(clock.snapshot().unwrap().no_bound(), None);
    assert_eq!(&fs::read(&path).unwrap()[0x70..], &before[0x70..]);
}

#[test]
fn a_page_without_room_for_an_extension_is_taken_over_without_one() {
    let (_directory, path) = place();
    for bytes in [0x70, 4095] {
        let layout = PageLayout {
            file_bytes: bytes,
            ..PageLayout::default()
        };
        let header = PageHeader {
            size: 0x70,
            ..PageHeader::default()
        };
        drop(PageWriter::create(&path, &layout, header, &blank()).unwrap());
        let publisher = Publisher::create(&path, options()).unwrap();
        let mut clock = open(&path);
        clock.now_ns().unwrap();
        assert_eq!(clock.snapshot().unwrap().no_bound(), None);
        publisher.close().unwrap();
        let content = fs::read(&path).unwrap();
        assert_eq!(content.len() as u64, bytes);
        assert!(content[0x70..].iter().all(|byte| *byte == 0));
    }
}
