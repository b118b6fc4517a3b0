//! The page that a process makes for its own clocks: one for all threads, none after the last, a new one in a
//! forked child.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails; clippy exempts only the functions marked as tests"
)]

use std::fs;
use std::process::Command;
use std::sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, SendFlags, SocketType};
use vmclock::device::Device;
use vmclock::page::Page;
use vmclock::publish::{notify_restored, process_page};
use vmclock::seqlock::SharedWords;
use vmclock::watch::Notice;
use vmclock::{Options, VmClock};

/// Lets one test at a time use what the process has one of.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn page() -> Page {
    // A virtual machine's counter need not be one that the kernel trusts.
    process_page(true, vmclock::publish::From::Auto, None).unwrap()
}

fn clock(page: Page) -> VmClock {
    VmClock::open_page(Arc::new(page), Options::default())
}

/// Returns how many threads of this process have a name.
fn threads(name: &str) -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter(|task| {
            let comm = fs::read_to_string(task.as_ref().unwrap().path().join("comm"));
            // A thread may have ended since.
            comm.is_ok_and(|comm| comm.trim() == name)
        })
        .count()
}

/// Returns whether there are as many calibrators and pages as given. A thread that has just begun has no name yet,
/// and one that was joined may still be listed.
fn are_alive(calibrators: usize, pages: usize) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    while threads("vmclock-publish") != calibrators {
        if Instant::now() > deadline {
            return false;
        }
        thread::yield_now();
    }
    wiped_pages().is_none_or(|found| found == pages)
}

fn descriptors() -> Vec<String> {
    let mut open: Vec<String> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .map(|target| target.display().to_string())
        .filter(|target| !target.contains("/proc/"))
        .collect();
    open.sort();
    open
}

/// Returns whether an emulator runs this program. It does not say which memory a fork wipes, and a forked child
/// waits for its locks, which other threads of the parent may have held.
fn is_emulated() -> bool {
    std::env::var_os("VMCLOCK_TEST_RUNNER").is_some()
}

/// Returns how many memory pages of this process a fork wipes. `None` under an emulator.
fn wiped_pages() -> Option<usize> {
    if is_emulated() {
        return None;
    }
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    // The kernel joins neighbouring mappings, and lists the size of each before its flags.
    let (mut wiped_kb, mut size_kb) = (0, 0);
    for line in smaps.lines() {
        if let Some(size) = line.strip_prefix("Size:") {
            size_kb = size.trim().trim_end_matches(" kB").parse().unwrap();
        } else if let Some(flags) = line.strip_prefix("VmFlags:")
            && flags.split(' ').any(|flag| flag == "wf")
        {
            wiped_kb += size_kb;
        }
    }
    Some(wiped_kb * 1024 / rustix::param::page_size())
}

#[test]
fn the_page_of_this_process_follows_the_kernels_clock() {
    let _alone = alone();
    let mut clock = clock(page());
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let before = now().unwrap();
    let read = Duration::from_nanos(clock.now_ns().unwrap().unsigned_abs());
    let after = now().unwrap();
    let rate_error = Duration::from_millis(10);
    assert!(before - rate_error < read && read < after + rate_error);
    assert_eq!(clock.path(), None);
}

#[test]
fn all_threads_share_one_page_and_one_calibrator() {
    const THREADS: usize = 8;
    let _alone = alone();
    let together = Barrier::new(THREADS);
    let markers: Vec<u64> = thread::scope(|scope| {
        let open = || {
            together.wait();
            let mut clock = clock(page());
            let marker = clock.continuity_token().unwrap().disruption_marker;
            together.wait();
            assert!(are_alive(1, 1));
            together.wait();
            marker
        };
        let started: Vec<_> = (0..THREADS).map(|_| scope.spawn(open)).collect();
        started
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(markers.iter().all(|marker| *marker == markers[0]));
    assert!(are_alive(0, 0));
}

#[test]
fn nothing_is_left_after_the_last_page_of_this_process() {
    let _alone = alone();
    let before = descriptors();
    for _ in 0..3 {
        let (first, second) = (page(), page());
        assert!(are_alive(1, 1));
        drop(first);
        assert!(are_alive(1, 1));
        // The other page goes on.
        let mut clock = clock(second);
        clock.now_ns().unwrap();
        let clone = clock.clone();
        drop(clock);
        assert!(are_alive(1, 1));
        drop(clone);
        assert!(are_alive(0, 0));
        assert_eq!(descriptors(), before);
    }
}

#[test]
#[allow(unsafe_code, reason = "nothing forks safely")]
fn a_clock_in_a_forked_child_reads_a_page_that_the_child_makes() {
    if is_emulated() {
        return;
    }
    let _alone = alone();
    let parents = page();
    assert!(parents.renewed().unwrap().is_none());
    let mut clock = clock(parents);
    clock.now_ns().unwrap();
    let token = clock.continuity_token().unwrap();
    let page = Arc::clone(clock.memory());
    assert_ne!(page.load_seq(), 0);
    // SAFETY: the child only compares and drops what it has, and ends without running anything of the test
    // harness.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        // SAFETY: the alarm ends a child that waits for ever.
        unsafe { libc::alarm(20) };
        let is_wiped = page.load_seq() == 0;
        drop(page);
        let is_other = matches!(clock.is_continuous(&token), Ok(false));
        let reads = clock.now_ns().is_ok() && clock.read().is_ok();
        // The parent's thread has a share in the parent's page, and does not run here to drop it.
        let has_own = are_alive(1, 2);
        drop(clock);
        let none_left = are_alive(0, 1);
        let promises = [is_wiped, is_other, reads, has_own, none_left];
        let broken = promises.iter().position(|kept| !kept);
        let code = broken.map_or(0, |promise| promise + 1);
        // SAFETY: ends the process, as meant.
        unsafe { libc::_exit(i32::try_from(code).unwrap_or(-1)) }
    }
    let mut status = -1;
    // SAFETY: `status` is a whole integer that the call may write.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(libc::WEXITSTATUS(status), 0);
    assert!(libc::WIFEXITED(status));
    // The parent's page is unharmed.
    assert!(clock.is_continuous(&token).unwrap());
    clock.now_ns().unwrap();
}

#[test]
#[allow(unsafe_code, reason = "nothing forks safely")]
fn a_fork_while_another_thread_opens_does_not_lock_the_child_out() {
    if is_emulated() {
        return;
    }
    let _alone = alone();
    thread::scope(|scope| {
        scope.spawn(page);
        // The thread has the lock from before the calibrator's timer exists until its first time does, 10 ms later.
        while !descriptors().iter().any(|open| open.contains("timerfd")) {
            thread::yield_now();
        }
        // SAFETY: the child only opens a page, and ends without running anything of the test harness.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            // SAFETY: the alarm ends a child that waits for ever.
            unsafe { libc::alarm(20) };
            let code = i32::from(process_page(true, vmclock::publish::From::Auto, None).is_err());
            // SAFETY: ends the process, as meant.
            unsafe { libc::_exit(code) }
        }
        let mut status = -1;
        // SAFETY: `status` is a whole integer that the call may write.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
    });
}

