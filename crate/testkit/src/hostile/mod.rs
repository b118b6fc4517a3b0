//! The whole reader on a page of arbitrary bytes, compared with the exact model (`exact`); and a publisher
//! that finds such a page.
//!
//! `crate/core/tests/hostile_pages.rs` drives it with seeded bytes and with the fuzz corpus. `crate/fuzz` drives
//! it with inputs that reach new code.

mod calls;
mod file;
mod machine;
mod state;
mod takeover;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use vmclock::snapshot::{Abi, RawFields};
use vmclock::{Options, Timescale, VmClock};

use crate::exact::View;
use calls::{Call, Clocks};
#[allow(unused_imports, reason = "the other fuzz targets have no use for it")]
pub use file::check_file;
use machine::{COUNTER_ID, Machine, MachineCounter, Memory, Update};
use state::State;
#[allow(
    unused_imports,
    reason = "the reader's fuzz targets have no use for it"
)]
pub use takeover::{TAKEOVER_BYTES, check_takeover};

pub const PAGE_BYTES: usize = 0x70;
pub const OPTION_BYTES: usize = 6;
/// Options, the page, and the counter's ticks after the page's reference.
pub const HEADER_BYTES: usize = OPTION_BYTES + PAGE_BYTES + 8;
/// One update: the reader's loads before each of its three steps, the byte of the page that it changes and
/// the new value, the call that is made meanwhile, and the counter's ticks again.
pub const UPDATE_BYTES: usize = 6 + 8;
const MOST_UPDATES: usize = 8;

type Bytes = [u8; PAGE_BYTES];

fn take<const N: usize>(bytes: &Bytes, at: usize) -> [u8; N] {
    std::array::from_fn(|byte| bytes[at + byte])
}

/// The fields at the offsets of the specification's table, not of the core.
fn fields(page: &Bytes) -> RawFields {
    let u64_at = |at| u64::from_le_bytes(take(page, at));
    RawFields {
        version: u16::from_le_bytes(take(page, 0x08)),
        counter_id: page[0x0a],
        time_type: page[0x0b],
        disruption_marker: u64_at(0x10),
        flags: u64_at(0x18),
        clock_status: page[0x22],
        leap_second_smearing_hint: page[0x23],
        tai_offset_sec: i16::from_le_bytes(take(page, 0x24)),
        leap_indicator: page[0x26],
        counter_period_shift: page[0x27],
        counter_value: u64_at(0x28),
        counter_period_frac_sec: u64_at(0x30),
        counter_period_esterror_rate_frac_sec: u64_at(0x38),
        counter_period_maxerror_rate_frac_sec: u64_at(0x40),
        time_sec: u64_at(0x48),
        time_frac_sec: u64_at(0x50),
        time_esterror_nanosec: u64_at(0x58),
        time_maxerror_nanosec: u64_at(0x60),
        vm_generation_counter: u64_at(0x68),
    }
}

/// The view that the input's first bytes choose.
fn view(options: &[u8; OPTION_BYTES], counter_id: u8) -> View {
    let [size, abi, timescale, has_drift, drift, refusing] = *options;
    View {
        size_bytes: if size & 1 == 0 {
            0x1000
        } else {
            0x20 + u32::from(size) % 0x51
        },
        abi: if abi & 3 == 0 { Abi::RfcV4 } else { Abi::Uapi },
        timescale: Timescale::ALL[usize::from(timescale) % Timescale::ALL.len()],
        assumed_drift_ppb: (has_drift & 1 == 1).then_some(u32::from(drift) * 1000),
        assumed_error_ns: (has_drift & 2 == 2).then_some(u64::from(drift) << (has_drift >> 2)),
        require_synchronized: refusing & 1 == 1,
        counter_id,
    }
}

fn options(view: &View) -> Options {
    Options {
        timescale: view.timescale,
        abi: view.abi,
        assumed_drift_ppb: view.assumed_drift_ppb,
        assumed_error_ns: view.assumed_error_ns,
        require_synchronized: view.require_synchronized,
        ..Options::default()
    }
}

/// Counts of what the checks saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub readings: u64,
    pub refusals: u64,
    /// Calls that returned the state after an update that began during the call.
    pub overtaken: u64,
}

