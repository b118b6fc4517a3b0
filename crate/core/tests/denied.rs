//! If the system denies descriptors, memory or system calls, calls return typed errors and leak nothing.
//!
//! A limit applies to a whole process, so those tests run in a process of their own: this program, started
//! again. A filter of system calls applies to one thread.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails; clippy exempts only the functions marked as tests"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};
use vmclock::page::Page;
use vmclock::publish::{PublishOptions, Publisher, Shape};
use vmclock::watch::{Notice, WatchOptions};
use vmclock::writer::{PageHeader, PageLayout, PageWriter, blank};
use vmclock::{Error, Watcher};

const PAGE: &str = "VMCLOCK_TEST_DENIED_PAGE";

fn page_in(directory: &Path) -> PathBuf {
    let path = directory.join("page");
    let layout = PageLayout::default();
    PageWriter::create(&path, &layout, PageHeader::default(), &blank()).unwrap();
    path
}

fn watch(path: &Path) -> Result<Watcher, Error> {
    let options = WatchOptions {
        interval: Duration::from_millis(1),
        ..WatchOptions::default()
    };
    Watcher::new(Arc::new(Page::open(path, &[])?), options)
}

/// Returns true under an emulator, whose own limits and system calls would be denied instead.
fn is_emulated() -> bool {
    let emulated = std::env::var_os("VMCLOCK_TEST_RUNNER").is_some();
    if emulated {
        eprintln!("skipped: an emulator has its own limits");
    }
    emulated
}

/// Runs `body` with the path of a page in a process of its own, which runs only the test `name`.
fn alone(name: &str, body: impl FnOnce(&Path)) {
    if let Some(path) = std::env::var_os(PAGE) {
        return body(Path::new(&path));
    }
    if is_emulated() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(PAGE, page_in(directory.path()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Refuses one system call to this thread from now on.
fn deny(call: libc::c_long) {
    let filter = SeccompFilter::new(
        BTreeMap::from([(call, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(Errno::PERM.raw_os_error().cast_unsigned()),
        TargetArch::try_from(std::env::consts::ARCH).unwrap(),
    )
    .unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    apply_filter(&program).unwrap();
}

fn assert_denied(error: &Error, syscall: &str, errno: Errno) {
    assert_eq!(error.code(), "ERR_VMCLOCK_SYSTEM", "{error}");
    assert_eq!(error.syscall(), Some(syscall), "{error}");
    assert_eq!(error.errno(), Some(errno.raw_os_error()), "{error}");
    assert!(error.remedy().is_some(), "{error}");
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn open_and_watch_fail_without_descriptors_and_work_again_with_one() {
    alone(
        "open_and_watch_fail_without_descriptors_and_work_again_with_one",
        |path| {
            let page = Arc::new(Page::open(path, &[]).unwrap());
            let limit = Rlimit {
                current: Some(descriptors() as u64 + 20),
                ..getrlimit(Resource::Nofile)
            };
            setrlimit(Resource::Nofile, limit).unwrap();
            let mut taken: Vec<File> =
                std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
            assert!(taken.len() > 2);
            assert_denied(&Page::open(path, &[]).unwrap_err(), "open", Errno::MFILE);
            let refused = Watcher::new(page, WatchOptions::default()).unwrap_err();
            assert_denied(&refused, "eventfd", Errno::MFILE);
            // The file is closed after it is mapped, so one free descriptor suffices for many pages.
            taken.pop();
            let pages: Vec<Page> = (0..10).map(|_| Page::open(path, &[]).unwrap()).collect();
            drop(pages);
            watch(path).unwrap();
        },
    );
}

#[test]
fn open_fails_without_memory_leaks_no_descriptor_and_works_again() {
    alone(
        "open_fails_without_memory_leaks_no_descriptor_and_works_again",
        |path| {
            Page::open(path, &[]).unwrap();
            let before = descriptors();
            let unlimited = getrlimit(Resource::As);
            let limit = Rlimit {
                // Less than the process uses now, so every further mapping is refused.
                current: Some(1 << 20),
                ..unlimited
            };
            setrlimit(Resource::As, limit).unwrap();
            let refused = Page::open(path, &[]).map(drop);
            setrlimit(Resource::As, unlimited).unwrap();
            assert_denied(&refused.unwrap_err(), "mmap", Errno::NOMEM);
            assert_eq!(descriptors(), before);
            Page::open(path, &[]).unwrap();
        },
    );
}

#[test]
fn open_fails_if_a_filter_denies_mmap_and_leaks_no_descriptor() {
    if is_emulated() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = page_in(directory.path());
    let refused = thread::scope(|scope| {
        scope
            .spawn(|| {
                deny(libc::SYS_mmap);
                Page::open(&path, &[]).unwrap_err()
            })
            .join()
            .unwrap()
    });
    assert_denied(&refused, "mmap", Errno::PERM);
    let held = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .filter(|target| *target == path)
        .count();
    assert_eq!(held, 0);
    Page::open(&path, &[]).unwrap();
}

#[test]
fn a_watcher_polls_the_page_on_a_timer_if_a_filter_denies_poll() {
    if is_emulated() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = page_in(directory.path());
    // The longest interval: the test fails if a call waits for its end.
    let options = WatchOptions {
        interval: Duration::from_secs(3600),
        ..WatchOptions::default()
    };
    let mut watcher = Watcher::new(Arc::new(Page::open(&path, &[]).unwrap()), options).unwrap();
    let closer = watcher.closer();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        #[cfg(target_arch = "x86_64")]
        deny(libc::SYS_poll);
        deny(libc::SYS_ppoll);
        let mut notices = 0;
        while let Some(notice) = watcher.wait() {
            notices += 1;
            let _ = tell.send(Some(notice));
        }
        assert_eq!(notices, 1);
        let _ = tell.send(None);
    });
    let mut writer = PageWriter::open(&path, 0).unwrap();
    writer.update(|page| page.disruption_marker = 1);
    let next = || told.recv_timeout(Duration::from_secs(60)).unwrap();
    match next() {
        Some(Notice::Change(change)) => assert_eq!(change.updates, 1),
        other => panic!("{other:?}"),
    }
    closer.close();
    assert_eq!(next().map(drop), None);
}

#[test]
fn a_publisher_that_may_not_call_adjtimex_says_what_to_do() {
    if is_emulated() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("page");
    thread::spawn(move || {
        // The C library calls either.
        deny(libc::SYS_adjtimex);
        deny(libc::SYS_clock_adjtime);
        for max_error_ns in [None, Some(5_000_000)] {
            let options = PublishOptions {
                allow_untrusted_counter: true,
                max_error_ns,
                ..PublishOptions::default()
            };
            let refused = Publisher::create(&path, options).unwrap_err();
            assert_denied(&refused, "adjtimex", Errno::PERM);
            let remedy = refused.remedy().unwrap();
            assert!(remedy.contains("seccomp"), "{remedy}");
            assert!(remedy.contains("also with a stated error"), "{remedy}");
        }
        // The remedy's second way works.
        let options = PublishOptions {
            shape: Shape::Marker,
            ..PublishOptions::default()
        };
        Publisher::create(&path, options).unwrap().close().unwrap();
    })
    .join()
    .unwrap();
}
