//! A simulated machine whose true time is known.
//!
//! It has a counter that drifts and wanders, a kernel clock on top of it that a daemon disciplines, leap
//! seconds, and a page in memory.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use vmclock::Error;
use vmclock::counter::Counter;
use vmclock::extension::{DeviceRecord, DeviceState, Extension};
use vmclock::publish::DisruptionSource;
use vmclock::seqlock::{self, EXTENSION_WORDS, SharedWords, SharedWordsMut, WORDS};
use vmclock::snapshot::RawFields;
use vmclock::source::kernel::clock::{Bracket, SystemClock};
use vmclock::source::kernel::discipline::{Discipline, LeapState};

/// One nanosecond or one tick, in the simulation's fixed point with 32 fractional bits.
pub const ONE: i128 = 1 << 32;
const PPB: i128 = 1_000_000_000;
const NS_PER_SEC: i128 = 1_000_000_000;
pub const NOMINAL_HZ: i128 = 2_900_000_000;
/// How late the vDSO's CLOCK_REALTIME applies a leap second.
const TICK_NS: i128 = 4_000_000;

/// A random generator (xorshift64*) that gives the same sequence for the same seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number from `from` to `to`, both included.
    pub fn range(&mut self, from: i64, to: i64) -> i64 {
        let span = to.abs_diff(from) + 1;
        from + i64::try_from(self.next_u64() % span).unwrap()
    }

    pub fn chance(&mut self, one_in: u64) -> bool {
        self.next_u64().is_multiple_of(one_in)
    }
}

/// A leap second at the end of the day.
#[derive(Clone, Copy, Debug)]
pub struct Leap {
    pub inserted: bool,
    /// The first second of UTC after it, since 1970.
    pub edge_sec: i128,
}

/// How an oscillator's frequency moves, second by second, between two limits.
#[derive(Clone, Copy, Debug)]
pub enum Course {
    /// It stays at a limit.
    Edge { high: bool },
    /// It follows the temperature of the room, up and down.
    Sine { period_sec: i64 },
    /// It walks by at most this much each second.
    Walk { step_ppb: i64 },
    /// It jumps from limit to limit, in one second of so many.
    Flips { one_in: u64 },
}

/// How an oscillator's frequency changes.
#[derive(Clone, Copy, Debug)]
pub struct Wander {
    pub low_ppb: i64,
    pub high_ppb: i64,
    pub course: Course,
}

impl Wander {
    fn next_ppb(&self, now_ppb: i64, truth_sec: i128, random: &mut Random) -> i64 {
        let span_ppb = self.high_ppb - self.low_ppb;
        let next_ppb = match self.course {
            Course::Edge { high: true } => self.high_ppb,
            Course::Edge { high: false } => self.low_ppb,
            Course::Sine { period_sec } => {
                let phase = truth_sec.rem_euclid(period_sec.into()) as f64 / period_sec as f64;
                let share = (1.0 + (phase * std::f64::consts::TAU).sin()) / 2.0;
                self.low_ppb + (share * span_ppb as f64) as i64
            }
            Course::Walk { step_ppb } => now_ppb + random.range(-step_ppb, step_ppb),
            Course::Flips { one_in } => match random.chance(one_in) {
                true if now_ppb == self.low_ppb => self.high_ppb,
                true => self.low_ppb,
                false => now_ppb,
            },
        };
        next_ppb.clamp(self.low_ppb, self.high_ppb)
    }
}

#[derive(Clone, Debug)]
pub struct State {
    pub random: Random,
    /// The true time, TAI since 1970.
    truth: i128,
    ticks: i128,
    /// CLOCK_REALTIME - true UTC.
    error: i128,
    monotonic: i128,
    pub suspended_ns: i128,
    /// One in so many clock reads is interrupted.
    pub interrupted_one_in: u64,
    /// The longest interruption.
    pub interrupted_ns: i64,
    /// How much faster than nominal the oscillator runs.
    pub oscillator_ppb: i64,
    /// How its frequency changes by itself, if it does.
    pub wander: Option<Wander>,
    pub discipline: Discipline,
    /// The age of the kernel's present second.
    second_age_ns: i128,
    /// The slew in it: the phase-locked loop's share, and that of an `adjtime`.
    loop_share_ns: i128,
    shot_share_ns: i128,
    /// TAI − UTC before the leap second.
    pub tai_minus_utc_sec: i128,
    pub leap: Option<Leap>,
    pub announced: bool,
}

/// The machine. Reading a clock takes time on it.
#[derive(Debug)]
pub struct Machine {
    pub state: RefCell<State>,
    /// The true time at the last counter read, in units of 1 / [`ONE`] ns.
    read_at: Cell<i128>,
    /// The device that reports disruptions. A new machine has none.
    pub device: Cell<DeviceRecord>,
    pub boot_id: Cell<u128>,
}

