//! A later page agrees with earlier ones: the rule of nested intervals.
//!
//! UAPI.13, "Time error calculation": a page gives an interval for a counter value. Each later update then
//! gives a time within that interval for the same value, unless the disruption marker changed.
//!
//! A reader on a simulated machine keeps counters with their intervals, and converts them again for two
//! minutes. The test asserts the rule for the daemons that it is promised for, and prints a table of all.
//!
//! # Limits
//!
//! The page's time at an update is the kernel's clock, which is off by up to the reported error at that update.
//! Two honest intervals may have centres that differ by the sum of both errors. Three things make a clock
//! move so far: a rate that is wrong for a long time, steps and slews within an error that an operator states,
//! and an oscillator that uses up its allowance for wander at once.
//!
//! `VMCLOCK_NESTED_CONVERSIONS` is the number of conversions for each row of the table. The long form is
//!
//! ```text
//! VMCLOCK_NESTED_CONVERSIONS=10000000 cargo test --release -p vmclock --test nested_intervals -- --nocapture
//! ```

#![allow(
    missing_docs,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected fails"
)]

#[path = "nested_intervals/daemon.rs"]
mod daemon;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use daemon::{Daemon, Model};
use vmclock::publish::{Cause, PublishOptions};
use vmclock::{Continuity, Timescale, VmClock};
use vmclock_testkit::scene::{INTERVAL_NS, NS_PER_SEC, START_SEC, Scene};
use vmclock_testkit::virtual_machine::{Course, Machine, Memory, Random, Wander};

/// Conversions after each update of the page.
const CONVERSIONS_PER_UPDATE: u64 = 12;
/// How long each machine is simulated.
const LIFE_SEC: i128 = 1_500;
const UPDATES_PER_SEC: i128 = NS_PER_SEC / INTERVAL_NS;
const CONVERSIONS_PER_LIFE: u64 = LIFE_SEC as u64 * UPDATES_PER_SEC as u64 * CONVERSIONS_PER_UPDATE;

/// Classes of age at the conversion: from and to, in seconds.
const AGES_SEC: [(i64, i64); 4] = [(0, 1), (1, 20), (20, 60), (60, 120)];
const OLDEST_SEC: i128 = 120;
/// The rule is promised for the first three classes.
const PROMISED_AGES: usize = 3;
/// A promised row's bound grows by less than this in a second, in the median.
const MOST_GROWTH_NS: u64 = 300_000;

/// One kind of machine.
#[derive(Clone, Copy, Debug)]
struct Row {
    name: &'static str,
    model: Model,
    oscillator: Oscillator,
    /// The rule is promised for it.
    is_promised: bool,
}

/// How the counter's oscillator wanders.
#[derive(Clone, Copy, Debug)]
enum Oscillator {
    /// With the temperature: by up to 20 ppb a second at random, or by 2 ppm in half an hour.
    Calm,
    /// From edge to edge of the publisher's allowance, every 200 s on average.
    Flips,
}

const US: i64 = 1_000;
const MS: i64 = 1_000_000;

const fn chrony(network_ns: i64, poll_sec: i64, rate_noise_ppb: i64) -> Model {
    Model::Chrony {
        network_ns,
        rate_noise_ppb,
        measurements: 16,
        poll_sec,
    }
}

const fn hasty_chrony(network_ns: i64) -> Model {
    Model::Chrony {
        network_ns,
        rate_noise_ppb: 0,
        measurements: 1,
        poll_sec: 16,
    }
}

const fn promised(name: &'static str, model: Model) -> Row {
    Row {
        name,
        model,
        oscillator: Oscillator::Calm,
        is_promised: true,
    }
}

const fn not_promised(name: &'static str, model: Model) -> Row {
    Row {
        is_promised: false,
        ..promised(name, model)
    }
}

