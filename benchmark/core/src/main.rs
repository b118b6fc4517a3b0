//! Measures what a stamp costs in Rust, beside its peers.
//!
//! `vmclock-benchmark ROUNDS` prints a JSON object with the nanoseconds of each call, a figure for each
//! round. A round measures every call once, so a disturbance affects all of them.
//!
//! `vmclock-benchmark count CALL` makes 100,000 calls of one kind, for a simulator that counts instructions.

mod clock_bound_files;

use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use vmclock::clock::guard::{Guard, GuardDevice};
use vmclock::counter::{Counter, CpuCounter};
use vmclock::extension::{DeviceRecord, DeviceState, Extension};
use vmclock::page::Page;
use vmclock::snapshot::RawFields;
use vmclock::writer::{PageHeader, PageLayout, PageWriter, blank};
use vmclock::{Options, PublishOptions, Publisher, VmClock};

type Failure = Box<dyn Error>;

const CALLS_A_BATCH: u32 = 5_000;
const COUNTED_CALLS: u32 = 100_000;
const WARM_UP_ROUNDS: usize = 20;

/// A call to measure. `batch` makes a number of calls and returns how long they took.
struct Case<'a> {
    name: &'static str,
    batch: Box<dyn FnMut(u32) -> Duration + 'a>,
    rounds_ns: Vec<f64>,
}

/// Makes a case. The compiler instantiates it for each call, and can inline the call into the loop.
fn case<'a, T>(name: &'static str, mut call: impl FnMut() -> T + 'a) -> Case<'a> {
    let batch = move |calls| {
        let start = Instant::now();
        for _ in 0..calls {
            // By reference, because moving a result costs as much as some of the calls.
            black_box(&call());
        }
        start.elapsed()
    };
    Case {
        name,
        batch: Box::new(batch),
        rounds_ns: Vec::new(),
    }
}

fn clock_gettime(id: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is valid for writes.
    unsafe { libc::clock_gettime(id, &mut time) };
    time
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next().unwrap_or_else(|| "300".into());
    if first == "count" {
        return count(&arguments.next().ok_or("usage: count CALL")?);
    }
    measure(first.parse()?)
}

fn measure(rounds: usize) -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("page");
    let options = PublishOptions {
        allow_untrusted_counter: true,
        // Makes the page state a bound.
        max_error_ns: Some(1_000_000),
        ..PublishOptions::default()
    };
    let publisher = Publisher::create(&path, options.clone())?;
    let page = VmClock::open(&path, Options::default())?.snapshot()?.raw;
    let open = || VmClock::open(&path, Options::default());
    let (mut now_ns, mut now_ms, mut read) = (open()?, open()?, open()?);

    // A page that ClockBound's clients accept as the hypervisor's.
    let vmclock = directory.path().join("vmclock");
    let header = PageHeader::default();
    // The update makes the sequence number other than 0, which they take for an unwritten page.
    PageWriter::create(&vmclock, &PageLayout::default(), header, &page)?.update(|_| {});
    let monotonic_sec = clock_gettime(libc::CLOCK_MONOTONIC_COARSE).tv_sec;
    let version_2 = clock_bound_files::version_2(directory.path(), &page, monotonic_sec)?;
    let version_3 = clock_bound_files::version_3(directory.path(), &page)?;
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let mut client_2 =
        clock_bound_client::ClockBoundClient::new_with_paths(&text(&version_2), &text(&vmclock))
            .map_err(|error| format!("clock-bound-client 2: {error:?}"))?;
    let mut client_3 = clock_bound::Client::new_with_paths(&text(&version_3), &text(&vmclock))
        .map_err(|error| format!("clock-bound 3: {error:?}"))?;
    // A client that refuses is faster than one that works, so the status must be right.
    let status = client_2
        .now()
        .map_err(|error| format!("{error:?}"))?
        .clock_status;
    if status != clock_bound_client::ClockStatus::Synchronized {
        return Err(format!("clock-bound-client 2 says {status:?}").into());
    }
    let status = client_3
        .now()
        .map_err(|error| format!("{error:?}"))?
        .clock_status;
    if status != clock_bound::ClockStatus::Synchronized {
        return Err(format!("clock-bound 3 says {status:?}").into());
    }

    let quanta = quanta::Clock::new();
    let written = directory.path().join("written");
    let mut writer = PageWriter::create(&written, &PageLayout::default(), header, &blank())?;
    let mut counter_value = 0_u64;

    let [mut guarded_now, mut guarded_read] = [
        clock(directory.path(), &page, true)?,
        clock(directory.path(), &page, true)?,
    ];
    let [mut unguarded_now, mut unguarded_read] = [
        clock(directory.path(), &page, false)?,
        clock(directory.path(), &page, false)?,
    ];

    let mut cases = vec![
        case("guarded now_ns", || guarded_now.now_ns()),
        case("unguarded now_ns", || unguarded_now.now_ns()),
        case("guarded read", || guarded_read.read()),
        case("unguarded read", || unguarded_read.read()),
        case("now_ns", || now_ns.now_ns()),
        case("now_ms", || now_ms.now_ms()),
        case("read", || read.read()),
        case("clock_gettime", || clock_gettime(libc::CLOCK_REALTIME)),
        case("SystemTime", SystemTime::now),
        case("Instant", Instant::now),
        case("quanta", || quanta.now()),
        case("clock-bound-client 2", || client_2.now()),
        case("clock-bound 3", || client_3.now()),
        case("counter", || CpuCounter.read()),
        case("update", || {
            counter_value += 1;
            writer.update(|fields| fields.counter_value = counter_value);
        }),
    ];
    let mut order: Vec<usize> = (0..cases.len()).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15;
    for round in 0..WARM_UP_ROUNDS + rounds {
        // A random order in each round, so that no call always follows the same work.
        shuffle(&mut order, &mut state);
        for &index in &order {
            let case = &mut cases[index];
            let took = (case.batch)(CALLS_A_BATCH);
            if round >= WARM_UP_ROUNDS {
                let ns = took.as_nanos() as f64 / f64::from(CALLS_A_BATCH);
                case.rounds_ns.push(ns);
            }
        }
    }
    let mut figures: Vec<String> = cases
        .iter()
        .map(|case| format!("{:?}:{:?}", case.name, case.rounds_ns))
        .collect();
    drop(cases);

    // The publisher is still running. `cpu_time_ns` is the CPU time of its thread.
    let watched = Duration::from_millis(rounds as u64 * 20).max(publish_span());
    let used_ns = publisher.cpu_time_ns();
    std::thread::sleep(watched);
    let used_ns = publisher.cpu_time_ns() - used_ns;
    let share = used_ns as f64 / watched.as_nanos() as f64;
    figures.push(format!("\"publisher\":[{share:?}]"));
    publisher.close()?;
    println!("{{{}}}", figures.join(","));
    Ok(())
}

