//! Measures the cost of publishing on this machine: an update under the seqlock, a step of the
//! publication, and the publisher thread's share of a core.

use std::error::Error;
use std::time::{Duration, Instant};

use vmclock::counter::CpuCounter;
use vmclock::extension::DeviceRecord;
use vmclock::publish::{Cause, DisruptionSource, Publication, PublishOptions, Publisher};
use vmclock::source::kernel::KernelSource;
use vmclock::source::kernel::clock::KernelClock;
use vmclock::writer::{PageHeader, PageLayout, PageWriter, blank};

fn median(mut figures: Vec<u64>) -> u64 {
    figures.sort_unstable();
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// A machine without a vmclock device.
struct NoDevice;

impl DisruptionSource for NoDevice {
    fn look(&mut self) -> DeviceRecord {
        DeviceRecord::None
    }

    fn boot_id(&self) -> u128 {
        vmclock::machine::boot_id().unwrap_or(0)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("cost");
    let layout = PageLayout::default();
    let mut writer = PageWriter::create(&path, &layout, PageHeader::default(), &blank())?;
    let updates = (0..100_000_u64).map(|index| {
        let start = Instant::now();
        writer.update(|fields| fields.counter_value = index);
        nanoseconds(start)
    });
    println!(
        "an update under the seqlock: {} ns (median, including one read of the clock)",
        median(updates.collect())
    );

    let options = PublishOptions {
        allow_untrusted_counter: true,
        ..PublishOptions::default()
    };
    let mut publication = Publication::new(
        KernelSource::new(KernelClock),
        CpuCounter,
        NoDevice,
        options.clone(),
        None,
        None,
    )?;
    let mut steps = Vec::new();
    for _ in 0..10_000 {
        let start = Instant::now();
        publication.step(Cause::Interval)?;
        steps.push(nanoseconds(start));
    }
    println!("a step of the publication: {} ns (median)", median(steps));

    let watched = Duration::from_secs(10);
    let interval = options.interval;
    let publisher = Publisher::create(&directory.path().join("page"), options)?;
    std::thread::sleep(watched);
    let share = 100.0 * publisher.cpu_time_ns() as f64 / watched.as_nanos() as f64;
    println!(
        "the publisher, every {} ms: {} updates in {} s, {} µs of CPU, {share:.4} % of a core",
        interval.as_millis(),
        publisher.updates(),
        watched.as_secs(),
        publisher.cpu_time_ns() / 1000
    );
    publisher.close()?;
    Ok(())
}