const ROWS: [Row; 14] = [
    promised("chrony 50 us, poll 16 s", chrony(50 * US, 16, 0)),
    promised("chrony 50 us, poll 64 s", chrony(50 * US, 64, 0)),
    promised("chrony 1 ms, poll 16 s", chrony(MS, 16, 0)),
    promised("chrony 1 ms, poll 64 s", chrony(MS, 64, 0)),
    promised(
        "chrony 50 us, poll 16 s, rate +-20 ppm",
        chrony(50 * US, 16, 20_000),
    ),
    promised(
        "chrony 1 ms, poll 16 s, rate +-20 ppm",
        chrony(MS, 16, 20_000),
    ),
    promised("hasty chrony 50 us", hasty_chrony(50 * US)),
    promised("kernel's loop 1 ms", Model::KernelLoop { network_ns: MS }),
    not_promised(
        "chrony 50 us, poll 64 s, rate +-20 ppm",
        chrony(50 * US, 64, 20_000),
    ),
    not_promised("hasty chrony 1 ms", hasty_chrony(MS)),
    not_promised(
        "chrony 1 ms, poll 16 s, rate +-400 ppm",
        chrony(MS, 16, 400_000),
    ),
    not_promised(
        "stated 5 ms, steps",
        Model::StatedSteps { stated_ns: 5 * MS },
    ),
    not_promised(
        "stated 5 ms, adjtimes",
        Model::StatedAdjtimes { stated_ns: 5 * MS },
    ),
    Row {
        oscillator: Oscillator::Flips,
        ..not_promised(
            "kernel's loop 50 us, oscillator flips",
            Model::KernelLoop {
                network_ns: 50 * US,
            },
        )
    },
];

/// A counter, and the interval that the page gave when it was read.
#[derive(Clone, Copy, Debug)]
struct Capture {
    counter: u64,
    truth_ns: i128,
    earliest_ns: i64,
    latest_ns: i64,
}

/// Conversions of one class of age.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    conversions: u64,
    /// Times outside the first interval.
    outside: u64,
    /// The furthest outside.
    worst_ns: i64,
}

#[derive(Clone, Debug, Default)]
struct Tally {
    by_age: [Count; AGES_SEC.len()],
    updates: u64,
    /// The bounds at updates that state one.
    at_update_ns: Vec<u64>,
    /// The same bounds a second later.
    second_later_ns: Vec<u64>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        for (into, from) in self.by_age.iter_mut().zip(other.by_age) {
            into.conversions += from.conversions;
            into.outside += from.outside;
            into.worst_ns = into.worst_ns.max(from.worst_ns);
        }
        self.updates += other.updates;
        self.at_update_ns.extend(other.at_update_ns);
        self.second_later_ns.extend(other.second_later_ns);
    }

    fn note(&mut self, age_sec: i64, excess_ns: i64) {
        let class = AGES_SEC.iter().position(|(_, to_sec)| age_sec < *to_sec);
        let Some(class) = class else { return };
        let count = &mut self.by_age[class];
        count.conversions += 1;
        if excess_ns > 0 {
            count.outside += 1;
            count.worst_ns = count.worst_ns.max(excess_ns);
        }
    }
}

fn percentile(bounds_ns: &[u64], percent: usize) -> u64 {
    let mut sorted = bounds_ns.to_vec();
    sorted.sort_unstable();
    let at = sorted.len().saturating_sub(1) * percent / 100;
    sorted.get(at).copied().unwrap_or_default()
}

struct Table<'tallies>(&'tallies [(Row, Tally)]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:38} {:>8} {:>11} {:>9} {:>9} {:>12}",
            "daemon", "age s", "conversions", "outside", "%", "worst ns"
        )?;
        for (row, tally) in self.0 {
            for ((from_sec, to_sec), count) in AGES_SEC.iter().zip(tally.by_age) {
                writeln!(
                    f,
                    "{:38} {:>8} {:>11} {:>9} {:>9.4} {:>12}",
                    row.name,
                    format!("{from_sec}-{to_sec}"),
                    count.conversions,
                    count.outside,
                    100.0 * count.outside as f64 / count.conversions.max(1) as f64,
                    count.worst_ns
                )?;
            }
        }
        writeln!(
            f,
            "{:38} {:>9} {:>11} {:>11} {:>11} {:>11}",
            "bounds in us", "stated %", "update 50%", "95%", "1 s on 50%", "95%"
        )?;
        for (row, tally) in self.0 {
            let us = |bounds_ns: &[u64], percent| percentile(bounds_ns, percent) as f64 / 1e3;
            let (now, later) = (&tally.at_update_ns, &tally.second_later_ns);
            writeln!(
                f,
                "{:38} {:>9.2} {:>11.1} {:>11.1} {:>11.1} {:>11.1}",
                row.name,
                100.0 * now.len() as f64 / tally.updates.max(1) as f64,
                us(now, 50),
                us(now, 95),
                us(later, 50),
                us(later, 95)
            )?;
        }
        Ok(())
    }
}

