//! A page of arbitrary bytes, found and taken over by a publisher.
//!
//! What a publisher left behind, changed by the input bit by bit, is given to two machines that are the
//! same in all: on one of them it is taken over, on the other nothing is. Both then see the same, so that
//! whatever their pages differ in came out of the bytes; and of that, the model knows what may.

use num_bigint::BigInt;
use num_integer::Integer;
use vmclock::Maintenance;
use vmclock::extension::Extension;
use vmclock::publish::{Cause, Generation, OldPage, Publication, PublishOptions, Shape};
use vmclock::snapshot::RawFields;
use vmclock::source::kernel::KernelSource;

use super::{Bytes, PAGE_BYTES, Seen, fields, take};
use crate::exact::{self, big};
use crate::virtual_machine::Machine;

mod file;

/// The choices, what happens before the takeover and after it; the rest is what changes the page.
pub const TAKEOVER_BYTES: usize = 8 + 26 + 2 * OPERATIONS;
const OPERATIONS: usize = 6;

const NS_PER_SEC: i128 = 1_000_000_000;
const TICKS_PER_SEC: i128 = 2_900_000_000;
const COUNTER_ID: u8 = 1;
/// How often a publication is brought up to date before it must have a period.
const FIRST_STEPS: usize = 8;

const FREE_RUNNING: u8 = 3;
const SYNCHRONIZED: u8 = 2;

type Twin<'machine> =
    Publication<KernelSource<&'machine Machine>, &'machine Machine, &'machine Machine>;

struct Input<'bytes> {
    choices: [u8; 8],
    gap_ms: u16,
    pause_sec: u32,
    ticks: i64,
    step_ns: i64,
    utc_sec: u32,
    operations: &'bytes [u8],
    /// Bits of the page to turn over, and of what follows it in its file.
    mask: &'bytes [u8],
}

impl<'bytes> Input<'bytes> {
    fn new(bytes: &'bytes [u8]) -> Option<Self> {
        let (choices, rest) = bytes.split_first_chunk()?;
        let (gap_ms, rest) = rest.split_first_chunk()?;
        let (pause_sec, rest) = rest.split_first_chunk()?;
        let (ticks, rest) = rest.split_first_chunk()?;
        let (step_ns, rest) = rest.split_first_chunk()?;
        let (utc_sec, rest) = rest.split_first_chunk()?;
        let (operations, mask) = rest.split_at_checked(2 * OPERATIONS)?;
        Some(Self {
            choices: *choices,
            gap_ms: u16::from_le_bytes(*gap_ms),
            // Five weeks, and five minutes at a time.
            pause_sec: u32::from_le_bytes(*pause_sec) % 10_000 * 300,
            ticks: i64::from_le_bytes(*ticks) >> 2,
            step_ns: i64::from_le_bytes(*step_ns) >> 2,
            utc_sec: u32::from_le_bytes(*utc_sec),
            operations,
            mask,
        })
    }

    fn chooses(&self, byte: usize, bit: u8) -> bool {
        self.choices[byte] >> bit & 1 == 1
    }

    fn options(&self) -> PublishOptions {
        let stated_ns = u64::from(self.choices[2]) << (self.choices[3] % 57);
        let shape = match self.choices[0] & 0x0f {
            0x0e => Shape::MarkerAndGeneration,
            0x0f => Shape::Marker,
            _ => Shape::Time,
        };
        PublishOptions {
            shape,
            generation: match shape {
                Shape::Time if self.choices[0] & 0x30 == 0x30 => Generation::Never,
                Shape::Time => Generation::Always,
                _ => Generation::Auto,
            },
            max_error_ns: self.chooses(1, 0).then_some(stated_ns),
            tai_minus_utc_sec: self.chooses(1, 1).then_some(37),
            ..PublishOptions::default()
        }
    }

