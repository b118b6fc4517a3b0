//! A writer may be killed at any store of an update. Readers of its page then get the state before or after
//! the update, or a timeout. After the next writer's update they get its state.
//!
//! The test runs the writer's real protocol in a process, which kills itself by SIGKILL at a given store.

#![allow(
    missing_docs,
    clippy::expect_used,
    reason = "a test that meets the unexpected fails"
)]

use std::cell::Cell;
use std::env;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{Ordering, fence};
use std::time::Instant;

use vmclock::clock::UPDATE_TIMEOUT;
use vmclock::seqlock::{self, FIRST_WORD_OFFSET, SharedWords, SharedWordsMut, WORDS};
use vmclock::snapshot::RawFields;
use vmclock::{Options, PageHeader, PageLayout, PageWriter, VmClock};

const HEAD_OFFSET: u64 = 0x08;
const SEQ_OFFSET: u64 = 0x0c;

/// The sequence number, the head, the words, and the sequence number again.
const STORES: usize = WORDS + 3;

/// A page in a file. Each store is a separate write.
struct Stores {
    file: File,
    left: Cell<usize>,
}

impl Stores {
    fn store(&self, offset: u64, bytes: &[u8]) {
        if self.left.get() == 0 {
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::KILL).expect("a kill");
        }
        self.left.set(self.left.get() - 1);
        self.file.write_all_at(bytes, offset).expect("a store");
    }

    fn load<const BYTES: usize>(&self, offset: u64) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        self.file.read_exact_at(&mut bytes, offset).expect("a load");
        bytes
    }
}

impl SharedWords for Stores {
    fn load_seq(&self) -> u32 {
        u32::from_le_bytes(self.load(SEQ_OFFSET))
    }

    fn load_head(&self) -> u32 {
        u32::from_le_bytes(self.load(HEAD_OFFSET))
    }

    fn load_words(&self) -> [u64; WORDS] {
        std::array::from_fn(|word| u64::from_le_bytes(self.load(word_offset(word))))
    }

    fn fence_acquire(&self) {
        fence(Ordering::Acquire);
    }
}

impl SharedWordsMut for Stores {
    fn store_seq(&self, seq: u32) {
        self.store(SEQ_OFFSET, &seq.to_le_bytes());
    }

    fn store_head(&self, head: u32) {
        self.store(HEAD_OFFSET, &head.to_le_bytes());
    }

    fn store_words(&self, words: &[u64; WORDS]) {
        for (word, value) in words.iter().enumerate() {
            self.store(word_offset(word), &value.to_le_bytes());
        }
    }

    fn fence_release(&self) {
        fence(Ordering::Release);
    }
}

fn word_offset(word: usize) -> u64 {
    (FIRST_WORD_OFFSET + word * size_of::<u64>()) as u64
}

/// Makes a state in which every byte is `every_byte`, so that two states have no byte in common.
fn state(every_byte: u8) -> RawFields {
    let word = u64::from_le_bytes([every_byte; 8]);
    RawFields {
        version: 1,
        ..RawFields::from_words(u32::from_le_bytes([every_byte; 4]), &[word; WORDS])
    }
}

fn dies_at(store: usize, path: &Path) {
    let program = env::current_exe().expect("a program");
    // Under an emulator a program does not start by its path alone.
    let mut command = match env::var_os("VMCLOCK_TEST_RUNNER") {
        Some(runner) => {
            let mut command = Command::new(runner);
            command.arg(program);
            command
        }
        None => Command::new(program),
    };
    let died = command
        .args(["--ignored", "--exact", "a_writer_that_dies"])
        .env("VMCLOCK_DYING_PAGE", path)
        .env("VMCLOCK_DYING_STORE", store.to_string())
        .output()
        .expect("a process");
    let signal = died.status.signal();
    assert_eq!(signal, Some(libc::SIGKILL), "at store {store}: {died:?}");
}

#[test]
#[ignore = "the other test starts it in a process of its own, to be killed there"]
fn a_writer_that_dies() {
    let path = env::var("VMCLOCK_DYING_PAGE").expect("a page");
    let store = env::var("VMCLOCK_DYING_STORE").expect("a store");
    let memory = Stores {
        file: OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .expect("a file"),
        left: Cell::new(store.parse().expect("a number")),
    };
    let (head, words) = state(2).to_words();
    loop {
        seqlock::write(&memory, head, &words);
    }
}

#[test]
fn a_writer_killed_at_any_store_leaves_a_whole_state_or_a_timeout() {
    let directory = tempfile::tempdir().expect("a directory");
    for store in 0..=STORES {
        let path = directory.path().join(store.to_string());
        let (layout, header) = (PageLayout::default(), PageHeader::default());
        PageWriter::create(&path, &layout, header, &state(1)).expect("a page");
        let open = || VmClock::open(&path, Options::default()).expect("a clock");
        let mut clock = open();
        assert_eq!(clock.snapshot().expect("the state before").raw, state(1));
        dies_at(store, &path);
        let looks = Instant::now();
        let seen = clock.snapshot();
        match store {
            0 => assert_eq!(seen.expect("the state before").raw, state(1)),
            STORES => assert_eq!(seen.expect("the state after").raw, state(2)),
            _ => {
                assert_eq!(seen.expect_err("half").code(), "ERR_VMCLOCK_TIMEOUT");
                assert!(looks.elapsed() >= UPDATE_TIMEOUT);
                let again = Instant::now();
                for _ in 0..100 {
                    let error = clock.snapshot().expect_err("half");
                    assert_eq!(error.code(), "ERR_VMCLOCK_TIMEOUT");
                }
                // A hundred calls take less time than two timeouts.
                assert!(again.elapsed() < 2 * UPDATE_TIMEOUT, "at store {store}");
            }
        }
        let mut next = PageWriter::open(&path, 0).expect("the page again");
        next.update(|fields| *fields = state(3));
        assert_eq!(clock.snapshot().expect("the next state").raw, state(3));
        assert_eq!(open().snapshot().expect("the next state").raw, state(3));
    }
}