/// A machine with its daemon and publisher, and a reader that converts counters again.
struct Life<'machine> {
    row: Row,
    machine: &'machine Machine,
    scene: Scene<'machine>,
    clock: VmClock<Memory, &'machine Machine>,
    daemon: Daemon,
    is_stepped: bool,
    random: Random,
    token: Continuity,
    captures: VecDeque<Capture>,
    tally: Tally,
}

fn new_machine(seed: u64, oscillator: Oscillator) -> Machine {
    let machine = Machine::new(seed, START_SEC);
    let mut state = machine.state.borrow_mut();
    state.discipline.tai_minus_utc_sec = 37;
    let middle_ppb = state.oscillator_ppb;
    let (span_ppb, course) = match oscillator {
        Oscillator::Calm if seed.is_multiple_of(2) => (15_000, Course::Walk { step_ppb: 20 }),
        Oscillator::Calm => (2_000, Course::Sine { period_sec: 3_600 }),
        Oscillator::Flips => (14_998, Course::Flips { one_in: 200 }),
    };
    state.wander = Some(Wander {
        low_ppb: middle_ppb - span_ppb / 2,
        high_ppb: middle_ppb + span_ppb / 2,
        course,
    });
    let error_ns = state.random.range(-200_000, 200_000);
    state.step(error_ns);
    drop(state);
    machine
}

impl<'machine> Life<'machine> {
    fn live(row: Row, seed: u64) -> Tally {
        let machine = new_machine(seed, row.oscillator);
        let daemon = Daemon::new(row.model, seed, &mut machine.state.borrow_mut());
        let mut life = Life::new(row, &machine, daemon, seed);
        for _ in 0..LIFE_SEC * UPDATES_PER_SEC {
            life.beat();
        }
        life.tally
    }

    fn new(row: Row, machine: &'machine Machine, mut daemon: Daemon, seed: u64) -> Self {
        let mut is_stepped = false;
        // Half of the publishers begin when the daemon has been at work for a while.
        if seed % 4 >= 2 {
            let end_ns = machine.state.borrow().truth_tai_ns() + 300 * NS_PER_SEC;
            is_stepped = pass(machine, &mut daemon, end_ns);
        }
        let options = PublishOptions {
            max_error_ns: row.model.stated_ns(),
            ..PublishOptions::default()
        };
        let scene = Scene::new(machine, options);
        let mut clock = scene.reader(Timescale::Utc);
        let token = clock.continuity_token().unwrap();
        Self {
            row,
            machine,
            scene,
            clock,
            daemon,
            is_stepped,
            random: Random::new(seed ^ 0x11fe),
            token,
            captures: VecDeque::new(),
            tally: Tally::default(),
        }
    }

    /// Lets one interval of the publisher pass.
    fn beat(&mut self) {
        let end_ns = self.truth_ns() + INTERVAL_NS;
        self.capture();
        let early_ns = self.random.range(1_000_000, 240_000_000);
        self.pass(self.truth_ns() + i128::from(early_ns));
        self.capture();
        self.pass(end_ns);
        let cause = if std::mem::take(&mut self.is_stepped) {
            Cause::ClockStep
        } else {
            Cause::Interval
        };
        self.scene.step(cause);
        if !self.scene.publication.is_settled() {
            self.scene.settle();
        }
        self.note_bounds();
        self.convert_again();
    }

    fn truth_ns(&self) -> i128 {
        self.machine.state.borrow().truth_tai_ns()
    }

    fn pass(&mut self, end_ns: i128) {
        self.is_stepped |= pass(self.machine, &mut self.daemon, end_ns);
    }

    fn capture(&mut self) {
        let reading = self.clock.read().unwrap();
        let truth_ns = self.machine.truth_tai_ns_at_read();
        let Some((earliest_ns, latest_ns)) = reading.earliest_ns.zip(reading.latest_ns) else {
            return;
        };
        let utc_ns = truth_ns - 37 * NS_PER_SEC;
        assert!(
            (i128::from(earliest_ns)..=i128::from(latest_ns)).contains(&utc_ns),
            "{}: a bound that is not true: {reading:?}, truth {utc_ns}",
            self.row.name
        );
        self.captures.push_back(Capture {
            counter: reading.counter,
            truth_ns,
            earliest_ns,
            latest_ns,
        });
        while self
            .captures
            .front()
            .is_some_and(|oldest| truth_ns - oldest.truth_ns > OLDEST_SEC * NS_PER_SEC)
        {
            self.captures.pop_front();
        }
    }