/// Asks the kernel to send a uevent to the listeners of this network namespace, as it sends its own.
fn have_kernel_send(uevent: &[u8]) {
    const HEADER_BYTES: u32 = 16;
    const FIRST_TYPE: u16 = 16;
    const IS_REQUEST: u16 = 1;
    let length = HEADER_BYTES + u32::try_from(uevent.len()).unwrap();
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(FIRST_TYPE.to_ne_bytes());
    message.extend(IS_REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(uevent);
    let protocol = Some(netlink::KOBJECT_UEVENT);
    let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, protocol).unwrap();
    let kernel = SocketAddrNetlink::new(0, 0);
    rustix::net::sendto(&socket, &message, SendFlags::empty(), &kernel).unwrap();
}

/// Returns the page's generation after the next change of it.
fn next_generation(clock: &VmClock, act: impl FnOnce()) -> Option<u64> {
    let mut watcher = clock.watch(None).unwrap();
    act();
    loop {
        match watcher.wait().unwrap() {
            Notice::Change(change) if change.kinds.generation => return change.after.vm_generation,
            Notice::Change(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_told_restore_is_a_generation_of_the_process_page_before_the_call_returns() {
    let _alone = alone();
    let mut clock = clock(page());
    let token = clock.continuity_token().unwrap();
    let before = token.vm_generation.unwrap_or(0);
    for restores in 1..=2 {
        notify_restored();
        let now = clock.continuity_token().unwrap();
        assert_eq!(now.vm_generation, Some(before + restores));
        assert!(!clock.is_continuous(&token).unwrap());
    }
}

#[test]
fn a_uevent_of_the_kernel_is_a_generation_of_the_process_page() {
    // Namespaces of its own: no other program hears the uevent, and the kernel seems to drive a VMGENID device.
    const STAGE: &str = "drivers=/sys/bus/platform/drivers && mount -t tmpfs none $drivers && \
        mkdir $drivers/vmgenid && ln -s / $drivers/vmgenid/QEMUVGID:00 && exec timeout 120 \"$@\"";
    if is_emulated() || matches!(Device::find(None), Device::Open(_)) {
        eprintln!("skipped: an emulator, or a machine with a device of its own");
        return;
    }
    // The pipes to the programs are descriptors of this process.
    let _alone = alone();
    let stage = |words: &[&str]| {
        Command::new("unshare")
            .args(["--net", "--mount", "sh", "-c", STAGE, "sh"])
            .args(words)
            .output()
    };
    if !stage(&["true"]).is_ok_and(|staged| staged.status.success()) {
        eprintln!("skipped: it needs root, and the program unshare");
        return;
    }
    let program = std::env::current_exe().unwrap();
    let name = "in_namespaces_of_its_own_the_page_follows_uevents";
    let words = [program.to_str().unwrap(), "--ignored", "--exact", name];
    let done = stage(&words).unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "the test of the kernel's uevents runs it in namespaces of its own"]
fn in_namespaces_of_its_own_the_page_follows_uevents() {
    let mut clock = clock(page());
    let token = clock.continuity_token().unwrap();
    assert_eq!(token.vm_generation, None);
    for restores in 1..=2 {
        let now = next_generation(&clock, || {
            have_kernel_send(b"change@/devices/x\0ACTION=change\0SYNTH_ARG_NEW_VMGENID=1\0");
            have_kernel_send(b"change@/devices/x\0ACTION=change\0NEW_VMGENID=1\0");
        });
        // The first of the two is another kind of uevent.
        assert_eq!(now, Some(restores));
    }
    assert!(!clock.is_continuous(&token).unwrap());
}