    /// The machine at the moment that its publisher begins.
    fn machine(&self) -> Machine {
        let utc_sec = i128::from(self.utc_sec);
        let utc_sec = if self.chooses(1, 2) {
            // So that what is left of a month, or over of it, is little.
            let (_, end_sec) = exact::month_around(&big(utc_sec));
            i128::try_from(end_sec).unwrap() - i128::from(self.choices[4])
        } else {
            utc_sec
        };
        let machine = Machine::new(self.choices[5].into(), utc_sec);
        let mut state = machine.state.borrow_mut();
        if self.chooses(1, 3) {
            state.interrupted_one_in = 4;
        }
        if self.chooses(1, 4) {
            state.discipline.tai_minus_utc_sec = 37;
        }
        if !self.chooses(1, 5) {
            state.synchronize(1 + i64::from(self.choices[6]));
        }
        drop(state);
        machine
    }

    /// What happens between the two publishers: nothing but time, or what a page must not survive.
    fn pass(&self, machine: &Machine) {
        machine.advance(i128::from(self.gap_ms) * 1_000_000);
        let mut state = machine.state.borrow_mut();
        let pause_sec = i128::from(self.pause_sec);
        // Time in which nobody counts up `maxerror`, but all else goes on.
        state.carry_on(pause_sec * NS_PER_SEC, pause_sec * TICKS_PER_SEC);
        state.move_counter(self.ticks.into());
        if self.step_ns != 0 {
            let (known, step_ns) = (state.discipline, self.step_ns);
            state.step(step_ns);
            if self.chooses(1, 6) {
                state.discipline = known;
            }
        }
        if self.chooses(1, 7) {
            state.suspend(NS_PER_SEC, 0);
        }
        if self.chooses(0, 6) {
            state.synchronize(1 + i64::from(self.choices[7]));
        }
    }

    /// The page that was found: the one that was left, with the mask's bits turned over.
    fn found(&self, left: &RawFields) -> Vec<u8> {
        let mut file = encoded(left).to_vec();
        file.resize(PAGE_BYTES.max(self.mask.len()), 0);
        for (byte, mask) in file.iter_mut().zip(self.mask) {
            *byte ^= mask;
        }
        file
    }
}

/// The fields where the specification's table puts them.
fn encoded(fields: &RawFields) -> Bytes {
    let mut page: Bytes = [0; PAGE_BYTES];
    let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x00, b"VCLK");
    put(0x04, &0x70_u32.to_le_bytes());
    put(0x08, &fields.version.to_le_bytes());
    put(0x0a, &[fields.counter_id, fields.time_type]);
    put(0x22, &[fields.clock_status]);
    put(0x23, &[fields.leap_second_smearing_hint]);
    put(0x24, &fields.tai_offset_sec.to_le_bytes());
    put(0x26, &[fields.leap_indicator, fields.counter_period_shift]);
    for (at, value) in [
        (0x10, fields.disruption_marker),
        (0x18, fields.flags),
        (0x28, fields.counter_value),
        (0x30, fields.counter_period_frac_sec),
        (0x38, fields.counter_period_esterror_rate_frac_sec),
        (0x40, fields.counter_period_maxerror_rate_frac_sec),
        (0x48, fields.time_sec),
        (0x50, fields.time_frac_sec),
        (0x58, fields.time_esterror_nanosec),
        (0x60, fields.time_maxerror_nanosec),
        (0x68, fields.vm_generation_counter),
    ] {
        put(at, &value.to_le_bytes());
    }
    page
}

/// What the promises make of a page that was found.
struct Model {
    old: RawFields,
    is_torn: bool,
    /// It has time and no bound for it, or was left in the middle of an update, so that the next page
    /// has no bound before the daemon has updated often enough.
    is_boundless: bool,
    /// A leap second that it announced.
    announced: Option<Leap>,
    happened: Option<Leap>,
}

#[derive(Clone)]
struct Leap {
    /// POST_POS or POST_NEG.
    told_as: u8,
    edge_sec: BigInt,
}