    fn note_bounds(&mut self) {
        let fields = self.scene.publication.fields();
        self.tally.updates += 1;
        if fields.flags & vmclock::abi::VMCLOCK_FLAG_TIME_MAXERROR_VALID == 0 {
            return;
        }
        let at_update_ns = fields.time_maxerror_nanosec;
        let rate = u128::from(fields.counter_period_maxerror_rate_frac_sec) * 1_000_000_000;
        let growth_ns = rate / u128::from(fields.counter_period_frac_sec);
        self.tally.at_update_ns.push(at_update_ns);
        self.tally
            .second_later_ns
            .push(at_update_ns + u64::try_from(growth_ns).unwrap());
    }

    fn convert_again(&mut self) {
        let now_ns = self.truth_ns();
        for conversion in 0..CONVERSIONS_PER_UPDATE {
            let class = usize::try_from(conversion).unwrap() % AGES_SEC.len();
            let (from_sec, to_sec) = AGES_SEC[class];
            let age_ns = self
                .random
                .range(from_sec * 1_000_000_000, to_sec * 1_000_000_000);
            let since_ns = now_ns - i128::from(age_ns);
            let at = self.captures.partition_point(|one| one.truth_ns < since_ns);
            let Some(capture) = self.captures.get(at).copied() else {
                continue;
            };
            let later = self.clock.convert(capture.counter, &self.token).unwrap();
            let excess_ns =
                (capture.earliest_ns - later.epoch_ns).max(later.epoch_ns - capture.latest_ns);
            let age_sec = i64::try_from((now_ns - capture.truth_ns) / NS_PER_SEC).unwrap();
            self.tally.note(age_sec, excess_ns);
        }
    }
}

/// Lets time pass, in which the daemon acts. Returns whether it stepped the clock.
fn pass(machine: &Machine, daemon: &mut Daemon, end_ns: i128) -> bool {
    let mut is_stepped = false;
    loop {
        let now_ns = machine.state.borrow().truth_tai_ns();
        if now_ns >= end_ns {
            return is_stepped;
        }
        let next_ns = daemon.next_ns().clamp(now_ns, end_ns);
        machine.advance(next_ns - now_ns);
        if daemon.next_ns() <= next_ns {
            is_stepped |= daemon.act(&mut machine.state.borrow_mut());
        }
    }
}

/// Simulates so many machines of each row.
fn live(lives: u64) -> Vec<(Row, Tally)> {
    let jobs: Vec<_> = (0..lives)
        .flat_map(|seed| (0..ROWS.len()).map(move |row| (row, seed)))
        .collect();
    let tallies = Mutex::new(ROWS.map(|row| (row, Tally::default())));
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((row, seed)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let tally = Life::live(ROWS[*row], *seed);
                    tallies.lock().unwrap()[*row].1.add(tally);
                }
            });
        }
    });
    tallies.into_inner().unwrap().to_vec()
}

#[test]
fn a_later_page_gives_a_time_within_each_interval_that_an_earlier_page_gave() {
    let conversions = std::env::var("VMCLOCK_NESTED_CONVERSIONS")
        .map_or(CONVERSIONS_PER_LIFE, |value| value.parse().unwrap());
    let tallies = live(conversions.div_ceil(CONVERSIONS_PER_LIFE));
    println!("{}", Table(&tallies));
    for (row, tally) in tallies.iter().filter(|(row, _)| row.is_promised) {
        for count in &tally.by_age[..PROMISED_AGES] {
            assert!(count.conversions > 0, "{}: nothing was converted", row.name);
            assert_eq!(count.outside, 0, "{}: {count:?}", row.name);
        }
        let growth_ns =
            percentile(&tally.second_later_ns, 50) - percentile(&tally.at_update_ns, 50);
        assert!(growth_ns < MOST_GROWTH_NS, "{}: {growth_ns}", row.name);
    }
}
