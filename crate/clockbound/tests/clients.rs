//! Compares the core's reading of ClockBound's shared memory with the answers of ClockBound's own clients.
//!
//! Version 2 is written by ClockBound's own writer, version 3 by bytes. The core may refuse more than the clients, and
//! never less: where it states a bound, the client says that its time can be trusted.

#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clock_bound_shm::{ClockErrorBound, ClockStatus, ShmWrite, ShmWriter};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use tempfile::TempDir;
use vmclock::counter::{Counter, CpuCounter};
use vmclock::extension::{DeviceRecord, DeviceState, SourceKind};
use vmclock::publish::{Cause, DisruptionSource, From, Publication, PublishOptions};
use vmclock::snapshot::ClockStatus as PageStatus;
use vmclock::snapshot::RawFields;
use vmclock::source::best::Best;
use vmclock::source::clockbound::ClockBound;
use vmclock::source::kernel::KernelSource;
use vmclock::source::kernel::clock::{Bracket, KernelClock, SystemClock};
use vmclock::source::kernel::discipline::Discipline;
use vmclock::writer::{PageHeader, PageLayout, PageWriter, blank};
use vmclock::{Error, Options, Reading, VmClock};
use vmclock_testkit::virtual_machine::Memory;

const NS_PER_SEC: i64 = 1_000_000_000;
const MARKER: u64 = 7;
const BOUND_NS: i64 = 1_000_000;
const DRIFT_PPB: u32 = 50_000;

/// This machine's clocks, with the figures of a daemon that synchronizes them.
struct Synchronized;

impl SystemClock for Synchronized {
    fn bracket(&self, counter: &impl Counter) -> Bracket {
        KernelClock.bracket(counter)
    }

    fn discipline(&self) -> Result<Discipline, Error> {
        Ok(Discipline {
            maxerror_us: 900_003,
            esterror_us: 501,
            tick_us: 10_000,
            loop_shift: 2,
            ..Discipline::default()
        })
    }

    fn suspended_ns(&self) -> i128 {
        0
    }
}

/// A device whose marker the test sets.
struct Device(DeviceRecord);

impl DisruptionSource for Device {
    fn look(&mut self) -> DeviceRecord {
        self.0
    }

    fn boot_id(&self) -> u128 {
        1
    }
}

type Kernel = KernelSource<Synchronized>;

/// A publication whose time comes from ClockBound's memory in a directory alone.
struct Ours {
    publication: Publication<Best<Kernel, ClockBound>, CpuCounter, Device>,
    memory: Arc<Memory>,
}

impl Ours {
    fn new(machine: &Machine) -> Result<Self, Error> {
        Self::of(
            machine,
            vec![ClockBound::at(machine.directory.path())],
            From::ClockBound,
        )
    }

    /// A page of the kernel's clock alone.
    fn of_kernel(machine: &Machine) -> Self {
        Self::of(machine, Vec::new(), From::Kernel).unwrap()
    }

    fn of(machine: &Machine, candidates: Vec<ClockBound>, from: From) -> Result<Self, Error> {
        let source = Best::new(KernelSource::new(Synchronized), candidates, from);
        let options = PublishOptions {
            from,
            allow_untrusted_counter: true,
            ..PublishOptions::default()
        };
        let device = Device(machine.device);
        let publication = Publication::new(source, CpuCounter, device, options, None, None)?;
        let mut ours = Self {
            publication,
            memory: Arc::new(Memory::default()),
        };
        ours.step()?;
        while !ours.publication.is_settled() {
            std::thread::sleep(Duration::from_millis(10));
            ours.step()?;
        }
        Ok(ours)
    }

    fn step(&mut self) -> Result<RawFields, Error> {
        let fields = self.publication.step(Cause::Interval)?;
        self.memory.show(&fields, &self.publication.extension());
        Ok(fields)
    }

