//! The whole reader on a page of arbitrary bytes, held against what the specification's formulas say
//! of those bytes in integers without limits (`exact`).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use num_bigint::BigInt;
use vmclock::counter::{Counter, CpuCounter};
use vmclock::seqlock::{SharedWords, WORDS};
use vmclock::snapshot::{Abi, RawFields};
use vmclock::{Error, Options, Reading, Timescale, VmClock};

use crate::exact::{self, View, big};

pub(crate) const PAGE_BYTES: usize = 0x70;
/// Six bytes of options, the page, the counter.
pub(crate) const HEADER_BYTES: usize = 6 + PAGE_BYTES + 8;
/// How many loads of the reader's come before each of an update's three steps, which byte of the page it
/// changes and to what, and where it puts the counter.
pub(crate) const UPDATE_BYTES: usize = 5 + 8;

const VERSION_CHANGED: &str = "ERR_VMCLOCK_BAD_VERSION";

type Bytes = [u8; PAGE_BYTES];

fn take<const N: usize>(bytes: &Bytes, at: usize) -> [u8; N] {
    std::array::from_fn(|byte| bytes[at + byte])
}

/// The fields where the specification's table puts them, not where the core looks.
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

struct Update {
    /// Loads of the reader's until the odd number, from there to the change, and to the even number.
    loads_left: [u8; 3],
    page: Bytes,
    counter: u64,
}

/// The machine: a writer that moves on between any two loads of the reader's.
struct Machine {
    seq: Cell<u32>,
    page: Cell<Bytes>,
    counter: Cell<u64>,
    updates: RefCell<VecDeque<Update>>,
}

impl Machine {
    fn load<T>(&self, value: impl FnOnce() -> T) -> T {
        self.move_on();
        value()
    }

    fn move_on(&self) {
        let mut updates = self.updates.borrow_mut();
        let Some(next) = updates.front_mut() else {
            return;
        };
        let Some(step) = next.loads_left.iter().position(|left| *left > 0) else {
            // The even number was stored with the last load.
            updates.pop_front();
            return;
        };
        next.loads_left[step] -= 1;
        if next.loads_left[step] > 0 {
            return;
        }
        if step == 1 {
            self.page.set(next.page);
            self.counter.set(next.counter);
        } else {
            self.seq.set(self.seq.get().wrapping_add(1));
        }
    }

    fn end_updates(&self) {
        while !self.updates.borrow().is_empty() {
            self.move_on();
        }
    }
}

struct Memory(Rc<Machine>);

impl SharedWords for Memory {
    fn load_seq(&self) -> u32 {
        self.0.load(|| self.0.seq.get())
    }

    fn load_head(&self) -> u32 {
        self.0
            .load(|| u32::from_le_bytes(take(&self.0.page.get(), 8)))
    }

    fn load_words(&self) -> [u64; WORDS] {
        std::array::from_fn(|word| {
            self.0
                .load(|| u64::from_le_bytes(take(&self.0.page.get(), 0x10 + 8 * word)))
        })
    }

    fn fence_acquire(&self) {}
}

struct MachineCounter(Rc<Machine>);

impl Counter for MachineCounter {
    fn id(&self) -> u8 {
        CpuCounter.id()
    }

    fn read(&self) -> u64 {
        self.0.load(|| self.0.counter.get())
    }
}

/// A reading or the codes of the refusals that would be right.
fn expected(
    view: &View,
    bytes: &Bytes,
    counter: u64,
    live: bool,
) -> Result<Reading, Vec<&'static str>> {
    let page = fields(bytes);
    if page.version != 1 {
        return Err(vec![VERSION_CHANGED]);
    }
    let refusals = view.refusals(&page);
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let d = exact::distance(counter, page.counter_value);
    let (period, shift) = (page.counter_period_frac_sec, page.counter_period_shift);
    if live && exact::is_more_than_a_second_behind(&d, period, shift) {
        return Err(vec!["ERR_VMCLOCK_COUNTER_MISMATCH"]);
    }
    let meaning = view.meaning(&page, counter);
    let label = &meaning.label;
    let Ok(epoch_ns) = i64::try_from(label.epoch_ns.clone()) else {
        return Err(vec!["ERR_VMCLOCK_OUT_OF_RANGE"]);
    };
    let below = &label.epoch_ns - &label.earliest_ns;
    let above = &label.latest_ns - &label.epoch_ns;
    let widest = exact::saturated(below.max(above));
    let in_64_bits =
        |ns: &BigInt| i64::try_from(ns.clone().clamp(big(i64::MIN), big(i64::MAX))).unwrap();
    let stated = meaning.bound_ns.is_some();
    Ok(Reading {
        epoch_ns,
        max_error_ns: stated.then(|| u64::try_from(widest).unwrap()),
        est_error_ns: meaning.est_error_ns.map(|ns| u64::try_from(ns).unwrap()),
        earliest_ns: stated.then(|| in_64_bits(&label.earliest_ns)),
        latest_ns: stated.then(|| in_64_bits(&label.latest_ns)),
        counter,
        disruption_marker: page.disruption_marker,
        vm_generation: meaning.vm_generation,
        status: page.clock_status.into(),
        leap_second: meaning.leap_second,
        timescale: view.timescale,
        tai_minus_utc_sec: meaning
            .tai_minus_utc_sec
            .map(|sec| i16::try_from(sec).unwrap()),
    })
}

