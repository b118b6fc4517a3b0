//! Pages of arbitrary bytes, which change between two loads of a read. The reader gives the time of the
//! specification's formulas, or their refusal. A publisher continues such a page only if its time is
//! consistent with the present. `VMCLOCK_HOSTILE_RUNS` sets the number of pages.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails; clippy exempts only the functions marked as tests"
)]

use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use tar::Archive;
use vmclock_testkit::hostile::{
    HEADER_BYTES, OPTION_BYTES, PAGE_BYTES, Seen, TAKEOVER_BYTES, UPDATE_BYTES, check, check_file,
    check_takeover,
};
use vmclock_testkit::virtual_machine::Random;

/// Fewer in a build that checks for overflow, which may run under emulation.
const RUNS: u64 = if cfg!(debug_assertions) {
    1_000
} else {
    10_000
};

/// Makes inputs that are nearly right, so that they get far into the reader.
struct Inputs(Random);

impl Inputs {
    fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn one_in(&mut self, of: u64) -> bool {
        (self.next() >> 32).is_multiple_of(of)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.next() >> 56) as u8).collect()
    }

    /// Any page, with most of the codes that would refuse it set right.
    fn page(&mut self) -> [u8; PAGE_BYTES] {
        let mut page: [u8; PAGE_BYTES] = self.bytes(PAGE_BYTES).try_into().unwrap();
        let mut set = |at: usize, value: &[u8], keep_one_in: u64| {
            if !self.one_in(keep_one_in) {
                page[at..at + value.len()].copy_from_slice(value);
            }
        };
        set(0x00, b"VCLK", 16);
        set(0x04, &0x70_u32.to_le_bytes(), 4);
        set(0x08, &1_u16.to_le_bytes(), 16);
        set(0x0a, &[1], 16);
        set(0x0c, &[0], 16);
        set(0x22, &[2], 8);
        set(0x24, &37_i16.to_le_bytes(), 4);
        set(0x27, &[31], 4);
        // From 1970 to 2106.
        set(0x4c, &[0; 4], 8);
        page[0x0b] %= 3;
        page[0x26] %= 8;
        page
    }

    /// How far a counter is from its reference: mostly near.
    fn ticks(&mut self) -> [u8; 8] {
        let ticks = self.next();
        if self.one_in(8) {
            ticks.to_le_bytes()
        } else {
            (ticks >> (16 + self.next() % 32)).to_le_bytes()
        }
    }

    fn options(&mut self) -> Vec<u8> {
        let mut options = self.bytes(OPTION_BYTES);
        if !self.one_in(4) {
            options[0] = 0;
        }
        options
    }

    /// An input of [`check`].
    fn input(&mut self) -> Vec<u8> {
        let mut input = self.options();
        input.extend(self.page());
        input.extend(self.ticks());
        assert_eq!(input.len(), HEADER_BYTES);
        for _ in 0..self.next() % 9 {
            let update = self.bytes(UPDATE_BYTES - 8);
            input.extend(update);
            input.extend(self.ticks());
        }
        input
    }

    /// An input of [`check_file`].
    fn file(&mut self) -> Vec<u8> {
        let mut input = self.options();
        input.extend(self.ticks());
        input.extend(self.page());
        if self.one_in(8) {
            let shorter = self.next() as usize % input.len();
            input.truncate(shorter);
        }
        input
    }

    /// An input of [`check_takeover`]: mostly a page that was left there, changed in few places.
    fn takeover(&mut self) -> Vec<u8> {
        let mut input = self.bytes(TAKEOVER_BYTES);
        for bytes in [10..14, 14..22, 22..30] {
            if !self.one_in(4) {
                input[bytes].fill(0);
            }
        }
        if self.one_in(4) {
            // A clock that was stepped by about its bound, and kept its error figures.
            input[1] = 0x50;
            input[9] = 0;
            let step = self.next() >> (38 + self.next() % 12);
            input[22..30].copy_from_slice(&step.to_le_bytes());
        }
        let most = if self.one_in(8) { 32 } else { 0 };
        let mut mask = vec![0; PAGE_BYTES + most];
        if self.one_in(4) {
            // A leap second, and up to half a month since.
            mask[0x26] = (self.next() >> 32) as u8 % 6;
            let pause = (self.next() >> 32) as u32 % 5_000;
            input[10..14].copy_from_slice(&pause.to_le_bytes());
        }
        for _ in 0..self.next() % 4 {
            let at = self.next() as usize % mask.len();
            mask[at] = (self.next() >> 56) as u8;
        }
        if self.one_in(16) {
            mask = self.bytes(PAGE_BYTES);
        }
        input.extend(mask);
        input
    }
}