    fn read(&self) -> Option<Reading> {
        let options = Options::default();
        let memory = Arc::clone(&self.memory);
        let reading = VmClock::new(memory, 0x1000, CpuCounter, options).read();
        // ClockBound's time and no other has a bound here.
        reading.ok().filter(|reading| {
            reading.max_error_ns.is_some()
                && self.publication.extension().source == SourceKind::ClockBound
        })
    }
}

/// The files of a machine: ClockBound's memory, and the page of the device.
struct Machine {
    directory: TempDir,
    device: DeviceRecord,
}

impl Machine {
    fn new(marker: Option<u64>) -> Self {
        // In memory, as /run is.
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let device = marker.map_or(DeviceRecord::None, |disruption_marker| {
            let fields = RawFields {
                disruption_marker,
                ..blank()
            };
            let path = directory.path().join("vmclock0");
            PageWriter::create(
                &path,
                &PageLayout::default(),
                PageHeader::default(),
                &fields,
            )
            .unwrap();
            DeviceRecord::Seen(DeviceState {
                number: 1,
                disruption_marker,
                vm_generation: None,
            })
        });
        Self { directory, device }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }
}

/// The answer of a client: the interval in nanoseconds of UTC, and the status by its number.
#[derive(Clone, Copy, Debug)]
struct Answer {
    earliest_ns: i128,
    latest_ns: i128,
    status: i32,
}

impl Answer {
    fn is_trusted(&self) -> bool {
        self.status == 1 || self.status == 2
    }
}

fn ns(time: TimeSpec) -> i128 {
    i128::from(time.tv_sec()) * i128::from(NS_PER_SEC) + i128::from(time.tv_nsec())
}

fn now(clock: ClockId) -> TimeSpec {
    clock_gettime(clock).unwrap()
}

/// The answer of the client of version 2; `None` if it refuses.
fn client_2(machine: &Machine) -> Option<Answer> {
    use clock_bound_client::ClockBoundClient;
    let client = ClockBoundClient::new_with_paths(&machine.text("shm0"), &machine.text("vmclock0"));
    let answer = client.ok()?.now().ok()?;
    Some(Answer {
        earliest_ns: ns(answer.earliest),
        latest_ns: ns(answer.latest),
        status: answer.clock_status as i32,
    })
}

/// The answer of the client of version 3; `None` if it refuses.
fn client_3(machine: &Machine) -> Option<Answer> {
    use clock_bound::Client;
    let client = Client::new_with_paths(&machine.text("shm1"), &machine.text("vmclock0"));
    let answer = client.ok()?.now().ok()?;
    Some(Answer {
        earliest_ns: ns(answer.earliest),
        latest_ns: ns(answer.latest),
        status: answer.clock_status as i32,
    })
}

/// Compares our reading with a client's answers before and after it. Returns whether we state a bound.
fn compare(
    machine: &Machine,
    client: fn(&Machine) -> Option<Answer>,
    case: &str,
) -> (bool, Option<Answer>) {
    let ours = Ours::new(machine).ok();
    let began_ns = ns(now(ClockId::CLOCK_MONOTONIC));
    let before = client(machine);
    let reading = ours.and_then(|ours| ours.read());
    let after = client(machine);
    let Some(reading) = reading else {
        return (false, after);
    };
    let (before, after) = (before.unwrap(), after.unwrap());
    assert!(
        before.is_trusted() && after.is_trusted(),
        "{case}: {before:?}"
    );
    let earliest_ns = i128::from(reading.earliest_ns.unwrap());
    let latest_ns = i128::from(reading.latest_ns.unwrap());
    // The time that passed from the first answer to the second.
    let gap_ns = ns(now(ClockId::CLOCK_MONOTONIC)) - began_ns;
    for answer in [before, after] {
        assert!(
            earliest_ns <= answer.latest_ns + gap_ns && latest_ns + gap_ns >= answer.earliest_ns,
            "{case}: {reading:?} and {answer:?} do not overlap"
        );
    }
    // Never surer than the client was a moment earlier.
    let client_ns = (before.latest_ns - before.earliest_ns) / 2;
    let ours_ns = i128::from(reading.max_error_ns.unwrap());
    assert!(
        ours_ns + 10 >= client_ns,
        "{case}: {ours_ns} and {client_ns}"
    );
    if reading.status == PageStatus::Synchronized {
        assert_eq!((before.status, after.status), (1, 1), "{case}");
    }
    (true, Some(after))
}