fn agrees(result: &Result<Reading, Error>, expected: &Result<Reading, Vec<&'static str>>) -> bool {
    match (result, expected) {
        (Ok(reading), Ok(expected)) => reading == expected,
        (Err(error), Err(codes)) => codes.contains(&error.code()),
        _ => false,
    }
}

/// What a run of [`check`] came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) readings: u64,
    pub(crate) refusals: u64,
    /// Reads that ended in the state after an update that began within them.
    pub(crate) overtaken: u64,
}

/// Opens a page of `bytes`, and reads it through the updates that follow in them. Panics where the
/// reader says anything that the model does not.
pub(crate) fn check(bytes: &[u8], seen: &mut Seen) {
    let Some((header, updates)) = bytes.split_at_checked(HEADER_BYTES) else {
        return;
    };
    let mut page: Bytes = header[6..6 + PAGE_BYTES].try_into().unwrap();
    let mut counter = u64::from_le_bytes(header[6 + PAGE_BYTES..].try_into().unwrap());
    let view = View {
        size_bytes: if header[0] & 1 == 0 {
            0x1000
        } else {
            0x20 + u32::from(header[0]) % 0x51
        },
        abi: if header[1] & 3 == 0 {
            Abi::RfcV4
        } else {
            Abi::Uapi
        },
        timescale: Timescale::ALL[usize::from(header[2]) % Timescale::ALL.len()],
        assumed_drift_ppb: (header[3] & 1 == 1).then_some(u32::from(header[4]) * 1000),
        refuse_free_running: header[5] & 1 == 1,
        counter_id: CpuCounter.id(),
    };
    let machine = Rc::new(Machine {
        seq: Cell::new(0),
        page: Cell::new(page),
        counter: Cell::new(counter),
        updates: RefCell::default(),
    });
    let options = Options {
        timescale: view.timescale,
        abi: view.abi,
        assumed_drift_ppb: view.assumed_drift_ppb,
        refuse_free_running: view.refuse_free_running,
        ..Options::default()
    };
    #[expect(clippy::arc_with_non_send_sync, reason = "the clock asks for an Arc")]
    let memory = Arc::new(Memory(Rc::clone(&machine)));
    let mut clock = VmClock::new(
        memory,
        view.size_bytes,
        MachineCounter(Rc::clone(&machine)),
        options,
    );
    let still = |clock: &mut VmClock<_, _>, page: &Bytes, counter: u64, seen: &mut Seen| {
        let live = expected(&view, page, counter, true);
        // Twice: the second by what the first left behind.
        for _ in 0..2 {
            let read = clock.read();
            assert!(agrees(&read, &live), "{read:?} instead of {live:?}");
            let now = clock.now_ns().map_err(|error| error.code());
            let read = read.map(|reading| reading.epoch_ns);
            assert_eq!(now, read.map_err(|error| error.code()));
        }
        seen.readings += u64::from(live.is_ok());
        seen.refusals += u64::from(live.is_err());
        let raw = fields(page);
        if raw.version != 1 {
            // Its other fields may mean anything.
            let code = clock.snapshot().map_err(|error| error.code()).unwrap_err();
            assert_eq!(code, VERSION_CHANGED);
            let code = clock.continuity().map_err(|error| error.code());
            assert_eq!(code, Err(VERSION_CHANGED));
            return;
        }
        assert_eq!(clock.snapshot().unwrap().raw, raw);
        let token = clock.continuity().unwrap();
        let converted = clock.convert(counter, &token);
        let meant = expected(&view, page, counter, false);
        assert!(
            agrees(&converted, &meant),
            "{converted:?} instead of {meant:?}"
        );
    };
    still(&mut clock, &page, counter, seen);
    // Two at a time: the first sends the reader to the page again, and the second may meet it there.
    let updates: Vec<_> = updates.chunks_exact(UPDATE_BYTES).take(8).collect();
    for pair in updates.chunks(2) {
        let mut right = vec![expected(&view, &page, counter, true)];
        for update in pair {
            page[usize::from(update[3]) % PAGE_BYTES] = update[4];
            counter = u64::from_le_bytes(update[5..].try_into().unwrap());
            right.push(expected(&view, &page, counter, true));
            machine.updates.borrow_mut().push_back(Update {
                loads_left: [1 + update[0] % 20, 1 + update[1] % 12, 1 + update[2] % 12],
                page,
                counter,
            });
        }
        let read = clock.read();
        let state = right.iter().rposition(|state| agrees(&read, state));
        assert!(state.is_some(), "TORN: {read:?} is none of {right:?}");
        seen.overtaken += u64::from(state > Some(0));
        machine.end_updates();
        still(&mut clock, &page, counter, seen);
    }
}