fn run(input: &[u8], check: fn(&[u8], &mut Seen), seen: &mut Seen, name: impl FnOnce() -> String) {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(input, seen)));
    assert!(result.is_ok(), "{}: {input:02x?}", name());
}

fn run_any(make: fn(&mut Inputs) -> Vec<u8>, check: fn(&[u8], &mut Seen)) -> (u64, Seen) {
    let runs = std::env::var("VMCLOCK_HOSTILE_RUNS").map_or(RUNS, |runs| runs.parse().unwrap());
    let mut inputs = Inputs(Random::new(1));
    let mut seen = Seen::default();
    for at in 0..runs {
        run(&make(&mut inputs), check, &mut seen, || format!("run {at}"));
    }
    println!("hostile: {runs} inputs, {seen:?}");
    (runs, seen)
}

/// Runs `check` on the fuzz corpus of one target: inputs that each reach code that no other reaches.
fn run_corpus(target: &str, check: fn(&[u8], &mut Seen)) -> Seen {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(format!("{target}.tar.gz"));
    let mut archive = Archive::new(GzDecoder::new(File::open(path).unwrap()));
    let mut seen = Seen::default();
    let mut inputs = 0;
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut input = Vec::new();
        entry.read_to_end(&mut input).unwrap();
        run(&input, check, &mut seen, || name);
        inputs += 1;
    }
    println!("corpus of {target}: {inputs} inputs, {seen:?}");
    assert!(inputs > 0);
    seen
}

#[test]
fn a_hostile_page_gives_what_the_formulas_give_or_their_refusal() {
    let (runs, seen) = run_any(Inputs::input, check);
    assert!(
        seen.readings > runs / 10 && seen.refusals > runs / 10 && seen.overtaken > runs / 100,
        "VACUOUS: {seen:?}"
    );
}

#[test]
fn the_fuzz_corpus_of_pages_gives_the_time_of_the_formulas_or_their_refusal() {
    let seen = run_corpus("read", check);
    assert!(
        seen.readings > 0 && seen.refusals > 0 && seen.overtaken > 0,
        "VACUOUS: {seen:?}"
    );
}

#[test]
fn the_fuzz_corpus_of_files_gives_the_time_of_the_formulas_or_their_refusal() {
    let seen = run_corpus("open", check_file);
    assert!(seen.readings > 0 && seen.refusals > 0, "VACUOUS: {seen:?}");
}

#[test]
fn the_fuzz_corpus_of_takeovers_keeps_only_true_statements() {
    let seen = run_corpus("takeover", check_takeover);
    assert!(seen.readings > 0 && seen.refusals > 0, "VACUOUS: {seen:?}");
}

#[test]
fn a_hostile_file_gives_what_the_formulas_give_or_their_refusal() {
    let (runs, seen) = run_any(Inputs::file, check_file);
    assert!(
        seen.readings > 0 && seen.refusals > runs / 10,
        "VACUOUS: {seen:?}"
    );
}

#[test]
fn a_takeover_of_a_hostile_page_keeps_only_true_statements() {
    let (runs, seen) = run_any(Inputs::takeover, check_takeover);
    assert!(
        seen.readings > runs / 10 && seen.refusals > runs / 10,
        "VACUOUS: {seen:?}"
    );
}