/// The figures of version 2, which the test changes.
#[derive(Clone)]
struct Two {
    age: TimeSpec,
    valid: TimeSpec,
    bound_ns: i64,
    marker: u64,
    drift_ppb: u32,
    status: ClockStatus,
    has_support: bool,
}

impl Two {
    fn good() -> Self {
        Self {
            age: TimeSpec::new(1, 0),
            valid: TimeSpec::new(1000, 0),
            bound_ns: BOUND_NS,
            marker: MARKER,
            drift_ppb: DRIFT_PPB,
            status: ClockStatus::Synchronized,
            has_support: true,
        }
    }

    fn write(&self, machine: &Machine) -> ShmWriter {
        let mut writer = ShmWriter::new(&machine.path("shm0")).unwrap();
        self.update(&mut writer);
        writer
    }

    fn update(&self, writer: &mut ShmWriter) {
        let as_of = now(ClockId::CLOCK_MONOTONIC_COARSE) - self.age;
        writer.write(&ClockErrorBound::new(
            as_of,
            as_of + self.valid,
            self.bound_ns,
            self.marker,
            self.drift_ppb,
            self.status,
            self.has_support,
        ));
    }
}

#[test]
fn version_2_by_clockbounds_own_writer_overlaps_its_client_and_holds_the_truth() {
    let machine = Machine::new(Some(MARKER));
    let _writer = Two::good().write(&machine);
    for _ in 0..20 {
        let (is_stated, _) = compare(&machine, client_2, "good");
        assert!(is_stated);
        let ours = Ours::new(&machine).unwrap();
        let before_ns = ns(now(ClockId::CLOCK_REALTIME));
        let reading = ours.read().unwrap();
        let after_ns = ns(now(ClockId::CLOCK_REALTIME));
        // The truth may be ahead of CLOCK_REALTIME or behind it by all of the bound.
        let bound_ns = i128::from(BOUND_NS);
        assert!(i128::from(reading.earliest_ns.unwrap()) <= after_ns - bound_ns);
        assert!(i128::from(reading.latest_ns.unwrap()) >= before_ns + bound_ns);
    }
}

#[test]
fn each_state_of_version_2_is_answered_as_its_client_answers_or_more_strictly() {
    let old = |sec| Two {
        age: TimeSpec::new(sec, 0),
        ..Two::good()
    };
    let status = |status| Two {
        status,
        ..Two::good()
    };
    let cases = [
        ("unknown", status(ClockStatus::Unknown), false),
        ("free-running", status(ClockStatus::FreeRunning), true),
        ("disrupted", status(ClockStatus::Disrupted), false),
        ("4 s old", old(4), true),
        ("6 s old", old(6), true),
        ("61 s old", old(61), true),
        (
            "past void-after",
            Two {
                valid: TimeSpec::new(1, 0),
                ..old(9)
            },
            false,
        ),
        ("of the future", old(-5), false),
        (
            "other marker",
            Two {
                marker: MARKER + 1,
                ..Two::good()
            },
            false,
        ),
        (
            "no support",
            Two {
                has_support: false,
                ..Two::good()
            },
            false,
        ),
        (
            "fast drift",
            Two {
                drift_ppb: 1_000_000_000,
                ..Two::good()
            },
            false,
        ),
    ];
    for (case, figures, is_expected) in cases {
        let machine = Machine::new(Some(MARKER));
        let _writer = figures.write(&machine);
        let (is_stated, _) = compare(&machine, client_2, case);
        assert_eq!(is_stated, is_expected, "{case}");
    }
    let machine = Machine::new(None);
    let unsupported = Two {
        has_support: false,
        ..Two::good()
    };
    let _writer = unsupported.write(&machine);
    assert!(compare(&machine, client_2, "no device").0);
}