/// Makes clocks over a page of `bytes`, and makes every call on them, through the updates that `bytes`
/// describe. Panics if an answer differs from the model's.
pub fn check(bytes: &[u8], seen: &mut Seen) {
    let Some((header, updates)) = bytes.split_at_checked(HEADER_BYTES) else {
        return;
    };
    let (choices, header) = header.split_at(OPTION_BYTES);
    let (page, ticks) = header.split_at(PAGE_BYTES);
    let choices: [u8; OPTION_BYTES] = choices.try_into().unwrap();
    let mut page: Bytes = page.try_into().unwrap();
    let view = view(&choices, COUNTER_ID);
    // Relative to the reference, so that a changed reference leaves the counter near it.
    let counter_at = |page: &Bytes, ticks: &[u8]| {
        let ticks = u64::from_le_bytes(ticks.try_into().unwrap());
        fields(page).counter_value.wrapping_add(ticks)
    };
    let counter = counter_at(&page, ticks);
    let mut state = State::new(&view, &page, counter);
    let machine = Rc::new(Machine::new(page, counter));
    #[expect(clippy::arc_with_non_send_sync, reason = "the clock asks for an Arc")]
    let memory = Arc::new(Memory(Rc::clone(&machine)));
    let clock = |non_decreasing| {
        let options = Options {
            non_decreasing,
            ..options(&view)
        };
        let counter = MachineCounter(Rc::clone(&machine));
        VmClock::new(Arc::clone(&memory), view.size_bytes, counter, options)
    };
    let mut clocks = Clocks {
        plain: clock(false),
        held: clock(true),
        last_ns: None,
        token: state.continuity,
        captured: state.counter,
        rests: [None; 2],
    };
    let first = usize::from(choices[5] >> 1);
    check_unchanged(&mut clocks, &state, &view, first, seen);
    if choices[5] >> 4 == 0xf {
        calls::check_system_offset(&mut clocks, &state);
    }
    // In pairs: the first update makes the reader read the page again; the second may meet that.
    let updates: Vec<_> = updates
        .chunks_exact(UPDATE_BYTES)
        .take(MOST_UPDATES)
        .collect();
    for pair in updates.chunks(2) {
        let mut states = vec![state];
        let mut coming = VecDeque::new();
        for update in pair {
            page[usize::from(update[3]) % PAGE_BYTES] = update[4];
            let counter = counter_at(&page, &update[6..]);
            states.push(State::new(&view, &page, counter));
            coming.push_back(Update {
                loads_left: [1 + update[0] % 20, 1 + update[1] % 12, 1 + update[2] % 12],
                page,
                counter,
            });
        }
        let call = Call::ALL[usize::from(pair[0][5]) % (Call::ALL.len() - 1)];
        machine.expect(coming);
        let answer = call.make(&mut clocks);
        let right = states
            .iter()
            .map(|state| call.right(&clocks, state, &view))
            .collect::<Vec<_>>();
        let by = right.iter().rposition(|right| calls::agree(&answer, right));
        let Some(by) = by else {
            panic!("TORN: {call:?} gave {answer:?}, which is none of {right:?}");
        };
        seen.overtaken += u64::from(by > 0);
        clocks.remember(call, &states[by], &view);
        machine.end_updates();
        // The token and the counter are still those of the earlier state.
        let now = states.pop().unwrap();
        check_unchanged(&mut clocks, &now, &view, usize::from(pair[0][5]) + 1, seen);
        clocks.token = now.continuity;
        clocks.captured = now.counter;
        state = now;
    }
}

/// Makes every call on a page that does not change, from `first` on. The first call finds the page
/// changed; it is made once more at the end, from the clock's cache.
fn check_unchanged(clocks: &mut Clocks, state: &State, view: &View, first: usize, seen: &mut Seen) {
    for call in Call::ALL
        .iter()
        .cycle()
        .skip(first % Call::ALL.len())
        .take(Call::ALL.len() + 1)
    {
        let answer = call.make(clocks);
        let right = call.right(clocks, state, view);
        assert!(
            calls::agree(&answer, &right),
            "{call:?} gave {answer:?} instead of {right:?}"
        );
        clocks.remember(*call, state, view);
    }
    seen.readings += u64::from(state.live.is_ok());
    seen.refusals += u64::from(state.live.is_err());
}