impl Model {
    fn new(page: &Bytes) -> Self {
        let old = fields(page);
        let seq = u32::from_le_bytes(take(page, 0x0c));
        let (announced, happened) = leaps(&old);
        Self {
            is_torn: seq & 1 == 1,
            is_boundless: seq & 1 == 1 || old.time_sec != 0 && !states_bound(&old),
            announced,
            happened,
            old,
        }
    }

    /// Whether the page's time, carried on by the counter, is what the page that followed it first shows.
    /// `None` within what the model cannot know of how that page's bound came about.
    fn agrees(&self, new: &RawFields) -> Option<bool> {
        let old = &self.old;
        if old.counter_period_frac_sec == 0 || old.time_sec == 0 {
            // It says nothing that could be wrong.
            return Some(true);
        }
        let ticks = exact::distance(new.counter_value, old.counter_value);
        let shift = old.counter_period_shift;
        if old.counter_id != COUNTER_ID || shift > 127 || ticks < big(0) {
            return Some(false);
        }
        let elapsed = exact::elapsed(&ticks, old.counter_period_frac_sec, shift);
        let rate = old.counter_period_maxerror_rate_frac_sec;
        let growth_ns = if old.flags & exact::PERIOD_MAXERROR_VALID == 0 {
            big(0)
        } else {
            exact::growth_ns(&ticks, rate, shift)
        };
        let apart_ns = utc_ns(old, &elapsed) - utc_ns(new, &big(0));
        let apart_ns = BigInt::from(apart_ns.magnitude().clone());
        if !states_bound(old) || !states_bound(new) {
            // 600 ppm and a millisecond.
            let elapsed_ns = exact::time_ns(0, 0, &elapsed);
            let slewed_ns: BigInt = (elapsed_ns * 600_i64).div_ceil(&big(1_000_000));
            return Some(apart_ns <= growth_ns + slewed_ns + 1_000_000);
        }
        let bound_ns = big(new.time_maxerror_nanosec);
        if bound_ns == exact::two_to(63) - 1 {
            return None;
        }
        // A part of it grew by the period's error when it was put into the page.
        let grown_ns = (&bound_ns * big(new.counter_period_maxerror_rate_frac_sec))
            .div_ceil(&big(new.counter_period_frac_sec))
            + 1;
        let most_ns = big(old.time_maxerror_nanosec) + growth_ns + bound_ns + 2;
        if apart_ns > most_ns {
            Some(false)
        } else {
            (apart_ns <= most_ns - grown_ns).then_some(true)
        }
    }

    /// The indicator of a kernel that knows of no leap second, where the publisher first looked between
    /// these two seconds. `None` where that decides.
    fn indicator(&self, looked_sec: &[BigInt; 2], new: &RawFields) -> Option<u8> {
        let mut happened = self.happened.clone();
        if let Some(announced) = &self.announced {
            let [before, after] = looked_sec;
            match (&announced.edge_sec <= before, &announced.edge_sec <= after) {
                (true, true) => happened = Some(announced.clone()),
                (false, false) => {}
                _ => return None,
            }
        }
        let now_sec = utc_ns(new, &big(0)).div_floor(&big(1_000_000_000));
        let (start_sec, _) = exact::month_around(&now_sec);
        let told = happened
            .filter(|leap| leap.edge_sec == start_sec && now_sec < &leap.edge_sec + 14 * 86_400);
        Some(told.map_or(0, |leap| leap.told_as))
    }
}

fn states_bound(page: &RawFields) -> bool {
    let both = exact::TIME_MAXERROR_VALID | exact::PERIOD_MAXERROR_VALID;
    page.flags & both == both
}

/// UTC of a page so far from its reference.
fn utc_ns(page: &RawFields, elapsed: &BigInt) -> BigInt {
    exact::time_ns(page.time_sec, page.time_frac_sec, elapsed) - shift_sec(page) * 1_000_000_000
}