/// Tells a writer to end.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn an_update_by_clockbounds_own_writer_is_never_seen_in_half() {
    let machine = Machine::new(Some(MARKER));
    let good = Two::good();
    // Taken alone, its bound is five times as large and its status forbids the time.
    let bad = Two {
        bound_ns: 5 * BOUND_NS,
        status: ClockStatus::Unknown,
        ..Two::good()
    };
    drop(good.write(&machine));
    let mut ours = Ours::new(&machine).unwrap();
    let is_done = AtomicBool::new(false);
    let (mut bounded, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut writer = ShmWriter::new(&machine.path("shm0")).unwrap();
            let mut updates = 0_u64;
            while !is_done.load(Ordering::Relaxed) {
                bad.update(&mut writer);
                good.update(&mut writer);
                updates += 2;
            }
            updates
        });
        // A failed assertion must end the writer too, or the scope waits for it.
        let end = EndOnDrop(&is_done);
        for _ in 0..20_000 {
            let fields = ours.step().unwrap();
            if ours.publication.extension().source == SourceKind::ClockBound {
                bounded += 1;
                let error_ns = fields.time_maxerror_nanosec;
                assert!(error_ns < 2 * BOUND_NS.unsigned_abs(), "{error_ns}");
            } else {
                refused += 1;
            }
        }
        drop(end);
        assert!(writing.join().unwrap() > 1000);
    });
    assert!(bounded > 100 && refused > 100, "{bounded}, {refused}");
}

/// The bytes of version 3, which the test changes by offset.
#[derive(Clone)]
struct Three(Vec<u8>);

impl Three {
    fn put<const N: usize>(&mut self, offset: usize, field: [u8; N]) {
        self.0
            .get_mut(offset..offset + N)
            .unwrap()
            .copy_from_slice(&field);
    }

    fn with<const N: usize>(mut self, offset: usize, field: [u8; N]) -> Self {
        self.put(offset, field);
        self
    }

    /// The figures as of `age_sec` ago, with this machine's period.
    fn good(period: (u64, u8), utc_sec: i64, age_sec: i64) -> Self {
        let mut bytes = Self(vec![0; 104]);
        bytes.put(0x00, 0x414d_5a4e_u32.to_le_bytes());
        bytes.put(0x04, 0x4342_0200_u32.to_le_bytes());
        bytes.put(0x08, 104_u32.to_le_bytes());
        bytes.put(0x0c, 0x0303_u16.to_le_bytes());
        bytes.put(0x0e, 2_u16.to_le_bytes());
        let as_of = CpuCounter.read().wrapping_sub(ticks(period, age_sec));
        bytes.put(0x10, as_of.to_le_bytes());
        bytes.put(0x18, utc_sec.to_le_bytes());
        bytes.put(0x28, (utc_sec + 1000).to_le_bytes());
        bytes.put(0x38, period.0.to_le_bytes());
        // 2^44 / 2^64 is about 1 ppm.
        bytes.put(0x40, (1_u64 << 44).to_le_bytes());
        bytes.put(0x48, BOUND_NS.to_le_bytes());
        bytes.put(0x50, MARKER.to_le_bytes());
        bytes.put(0x58, DRIFT_PPB.to_le_bytes());
        bytes.put(0x5c, 1_i32.to_le_bytes());
        bytes.put(0x60, [1, period.1, 0]);
        bytes
    }

    fn as_of_counter(&self) -> u64 {
        u64::from_le_bytes(*self.0.get(0x10..).unwrap().first_chunk().unwrap())
    }
}