/// Makes a clock of a page with these fields that does not change, and a device that guards it or none. The two
/// differ in the second page that a stamp looks at, and in nothing else.
fn clock(directory: &Path, fields: &RawFields, guarded: bool) -> Result<VmClock, Failure> {
    const NUMBER: u64 = 7;
    const BOOT_ID: u128 = 1;
    let (layout, header) = (PageLayout::default(), PageHeader::default());
    let device_path = directory.join("device");
    PageWriter::create(&device_path, &layout, header, &blank())?;
    let state = DeviceState {
        number: NUMBER,
        disruption_marker: 0,
        vm_generation: None,
    };
    let extension = Extension {
        boot_id: BOOT_ID,
        device: if guarded {
            DeviceRecord::Seen(state)
        } else {
            DeviceRecord::None
        },
        ..Extension::default()
    };
    let path = directory.join("guarded");
    PageWriter::create(&path, &layout, header, &blank())?.publish(fields, &extension);
    let (page, device) = (Page::open(&path, &[])?, Page::open(&device_path, &[])?);
    let size_bytes = page.size_bytes();
    let guard = Guard {
        boot_id: Some(BOOT_ID),
        device: if guarded {
            GuardDevice::Open {
                size_bytes: device.size_bytes(),
                memory: Arc::new(device),
                number: NUMBER,
                path: device_path,
            }
        } else {
            GuardDevice::None
        },
    };
    let options = Options::default();
    let mut clock = VmClock::with_guard(Arc::new(page), size_bytes, CpuCounter, options, guard);
    // A clock whose guard does not hold gives no bound, and would measure something else.
    if clock.read()?.max_error_ns.is_none() {
        return Err("the clock has no bound".into());
    }
    Ok(clock)
}

/// The time of two updates.
fn publish_span() -> Duration {
    2 * PublishOptions::default().interval
}

/// Makes calls of one kind on a page that does not change.
fn count(call: &str) -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("page");
    let fields = fixed_page();
    PageWriter::create(
        &path,
        &PageLayout::default(),
        PageHeader::default(),
        &fields,
    )?;
    let mut clock = VmClock::open(&path, Options::default())?;
    let token = clock.continuity_token()?;
    clock.read()?;
    match call {
        "now_ns" => repeat(|| clock.now_ns()),
        "now_ms" => repeat(|| clock.now_ms()),
        "read" => repeat(|| clock.read()),
        "counter" => repeat(|| clock.counter()),
        "is_continuous" => repeat(|| clock.is_continuous(&token)),
        "convert" => {
            let counter = clock.counter();
            let converter = clock.converter(&token)?;
            repeat(|| converter.epoch_ns(black_box(counter)));
        }
        "nothing" => repeat(|| ()),
        _ => return Err(format!("unknown call {call}").into()),
    }
    Ok(())
}

fn repeat<T>(mut call: impl FnMut() -> T) {
    for _ in 0..COUNTED_CALLS {
        black_box(&call());
    }
}

/// Returns a page with a reference near now and a counter of 2.6 GHz. Its time need not be true.
fn fixed_page() -> RawFields {
    RawFields {
        counter_id: CpuCounter.id(),
        clock_status: 2,
        counter_value: CpuCounter.read().wrapping_sub(1 << 30),
        counter_period_shift: 31,
        counter_period_frac_sec: 0xd3aa_2c69_8a5c_4b02,
        counter_period_maxerror_rate_frac_sec: 0x1234_5678_9abc,
        time_sec: 1_800_000_000,
        time_maxerror_nanosec: 1_000,
        tai_offset_sec: -37,
        // The TAI offset, and the maximum errors of the period and of the time, are valid.
        flags: 1 | 1 << 4 | 1 << 6,
        ..blank()
    }
}

/// Shuffles by Fisher and Yates, with xorshift64.
fn shuffle(order: &mut [usize], state: &mut u64) {
    for last in (1..order.len()).rev() {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        order.swap(
            last,
            usize::try_from(*state % (last as u64 + 1)).unwrap_or(0),
        );
    }
}