impl State {
    pub fn advance(&mut self, ns: i128) {
        let mut left_ns = ns;
        while left_ns > 0 {
            let ns = left_ns.min(NS_PER_SEC - self.second_age_ns);
            self.advance_within_second(ns);
            left_ns -= ns;
        }
    }

    fn advance_within_second(&mut self, ns: i128) {
        let d = ns * ONE;
        self.truth += d;
        let oscillator = i128::from(self.oscillator_ppb);
        self.ticks += d * NOMINAL_HZ / NS_PER_SEC * (PPB + oscillator) / PPB;
        let tick_ppb = i128::from(self.discipline.tick_us - 10_000) * 100_000;
        let frequency_ppb = i128::from(self.discipline.frequency_scaled_ppm) * 1000 / 65_536;
        // `begin_second` took this second's share off what is to be slewed.
        let slewed = (self.loop_share_ns + self.shot_share_ns) * ns * ONE / NS_PER_SEC;
        let gained = d * (oscillator + tick_ppb + frequency_ppb) / PPB + slewed;
        self.error += gained;
        self.monotonic += d + gained;
        self.second_age_ns += ns;
        if self.second_age_ns == NS_PER_SEC {
            self.second_age_ns = 0;
            self.begin_second();
        }
    }

    /// Starts a second as the kernel does (`second_overflow`).
    fn begin_second(&mut self) {
        let grown = self.discipline.maxerror_us + 500;
        self.discipline.maxerror_us = grown.min(16_000_000);
        let loop_shift = self.discipline.loop_shift;
        let offset_ns = &mut self.discipline.offset_ns;
        let share_ns = *offset_ns / (1 << loop_shift);
        *offset_ns -= share_ns;
        self.loop_share_ns = share_ns.into();
        let single_shot_ns = &mut self.discipline.single_shot_ns;
        let share_ns = (*single_shot_ns).clamp(-500_000, 500_000);
        *single_shot_ns -= share_ns;
        self.shot_share_ns = share_ns.into();
        if let Some(wander) = self.wander {
            let truth_sec = self.truth / ONE / NS_PER_SEC;
            self.oscillator_ppb = wander.next_ppb(self.oscillator_ppb, truth_sec, &mut self.random);
        }
    }

    /// The clock's error at the end of the present second's slew.
    pub fn settled_error_ns(&self) -> i64 {
        let left_ns = NS_PER_SEC - self.second_age_ns;
        let share_ns = (self.loop_share_ns + self.shot_share_ns) * left_ns / NS_PER_SEC;
        self.error_ns() + i64::try_from(share_ns).unwrap()
    }

    /// A daemon update: the daemon measured the clock's error to within `uncertainty_us`. Returns the
    /// correction that it wants.
    pub fn synchronize(&mut self, uncertainty_us: i64) -> i64 {
        let noise_ns = self.random.range(-uncertainty_us, uncertainty_us) * 1000;
        let measured_ns = self.error_ns() + noise_ns;
        self.discipline.unsynchronized = false;
        // This cancels the slew that it wanted before; the caller sets the next one.
        self.discipline.offset_ns = 0;
        self.discipline.single_shot_ns = 0;
        // The error now. The kernel adds the later drift.
        self.discipline.maxerror_us = uncertainty_us.unsigned_abs();
        self.discipline.esterror_us = uncertainty_us.unsigned_abs() / 2;
        -measured_ns
    }

    pub fn set_frequency_ppb(&mut self, ppb: i64) {
        self.discipline.frequency_scaled_ppm = ppb * 65_536 / 1000;
    }

    /// Steps the clock, as `settimeofday` or ADJ_SETOFFSET does: the kernel forgets its error figures.
    pub fn step(&mut self, ns: i64) {
        self.error += i128::from(ns) * ONE;
        self.discipline.unsynchronized = true;
        self.discipline.maxerror_us = 16_000_000;
        self.discipline.offset_ns = 0;
        self.discipline.single_shot_ns = 0;
        self.loop_share_ns = 0;
        self.shot_share_ns = 0;
    }

    /// Suspends the machine. Its battery clock sets CLOCK_REALTIME afterwards, and is off by `error_ns`
    /// more.
    pub fn suspend(&mut self, ns: i128, error_ns: i128) {
        self.truth += ns * ONE;
        self.suspended_ns += ns;
        self.error += error_ns * ONE;
    }

    pub fn move_counter(&mut self, ticks: i128) {
        self.ticks += ticks * ONE;
    }