fn shift_sec(page: &RawFields) -> BigInt {
    let flagged = page.flags & exact::TAI_OFFSET_VALID != 0;
    let offset_sec = exact::tai_minus_utc(page.tai_offset_sec, flagged);
    big(offset_sec.filter(|_| page.time_type == 1).unwrap_or(0))
}

/// The leap second that a page tells of: announced, or over.
fn leaps(page: &RawFields) -> (Option<Leap>, Option<Leap>) {
    const POST_POS: u8 = 4;
    const POST_NEG: u8 = 5;
    let utc_sec = big(page.time_sec) - shift_sec(page);
    let (start, end) = exact::month_around(&utc_sec);
    // Within five seconds of an edge the reference may be the one side's and the indicator the other's.
    let coming = if &utc_sec - &start < big(5) {
        &start
    } else {
        &end
    };
    let past = if &end - &utc_sec < big(5) {
        &end
    } else {
        &start
    };
    let leap = |told_as, edge_sec: &BigInt| {
        Some(Leap {
            told_as,
            edge_sec: edge_sec.clone(),
        })
    };
    match page.leap_indicator {
        1 => (leap(POST_POS, coming), None),
        2 => (leap(POST_NEG, coming), None),
        3 => (None, leap(POST_POS, coming)),
        4 => (None, leap(POST_POS, past)),
        5 => (None, leap(POST_NEG, past)),
        _ => (None, None),
    }
}

/// Leaves a page behind, changes it, and has it taken over. Panics where the page that follows is not
/// what the promises make of it.
pub fn check_takeover(bytes: &[u8], seen: &mut Seen) {
    let Some(input) = Input::new(bytes) else {
        return;
    };
    let machine = input.machine();
    let left = left_behind(&machine);
    input.pass(&machine);
    let found = input.found(&left.fields);
    let page: Bytes = take_page(&found);
    // A thread and files cost as much as a dozen of the rest. By all of the bytes, so that what comes of
    // an input is no likelier to than others.
    if bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>() % 16 == 0 {
        file::check(&found, &input.options(), seen);
    }
    let model = Model::new(&page);
    if model.old.version != 1 {
        // No page to take over: `file` holds a publisher to that.
        return;
    }
    let other = Machine::restored(machine.state.borrow().clone());
    let mut pair = Pair {
        machines: [&machine, &other],
        heir: Publication::new(
            KernelSource::new(&machine),
            &machine,
            &machine,
            input.options(),
            None,
            Some(OldPage {
                fields: model.old,
                extension: left.extension,
                is_torn: model.is_torn,
            }),
        )
        .unwrap(),
        twin: Publication::new(
            KernelSource::new(&other),
            &other,
            &other,
            input.options(),
            None,
            None,
        )
        .unwrap(),
        seed: 0,
        marker_changes: 0,
        is_stated: input.options().max_error_ns.is_some(),
        looked_sec: None,
        model,
    };
    pair.seed = pair.twin.fields().disruption_marker;
    if pair.begin(seen) {
        pair.go_on(input.operations);
    }
}

fn take_page(file: &[u8]) -> Bytes {
    std::array::from_fn(|at| file.get(at).copied().unwrap_or(0))
}

/// A publisher's last page. Its extension is the one that it had, whatever becomes of its fields.
fn left_behind(machine: &Machine) -> OldPage {
    let options = PublishOptions {
        generation: Generation::Always,
        ..PublishOptions::default()
    };
    let mut publication = Publication::new(
        KernelSource::new(machine),
        machine,
        machine,
        options,
        None,
        None,
    )
    .unwrap();
    for _ in 0..3 {
        publication.step(Cause::Interval).unwrap();
        machine.advance(20_000_000);
    }
    let fields = publication.step(Cause::Close).unwrap();
    let extension: Extension = publication.extension();
    OldPage {
        fields,
        extension: Some(extension),
        is_torn: false,
    }
}

