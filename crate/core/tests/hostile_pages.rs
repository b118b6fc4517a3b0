//! A page of any bytes, changed byte by byte between two loads of a read, gives the time that the
//! specification's formulas give, or their refusal. `VMCLOCK_HOSTILE_RUNS` sets how many pages.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails; clippy exempts only the functions marked as tests"
)]

#[allow(dead_code, reason = "the arithmetic's own tests use the rest")]
mod exact;
mod hostile;

use hostile::{HEADER_BYTES, Seen, UPDATE_BYTES, check};
use vmclock::counter::{Counter, CpuCounter};

/// Of a build that checks for overflow, and may run under emulation, fewer.
const RUNS: u64 = if cfg!(debug_assertions) {
    1_000
} else {
    10_000
};

/// xorshift64*: every run is the same.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn one_in(&mut self, of: u64) -> bool {
        (self.next() >> 32).is_multiple_of(of)
    }
}

/// Any bytes, with most of the codes that would refuse them set right, and updates that mostly keep
/// the counter near its reference.
fn any_input(random: &mut Random) -> Vec<u8> {
    let updates = (random.next() >> 32) as usize % 9;
    let mut bytes: Vec<u8> = (0..HEADER_BYTES + updates * UPDATE_BYTES)
        .map(|_| (random.next() >> 56) as u8)
        .collect();
    let page = 6;
    let mut set = |at: usize, value: &[u8], keep_one_in: u64| {
        if !random.one_in(keep_one_in) {
            bytes[at..at + value.len()].copy_from_slice(value);
        }
    };
    set(0, &[0], 4);
    set(page + 0x08, &1_u16.to_le_bytes(), 16);
    set(page + 0x0a, &[CpuCounter.id()], 16);
    set(page + 0x22, &[2], 8);
    set(page + 0x24, &37_i16.to_le_bytes(), 4);
    set(page + 0x27, &[31], 4);
    // From 1970 to 2106.
    set(page + 0x4c, &[0; 4], 8);
    let time_type = bytes[page + 0x0b] % 3;
    bytes[page + 0x0b] = time_type;
    bytes[page + 0x26] %= 8;
    let reference: [u8; 8] = bytes[page + 0x28..page + 0x30].try_into().unwrap();
    let reference = u64::from_le_bytes(reference);
    let mut counters = vec![HEADER_BYTES - 8];
    counters.extend((0..updates).map(|update| HEADER_BYTES + update * UPDATE_BYTES + 5));
    for at in counters {
        if !random.one_in(8) {
            let ticks = random.next() >> (16 + random.next() % 32);
            bytes[at..at + 8].copy_from_slice(&reference.wrapping_add(ticks).to_le_bytes());
        }
    }
    bytes
}

#[test]
fn a_hostile_page_gives_what_the_formulas_give_or_their_refusal() {
    let runs = std::env::var("VMCLOCK_HOSTILE_RUNS").map_or(RUNS, |runs| runs.parse().unwrap());
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut seen = Seen::default();
    for run in 0..runs {
        let bytes = any_input(&mut random);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            check(&bytes, &mut seen);
        }));
        assert!(result.is_ok(), "run {run}: {bytes:02x?}");
    }
    println!("hostile: {runs} pages, {seen:?}");
    assert!(
        seen.readings > runs / 10 && seen.refusals > runs / 10 && seen.overtaken > runs / 100,
        "VACUOUS: {seen:?}"
    );
}