    /// Pauses the machine for `paused_ns` and moves its counter by `ticks`. The kernel's clocks follow the
    /// counter, except backwards.
    pub fn carry_on(&mut self, paused_ns: i128, ticks: i128) {
        self.truth += paused_ns * ONE;
        self.ticks += ticks * ONE;
        let seen_ns = ticks.max(0) * NS_PER_SEC / NOMINAL_HZ;
        self.error += (seen_ns - paused_ns) * ONE;
        self.monotonic += seen_ns * ONE;
    }

    /// The true time in units of 1 / [`ONE`] ns.
    pub fn truth_tai_fine(&self) -> i128 {
        self.truth
    }

    /// Sets the true time and changes nothing else.
    pub fn set_truth_tai_fine(&mut self, truth: i128) {
        self.truth = truth;
    }

    pub fn error_ns(&self) -> i64 {
        i64::try_from(self.error / ONE).unwrap()
    }

    pub fn truth_tai_ns(&self) -> i128 {
        self.truth.div_euclid(ONE)
    }

    pub fn counter(&self) -> u64 {
        self.ticks.div_euclid(ONE) as u64
    }

    /// Returns whether the leap second had begun (or was deleted) `late_ns` ago.
    fn leapt(&self, late_ns: i128) -> bool {
        self.announced
            && self.leap.is_some_and(|leap| {
                let begins_sec = leap.edge_sec - i128::from(!leap.inserted);
                self.truth_tai_ns() + self.error / ONE - late_ns
                    >= (begins_sec + self.tai_minus_utc_sec) * NS_PER_SEC
            })
    }

    fn offset_sec(&self, late_ns: i128) -> i128 {
        match self.leap {
            Some(leap) if self.leapt(late_ns) => {
                self.tai_minus_utc_sec + if leap.inserted { 1 } else { -1 }
            }
            _ => self.tai_minus_utc_sec,
        }
    }

    /// TAI − UTC of the kernel's clock.
    pub fn clock_offset_sec(&self) -> i128 {
        self.offset_sec(0)
    }

    fn leap_state(&self) -> LeapState {
        let Some(leap) = self.leap.filter(|_| self.announced) else {
            return LeapState::None;
        };
        let leapt = self.leapt(0);
        match (leap.inserted, leapt) {
            (true, false) => LeapState::Insert,
            (false, false) => LeapState::Delete,
            (true, true) if self.leapt(NS_PER_SEC) => LeapState::Inserted,
            (true, true) => LeapState::Inserting,
            (false, true) => LeapState::Deleted,
        }
    }

    fn realtime_ns(&self) -> i128 {
        (self.truth + self.error).div_euclid(ONE) - self.offset_sec(TICK_NS) * NS_PER_SEC
    }
}

impl Machine {
    /// A machine at a second of true UTC.
    pub fn new(seed: u64, utc_sec: i128) -> Self {
        let mut random = Random::new(seed);
        let oscillator_ppb = random.range(-50_000, 50_000);
        let ticks = i128::from(random.next_u64() >> 20) * ONE;
        let second_age_ns = random.range(0, 999_999_999).into();
        Self {
            state: RefCell::new(State {
                random,
                truth: (utc_sec + 37) * NS_PER_SEC * ONE,
                ticks,
                error: 0,
                monotonic: 1000 * NS_PER_SEC * ONE,
                suspended_ns: 0,
                interrupted_one_in: 200,
                interrupted_ns: 300_000,
                oscillator_ppb,
                wander: None,
                discipline: Discipline {
                    unsynchronized: true,
                    maxerror_us: 16_000_000,
                    esterror_us: 16_000_000,
                    tick_us: 10_000,
                    loop_shift: 2,
                    ..Discipline::default()
                },
                second_age_ns,
                loop_share_ns: 0,
                shot_share_ns: 0,
                tai_minus_utc_sec: 37,
                leap: None,
                announced: false,
            }),
            read_at: Cell::new(0),
            device: Cell::default(),
            boot_id: Cell::new(1),
        }
    }

    /// A machine restored from a saved state.
    pub fn restored(state: State) -> Self {
        Self {
            state: RefCell::new(state),
            read_at: Cell::new(0),
            device: Cell::default(),
            boot_id: Cell::new(1),
        }
    }

    pub fn advance(&self, ns: i128) {
        self.state.borrow_mut().advance(ns);
    }

    fn pass(&self) {
        let mut state = self.state.borrow_mut();
        let mut ns = state.random.range(10, 60);
        let one_in = state.interrupted_one_in;
        if state.random.chance(one_in) {
            // This thread was interrupted.
            let most_ns = state.interrupted_ns;
            ns += state.random.range(0, most_ns);
        }
        state.advance(ns.into());
    }

    /// True TAI when the counter was last read.
    pub fn truth_tai_ns_at_read(&self) -> i128 {
        self.read_at.get().div_euclid(ONE)
    }

    /// The same in units of 1 / [`ONE`] ns.
    pub fn truth_tai_fine_at_read(&self) -> i128 {
        self.read_at.get()
    }
}