/// One publication that took the page over, and one that took over nothing.
struct Pair<'machine> {
    machines: [&'machine Machine; 2],
    heir: Twin<'machine>,
    twin: Twin<'machine>,
    /// What the marker begins with where nothing is taken over.
    seed: u64,
    /// What the heir's marker changed by, and the twin's did not.
    marker_changes: u64,
    /// The operator answers for the bound, whatever the kernel or a page says.
    is_stated: bool,
    /// Seconds of UTC around the heir's first look at its clock.
    looked_sec: Option<[BigInt; 2]>,
    model: Model,
}

impl Pair<'_> {
    /// The first steps, until there is a period and the page is compared with the present. Returns whether
    /// it came to that.
    fn begin(&mut self, seen: &mut Seen) -> bool {
        let before_sec = self.utc_sec();
        for at in 0..FIRST_STEPS {
            if at == 0 && self.model.is_torn {
                self.marker_changes = 1;
            }
            if !self.step(Cause::Interval) {
                return false;
            }
            if at == 0 {
                self.looked_sec = Some([before_sec.clone(), self.utc_sec()]);
            }
            assert_eq!(self.heir.is_settled(), self.twin.is_settled());
            if self.heir.is_settled() {
                self.judge(seen);
                if self.is_stated && self.model.is_boundless && self.marker_changes > 0 {
                    // A disruption voids the error that the operator states.
                    return false;
                }
                self.compare();
                return true;
            }
            self.compare();
            let ns = self.heir.next_within().as_nanos();
            self.advance(ns.cast_signed());
        }
        false
    }

    /// Holds the marker against the page that was found.
    fn judge(&mut self, seen: &mut Seen) {
        let new = self.heir.fields();
        let changed = new.disruption_marker.wrapping_sub(self.marker());
        let agrees = if has_time(new) && !self.model.is_torn {
            // By its twin's bound: the heir withdraws its own where the page disagrees.
            self.model.agrees(self.twin.fields())
        } else {
            Some(true)
        };
        let old = &self.model.old;
        match agrees {
            Some(true) => assert_eq!(changed, 0, "of {old:?}, which agrees with {new:?}"),
            Some(false) => assert_eq!(changed, 1, "of {old:?}, which disagrees with {new:?}"),
            None => assert!(changed <= 1),
        }
        self.marker_changes += changed;
        self.model.is_boundless |= changed == 1;
        seen.readings += u64::from(changed == 0);
        seen.refusals += u64::from(changed == 1);
    }

    /// The marker that the heir must have.
    fn marker(&self) -> u64 {
        let by_twin = self.twin.fields().disruption_marker.wrapping_sub(self.seed);
        let old = self.model.old.disruption_marker;
        old.wrapping_add(by_twin).wrapping_add(self.marker_changes)
    }

    /// What follows: the same for both, and more than time.
    fn go_on(&mut self, operations: &[u8]) {
        for operation in operations.chunks_exact(2) {
            let amount = i64::from(operation[1]);
            let mut cause = Cause::Interval;
            let mut is_plain = true;
            self.advance(i128::from(amount) * 4_000_000);
            match operation[0] % 16 {
                0 | 1 => {}
                2 => cause = Cause::Disrupt,
                3 => cause = Cause::BumpGeneration,
                4 => cause = Cause::Close,
                5 => cause = Cause::Maintenance(Maintenance::Imminent),
                6 => cause = Cause::Maintenance(Maintenance::None),
                change => {
                    is_plain = false;
                    for machine in self.machines {
                        let mut state = machine.state.borrow_mut();
                        match change {
                            7 => state.carry_on(i128::from(amount) << 24, 0),
                            8 => state.step((amount - 128) << 24),
                            9 => state.move_counter(i128::from(amount - 128) << 30),
                            10 => state.suspend(i128::from(amount) << 24, 0),
                            11 => state.set_frequency_ppb((amount - 128) * 4000),
                            12 => state.discipline.tick_us = 10_000 + amount - 128,
                            13 => state.discipline.single_shot_ns = amount << 16,
                            14 => state.discipline.unsynchronized = amount & 1 == 1,
                            _ => drop(state.synchronize(1 + amount)),
                        }
                    }
                }
            }
            if !self.step(cause) || (self.model.is_boundless && !is_plain) {
                // The twin's own bound tells it more of what happened than its heir can know.
                return;
            }
            self.compare();
        }
    }

    fn advance(&self, ns: i128) {
        for machine in self.machines {
            machine.advance(ns);
        }
    }

    fn utc_sec(&self) -> BigInt {
        let state = self.machines[0].state.borrow();
        let utc_ns = state.truth_tai_ns() + i128::from(state.error_ns()) - 37 * NS_PER_SEC;
        big(utc_ns.div_euclid(NS_PER_SEC))
    }

    /// Brings both up to date. Returns whether they go on.
    fn step(&mut self, cause: Cause) -> bool {
        match (self.heir.step(cause), self.twin.step(cause)) {
            (Ok(_), Ok(_)) => true,
            (Err(heir), Err(twin)) => {
                assert_eq!(heir.code(), twin.code());
                // A time before 1970, or a generation where there is none.
                let codes = ["ERR_VMCLOCK_OUT_OF_RANGE", "ERR_VMCLOCK_INVALID_ARGUMENT"];
                assert!(codes.contains(&heir.code()), "{heir:?}");
                false
            }
            (heir, twin) => panic!("{heir:?} where nothing taken over gives {twin:?}"),
        }
    }

    /// Holds the heir's page against its twin's: they differ in what the model knows of, and nothing else.
    fn compare(&self) {
        let (heir, twin, old) = (self.heir.fields(), self.twin.fields(), &self.model.old);
        let mut right = RawFields {
            disruption_marker: self.marker(),
            ..*twin
        };
        if self.twin.has_generation() && old.flags & exact::VM_GEN_COUNTER_PRESENT != 0 {
            let by_twin = twin.vm_generation_counter;
            right.vm_generation_counter = old.vm_generation_counter.wrapping_add(by_twin);
        }
        if has_time(heir) {
            let looked_sec = self.looked_sec.as_ref();
            right.leap_indicator = looked_sec
                .and_then(|looked_sec| self.model.indicator(looked_sec, heir))
                .unwrap_or(heir.leap_indicator);
        }
        if self.model.is_boundless && !self.is_stated {
            right.flags &= !(exact::TIME_MAXERROR_VALID
                | exact::TIME_ESTERROR_VALID
                | exact::PERIOD_ESTERROR_VALID);
            right.time_maxerror_nanosec = 0;
            right.time_esterror_nanosec = 0;
            right.counter_period_esterror_rate_frac_sec = 0;
            if right.clock_status == SYNCHRONIZED {
                right.clock_status = FREE_RUNNING;
            }
            // Without a bound at its samples the heir measures the period in its own way. Both are true.
            assert_periods_agree(heir, twin);
            right.counter_period_shift = heir.counter_period_shift;
            right.counter_period_frac_sec = heir.counter_period_frac_sec;
            right.counter_period_maxerror_rate_frac_sec =
                heir.counter_period_maxerror_rate_frac_sec;
        }
        assert_eq!(*heir, right, "after {old:?}");
    }
}

/// Asserts that two pages of one machine state intervals of its counter's period that have a value in common.
fn assert_periods_agree(one: &RawFields, other: &RawFields) {
    // In 2^-191 s.
    let fine = |page: &RawFields, frac: u64| big(frac) << (127 - page.counter_period_shift);
    let [(one_period, one_error), (other_period, other_error)] = [one, other].map(|page| {
        (
            fine(page, page.counter_period_frac_sec),
            fine(page, page.counter_period_maxerror_rate_frac_sec),
        )
    });
    let apart = one_period - other_period;
    let apart = BigInt::from(apart.magnitude().clone());
    assert!(apart <= one_error + other_error, "{one:?} and {other:?}");
}

fn has_time(page: &RawFields) -> bool {
    page.counter_period_frac_sec != 0
}