/// Whole seconds in ticks of a period in 2^-(64 + shift) s.
fn ticks((period, shift): (u64, u8), sec: i64) -> u64 {
    let ticks = (u128::try_from(sec).unwrap() << (64 + shift)) / u128::from(period);
    u64::try_from(ticks).unwrap()
}

/// The period of this machine's counter.
fn period() -> (u64, u8) {
    let ours = Ours::of_kernel(&Machine::new(None));
    let fields = ours.publication.fields();
    (fields.counter_period_frac_sec, fields.counter_period_shift)
}

const UTC_SEC: i64 = 1_900_000_000;

#[test]
fn version_3_overlaps_its_client_and_holds_the_truth_that_was_written() {
    let period = period();
    for age_sec in [0, 1, 30, 59] {
        let bytes = Three::good(period, UTC_SEC, age_sec);
        let machine = Machine::new(Some(MARKER));
        machine.write("shm1", &bytes.0);
        let (is_stated, _) = compare(&machine, client_3, &format!("{age_sec} s old"));
        assert!(is_stated, "{age_sec} s old");
        let reading = Ours::new(&machine).unwrap().read().unwrap();
        let elapsed = reading.counter.wrapping_sub(bytes.as_of_counter());
        let elapsed_ns =
            (((u128::from(elapsed) * u128::from(period.0)) >> period.1) * 1_000_000_000) >> 64;
        let utc_ns = i128::from(UTC_SEC) * i128::from(NS_PER_SEC) + elapsed_ns.cast_signed();
        // The truth may be ahead of the figures or behind them by all of the bound, and by all of the drift.
        let off_ns = i128::from(BOUND_NS) + i128::from(DRIFT_PPB) * i128::from(age_sec);
        let (earliest_ns, latest_ns) = (reading.earliest_ns.unwrap(), reading.latest_ns.unwrap());
        for truth_ns in [utc_ns - off_ns, utc_ns, utc_ns + off_ns] {
            assert!(
                (i128::from(earliest_ns)..=i128::from(latest_ns)).contains(&truth_ns),
                "{age_sec} s old: {truth_ns} is not in {reading:?}"
            );
        }
    }
}

#[test]
fn each_state_of_version_3_is_answered_as_its_client_answers_or_more_strictly() {
    let period = period();
    let good = || Three::good(period, UTC_SEC, 1);
    let status = |status: i32| good().with(0x5c, status.to_le_bytes());
    let cases = [
        ("good", good(), true),
        ("unknown", status(0), false),
        ("free-running", status(2), true),
        ("disrupted", status(3), false),
        ("59 s old", Three::good(period, UTC_SEC, 59), true),
        ("61 s old", Three::good(period, UTC_SEC, 61), true),
        ("past void-after", Three::good(period, UTC_SEC, 1001), false),
        (
            "other marker",
            good().with(0x50, 8_u64.to_le_bytes()),
            false,
        ),
        ("no support", good().with(0x60, [0]), false),
        ("generation 0", good().with(0x0e, [0, 0]), false),
        ("generation odd", good().with(0x0e, [3, 0]), false),
        ("version 1", good().with(0x0c, [1, 0]), false),
        ("version 3 alone", good().with(0x0c, [3, 0]), false),
        ("version 2", good().with(0x0c, [2, 0]), false),
        ("other magic", good().with(0x00, [0]), false),
        (
            "small size",
            good().with(0x08, 100_u32.to_le_bytes()),
            false,
        ),
        (
            "fast drift",
            good().with(0x58, 1_000_000_000_u32.to_le_bytes()),
            false,
        ),
    ];
    for (case, bytes, is_expected) in cases {
        let machine = Machine::new(Some(MARKER));
        machine.write("shm1", &bytes.0);
        let (is_stated, _) = compare(&machine, client_3, case);
        assert_eq!(is_stated, is_expected, "{case}");
    }
}