impl Counter for &Machine {
    fn id(&self) -> u8 {
        1
    }

    fn read(&self) -> u64 {
        self.pass();
        let state = self.state.borrow();
        self.read_at.set(state.truth);
        state.counter()
    }
}

impl SystemClock for &Machine {
    fn bracket(&self, counter: &impl Counter) -> Bracket {
        let before = counter.read();
        self.pass();
        let realtime_ns = self.state.borrow().realtime_ns();
        let after = counter.read();
        self.pass();
        let monotonic_ns = self.state.borrow().monotonic.div_euclid(ONE);
        let last = counter.read();
        Bracket {
            counter: before,
            width_ticks: after.wrapping_sub(before),
            realtime_ns,
            monotonic_ns,
            span_ticks: last.wrapping_sub(before),
        }
    }

    fn discipline(&self) -> Result<Discipline, Error> {
        self.pass();
        let state = self.state.borrow();
        let mut discipline = state.discipline;
        if discipline.tai_minus_utc_sec != 0 {
            discipline.tai_minus_utc_sec = i32::try_from(state.offset_sec(0)).unwrap();
        }
        discipline.leap = state.leap_state();
        Ok(discipline)
    }

    fn suspended_ns(&self) -> i128 {
        self.state.borrow().suspended_ns
    }
}

impl Machine {
    /// Gives the machine a device, without a generation counter.
    pub fn plug_in(&self) {
        self.device.set(DeviceRecord::Seen(DeviceState {
            number: 0xa7d,
            disruption_marker: 7,
            vm_generation: None,
        }));
    }

    /// Migrates the machine: its device's marker changes, its kernel did not run for a while, and its counter
    /// differs by so many ticks from before.
    pub fn migrate(&self, paused_ns: i128, ticks: i128) {
        self.state.borrow_mut().carry_on(paused_ns, ticks);
        self.change_device(|state| {
            state.disruption_marker = state.disruption_marker.wrapping_add(1);
        });
    }

    /// Changes the state of the machine's device.
    pub fn change_device(&self, change: impl FnOnce(&mut DeviceState)) {
        let DeviceRecord::Seen(mut state) = self.device.get() else {
            panic!("this machine has no device");
        };
        change(&mut state);
        self.device.set(DeviceRecord::Seen(state));
    }
}

impl DisruptionSource for &Machine {
    fn look(&mut self) -> DeviceRecord {
        self.device.get()
    }

    fn boot_id(&self) -> u128 {
        self.boot_id.get()
    }
}

/// A page in plain memory.
#[derive(Debug, Default)]
pub struct Memory {
    seq: AtomicU32,
    head: AtomicU32,
    words: [AtomicU64; WORDS],
    extension: [AtomicU64; EXTENSION_WORDS],
}

impl Memory {
    /// Shows fields and extension, in one update.
    pub fn show(&self, fields: &RawFields, extension: &Extension) {
        let (head, words) = fields.to_words();
        seqlock::write_extended(self, head, &words, |seq| extension.to_words(seq));
    }

    /// Returns the fields and the extension that it shows.
    pub fn shown(&self) -> (RawFields, Option<Extension>) {
        let fields = RawFields::from_words(self.load_head(), &self.load_words());
        let extension = self.load_extension();
        let extension = extension.and_then(|words| Extension::from_words(&words, self.load_seq()));
        (fields, extension)
    }
}

impl SharedWords for Memory {
    fn load_seq(&self) -> u32 {
        self.seq.load(Ordering::Relaxed)
    }

    fn load_head(&self) -> u32 {
        self.head.load(Ordering::Relaxed)
    }

    fn load_words(&self) -> [u64; WORDS] {
        std::array::from_fn(|word| self.words[word].load(Ordering::Relaxed))
    }

    fn load_extension(&self) -> Option<[u64; EXTENSION_WORDS]> {
        Some(std::array::from_fn(|word| {
            self.extension[word].load(Ordering::Relaxed)
        }))
    }

    fn fence_acquire(&self) {
        fence(Ordering::Acquire);
    }
}

impl SharedWordsMut for Memory {
    fn store_seq(&self, seq: u32) {
        self.seq.store(seq, Ordering::Relaxed);
    }

    fn store_head(&self, head: u32) {
        self.head.store(head, Ordering::Relaxed);
    }

    fn store_words(&self, words: &[u64; WORDS]) {
        for (at, word) in self.words.iter().zip(words) {
            at.store(*word, Ordering::Relaxed);
        }
    }

    fn store_extension(&self, words: &[u64; EXTENSION_WORDS]) {
        for (at, word) in self.extension.iter().zip(words) {
            at.store(*word, Ordering::Relaxed);
        }
    }

    fn fence_release(&self) {
        fence(Ordering::Release);
    }
}
