//! The calls on a clock: chooses the request, replaces a missing one, and interprets a refusal.

use std::path::PathBuf;

use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::attributes::{Attributes, SystemCounter};
use super::device::{
    Device, MAX_SAMPLES, Number, RawCapabilities, RawExtended, RawOffset, RawOffsetAttributes,
    RawPrecise, RawTime, RawTimestamp,
};
use super::sample::CounterBracket;
use super::{Capabilities, CrossTimestamp, PtpReading, Sample, SampledClock};
use crate::counter::clocksource;
use crate::error::Error;

/// The number of attempts if the system clock is stepped back within a bracket.
const TRIES: usize = 3;

/// A clock, and the path for its errors.
#[derive(Debug)]
pub(super) struct Calls<D> {
    device: D,
    pub(super) path: PathBuf,
}

/// One sample of the kernel: system clock, PTP clock, system clock.
type RawSample = [RawTime; 3];

/// One sample in nanoseconds, and what belongs to it where the kernel has the request for that.
#[derive(Clone, Copy, Debug)]
struct Stamp {
    before_ns: i64,
    device_ns: i64,
    after_ns: i64,
    attributes: Option<Attributes>,
    counters: Option<CounterBracket>,
}

/// The part of a call that is refused with [`Error::NotSupported`], and the remedy.
const NO_AUXILIARY: (&str, &str) = (
    "auxiliary clocks (they need Linux 6.17 or later with CONFIG_POSIX_AUX_CLOCKS)",
    "take samples of 'realtime'",
);
const DISABLED_AUXILIARY: (&str, &str) = (
    "samples of this auxiliary clock, which is disabled",
    "enable it as root (echo 1 > /sys/kernel/time/aux_clocks/NUMBER/aux_clock_enable), or take samples of 'realtime'",
);

impl<D: Device> Calls<D> {
    pub(super) fn new(device: D, path: PathBuf) -> Self {
        Self { device, path }
    }

    pub(super) fn capabilities(&self) -> Result<Capabilities, Error> {
        let caps = newest(|number| {
            let mut caps = RawCapabilities::default();
            self.device.capabilities(number, &mut caps).map(|()| caps)
        })
        .map_err(|errno| self.refusal("PTP_CLOCK_GETCAPS", errno))?;
        let count = |count: i32| count.max(0).cast_unsigned();
        Ok(Capabilities {
            max_adjustment_ppb: caps.max_adj,
            max_phase_adjustment_ns: caps.max_phase_adj,
            alarms: count(caps.n_alarm),
            external_timestamps: count(caps.n_ext_ts),
            periodic_outputs: count(caps.n_per_out),
            pins: count(caps.n_pins),
            pulse_per_second: caps.pps != 0,
            cross_timestamping: caps.cross_timestamping != 0,
            phase_adjustment: caps.adjust_phase != 0,
            extended_attributes: caps.extended_attrs != 0,
            precise_attributes: caps.precise_attrs != 0,
        })
    }

    pub(super) fn now_ns(&self) -> Result<i64, Error> {
        let time = self
            .device
            .time()
            .map_err(|errno| self.refusal("clock_gettime", errno))?;
        self.ns(time)
    }

    pub(super) fn cross_timestamp(&self) -> Result<CrossTimestamp, Error> {
        let mut stamps = RawOffsetAttributes::new(1, libc::CLOCK_REALTIME);
        match self.device.precise_attributes(&mut stamps) {
            Ok(()) => self.cross_timestamp_of(&stamps.timestamps[0]),
            Err(Errno::NOTTY) => self.older_cross_timestamp(),
            Err(errno) => Err(self.no_cross_timestamp(errno)),
        }
    }

    fn cross_timestamp_of(&self, stamp: &RawTimestamp) -> Result<CrossTimestamp, Error> {
        let system = &stamp.before;
        Ok(CrossTimestamp {
            device_ns: self.ns(stamp.device)?,
            realtime_ns: self.system_ns(system.time)?,
            monotonic_raw_ns: self.system_ns(system.monotonic_raw)?,
            attributes: Attributes::decode(&stamp.attributes),
            counter: SystemCounter::decode(system),
        })
    }

    fn no_cross_timestamp(&self, errno: Errno) -> Error {
        match errno {
            // The clock exists, so the system's clocks run on another counter than it does.
            Errno::NODEV if self.device.resolution().is_ok() => Error::OtherClocksource {
                path: self.path.clone(),
                current: clocksource::current(),
            },
            errno => self.refusal("PTP_SYS_OFFSET_PRECISE", errno),
        }
    }

    fn older_cross_timestamp(&self) -> Result<CrossTimestamp, Error> {
        let stamps = newest(|number| {
            let mut stamps = RawPrecise::default();
            self.device.precise(number, &mut stamps).map(|()| stamps)
        })
        .map_err(|errno| self.no_cross_timestamp(errno))?;
        Ok(CrossTimestamp {
            device_ns: self.ns(stamps.device)?,
            realtime_ns: self.ns(stamps.sys_realtime)?,
            monotonic_raw_ns: self.ns(stamps.sys_monoraw)?,
            attributes: None,
            counter: None,
        })
    }

    pub(super) fn samples(&self, count: u32, clock: SampledClock) -> Result<Vec<Sample>, Error> {
        if !(1..=MAX_SAMPLES).contains(&count) {
            return Err(Error::InvalidArgument {
                reason: format!(
                    "one call takes 1 to {MAX_SAMPLES} samples, and {count} were asked for"
                ),
                remedy: Some("call more often"),
            });
        }
        for _ in 0..TRIES {
            let auxiliary_ns = self.auxiliary_ns(clock)?;
            let stamps = self.stamps(count, clock)?;
            if let Some(before_ns) = auxiliary_ns {
                if !self.are_stamps_within(before_ns, clock, &stamps)? {
                    continue;
                }
            } else {
                self.require_stamps_of(clock, &stamps)?;
            }
            if let Some(samples) = self.bracketed(&stamps)? {
                return Ok(samples);
            }
        }
        Err(Error::SystemClockStepped {
            path: self.path.clone(),
        })
    }

    /// Reads the clock by one request for one sample.
    pub(super) fn reading(&self) -> Result<PtpReading, Error> {
        let stamps = self.stamps(1, SampledClock::Realtime)?;
        let stamp = stamps.first().ok_or_else(|| self.out_of_range())?;
        Ok(PtpReading {
            device_ns: stamp.device_ns,
            attributes: stamp.attributes,
            counters: stamp.counters,
        })
    }

    /// Reads an auxiliary clock, which the kernel may lack and the operator may disable; `None` for another clock.
    fn auxiliary_ns(&self, clock: SampledClock) -> Result<Option<i64>, Error> {
        if !matches!(clock, SampledClock::Auxiliary(_)) {
            return Ok(None);
        }
        match self.device.system_time(clock_id(clock)) {
            Ok(time) => self.ns(time).map(Some),
            Err(errno @ Errno::NODEV) => {
                let (what, remedy) = DISABLED_AUXILIARY;
                Err(self.not_supported(what, remedy, errno))
            }
            Err(errno) => {
                let (what, remedy) = NO_AUXILIARY;
                Err(self.not_supported(what, remedy, errno))
            }
        }
    }

    /// Returns whether stamps lie between a reading of an auxiliary clock before them and one after. They do, unless
    /// it was set meanwhile or the driver stamped another clock.
    fn are_stamps_within(
        &self,
        before_ns: i64,
        clock: SampledClock,
        stamps: &[Stamp],
    ) -> Result<bool, Error> {
        let after_ns = self.auxiliary_ns(clock)?.unwrap_or(before_ns);
        let is_within = |ns: i64| (before_ns..=after_ns).contains(&ns);
        Ok(stamps
            .iter()
            .all(|stamp| is_within(stamp.before_ns) && is_within(stamp.after_ns)))
    }

    /// Refuses samples whose first reading is CLOCK_REALTIME although another clock was requested.
    ///
    /// Older releases of `ptp_vmclock.c` ignore the request's clock and read CLOCK_REALTIME first. It is
    /// decades from any clock that counts from the boot, so the nearer clock is the one that was read.
    fn require_stamps_of(&self, clock: SampledClock, stamps: &[Stamp]) -> Result<(), Error> {
        let asked = match clock {
            SampledClock::Realtime | SampledClock::Auxiliary(_) => return Ok(()),
            SampledClock::Monotonic => ClockId::Monotonic,
            SampledClock::MonotonicRaw => ClockId::MonotonicRaw,
        };
        for stamp in stamps {
            let before_sec = stamp.before_ns / 1_000_000_000;
            let sec_from = |id| clock_gettime(id).tv_sec.abs_diff(before_sec);
            if sec_from(ClockId::Realtime) < sec_from(asked) {
                return Err(self.not_supported(
                    "samples of another clock than CLOCK_REALTIME (its driver stamps that one instead)",
                    "take them of 'realtime'",
                    Errno::OPNOTSUPP,
                ));
            }
        }
        Ok(())
    }

    /// Returns the samples; `None` if one of the brackets runs backwards.
    fn bracketed(&self, stamps: &[Stamp]) -> Result<Option<Vec<Sample>>, Error> {
        let mut samples = Vec::with_capacity(stamps.len());
        for stamp in stamps {
            if stamp.after_ns < stamp.before_ns {
                return Ok(None);
            }
            let sample = Sample::new(stamp.before_ns, stamp.device_ns, stamp.after_ns)
                .ok_or_else(|| self.out_of_range())?;
            samples.push(Sample {
                attributes: stamp.attributes,
                counters: stamp.counters,
                ..sample
            });
        }
        Ok(Some(samples))
    }

    fn stamps(&self, count: u32, clock: SampledClock) -> Result<Vec<Stamp>, Error> {
        let mut stamps = RawOffsetAttributes::new(count, clock_id(clock));
        let errno = match self.device.extended_attributes(&mut stamps) {
            Ok(()) => {
                let stamps = stamps.timestamps.iter().take(count as usize);
                return stamps.map(|stamp| self.stamp(stamp)).collect();
            }
            Err(errno) => errno,
        };
        let stamps = if errno == Errno::NOTTY {
            self.older(count, clock, self.extended(count, clock))?
        } else {
            self.older(count, clock, Err(errno))?
        };
        stamps
            .iter()
            .map(|[before, device, after]| {
                Ok(Stamp {
                    before_ns: self.ns(*before)?,
                    device_ns: self.ns(*device)?,
                    after_ns: self.ns(*after)?,
                    attributes: None,
                    counters: None,
                })
            })
            .collect()
    }

    fn stamp(&self, raw: &RawTimestamp) -> Result<Stamp, Error> {
        let counters = SystemCounter::decode(&raw.before).zip(SystemCounter::decode(&raw.after));
        Ok(Stamp {
            before_ns: self.system_ns(raw.before.time)?,
            device_ns: self.ns(raw.device)?,
            after_ns: self.system_ns(raw.after.time)?,
            attributes: Attributes::decode(&raw.attributes),
            // The kernel may have changed its clocksource in between.
            counters: counters
                .filter(|(before, after)| before.kind == after.kind)
                .map(|(before, after)| CounterBracket {
                    kind: before.kind,
                    before: before.value,
                    after: after.value,
                }),
        })
    }

    /// Returns the samples that a request without attributes gave, or older ones where it is missing.
    fn older(
        &self,
        count: u32,
        clock: SampledClock,
        extended: Result<RawExtended, Errno>,
    ) -> Result<Vec<RawSample>, Error> {
        const EXTENDED: &str = "PTP_SYS_OFFSET_EXTENDED";
        match extended {
            Ok(stamps) => Ok(stamps.ts.into_iter().take(count as usize).collect()),
            // In the older request the kernel reads the system clock before and after the driver's call.
            Err(Errno::NOTTY | Errno::OPNOTSUPP) if clock == SampledClock::Realtime => {
                self.older_stamps(count)
            }
            Err(errno @ (Errno::NOTTY | Errno::OPNOTSUPP)) => Err(self.not_supported(
                "samples of another clock than CLOCK_REALTIME",
                "take them of 'realtime'",
                errno,
            )),
            Err(Errno::INVAL) if clock != SampledClock::Realtime => {
                // EINVAL comes from a kernel that does not know the clock, or from the driver. A request
                // for 0 samples does not reach the driver.
                match self.extended(0, clock) {
                    Err(Errno::INVAL) => Err(self.not_supported(
                        "samples of another clock than CLOCK_REALTIME before Linux 6.12",
                        "take them of 'realtime'",
                        Errno::INVAL,
                    )),
                    Err(errno) => Err(self.refusal(EXTENDED, errno)),
                    Ok(_) => Err(self.refusal(EXTENDED, Errno::INVAL)),
                }
            }
            Err(errno) => Err(self.refusal(EXTENDED, errno)),
        }
    }

    fn extended(&self, count: u32, clock: SampledClock) -> Result<RawExtended, Errno> {
        let clockid = clock_id(clock);
        newest(|number| {
            let mut stamps = RawExtended::new(count, clockid);
            self.device.extended(number, &mut stamps).map(|()| stamps)
        })
    }

    fn older_stamps(&self, count: u32) -> Result<Vec<RawSample>, Error> {
        let stamps = newest(|number| {
            let mut stamps = RawOffset::new(count);
            self.device.offset(number, &mut stamps).map(|()| stamps)
        })
        .map_err(|errno| self.refusal("PTP_SYS_OFFSET", errno))?;
        // Each reading of the system clock ends one bracket and begins the next.
        let systems = stamps.pairs.iter().map(|[system, _]| *system);
        let afters = systems.skip(1).chain([stamps.last]);
        Ok(stamps
            .pairs
            .iter()
            .zip(afters)
            .take(count as usize)
            .map(|([before, device], after)| [*before, *device, after])
            .collect())
    }

    /// Returns a system clock's time. The kernel clamps a time that exceeds 64 bits.
    fn system_ns(&self, ns: i64) -> Result<i64, Error> {
        if ns == i64::MAX || ns == i64::MIN {
            return Err(self.out_of_range());
        }
        Ok(ns)
    }

    fn ns(&self, time: RawTime) -> Result<i64, Error> {
        time.epoch_ns().ok_or_else(|| self.out_of_range())
    }

    fn out_of_range(&self) -> Error {
        Error::PtpOutOfRange {
            path: self.path.clone(),
        }
    }

    fn not_supported(&self, what: &'static str, remedy: &'static str, errno: Errno) -> Error {
        Error::NotSupported {
            path: self.path.clone(),
            what,
            remedy,
            errno: errno.raw_os_error(),
        }
    }

    /// Returns the error for a `call` that failed with `errno`.
    fn refusal(&self, call: &'static str, errno: Errno) -> Error {
        let path = self.path.clone();
        match errno {
            Errno::NOTTY | Errno::OPNOTSUPP => self.not_supported(
                call,
                if call == "PTP_SYS_OFFSET_PRECISE" {
                    "take samples() instead, which hardly a clock lacks"
                } else {
                    "take another clock: /sys/class/ptp lists all that there are"
                },
                errno,
            ),
            Errno::NODEV if self.device.resolution() == Err(Errno::NODEV) => {
                Error::Vanished { path }
            }
            Errno::TIMEDOUT => Error::PtpTimeout { path, call },
            Errno::INVAL => Error::PtpRefused { path, call },
            errno => Error::system(crate::error::syscall_of(call), Some(&path), errno),
        }
    }
}

fn clock_id(clock: SampledClock) -> libc::clockid_t {
    /// CLOCK_AUX, the first of the auxiliary clocks' numbers.
    const CLOCK_AUX: libc::clockid_t = 16;
    match clock {
        SampledClock::Realtime => libc::CLOCK_REALTIME,
        SampledClock::Monotonic => libc::CLOCK_MONOTONIC,
        SampledClock::MonotonicRaw => libc::CLOCK_MONOTONIC_RAW,
        SampledClock::Auxiliary(number) => CLOCK_AUX + libc::clockid_t::from(number),
    }
}

/// Makes a request by its second number, or by its first if the kernel does not know the second.
fn newest<T>(request: impl Fn(Number) -> Result<T, Errno>) -> Result<T, Errno> {
    match request(Number::Second) {
        Err(Errno::NOTTY) => request(Number::First),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::ptp::attributes::{CounterKind, PtpStatus, PtpTimescale};

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Asked {
        Capabilities(Number),
        Precise(Number),
        Extended(Number, u32, i32),
        Offset(Number, u32),
        PreciseAttributes(u32, i32),
        ExtendedAttributes(u32, i32),
        SystemTime(i32),
    }

    impl Asked {
        /// True for the requests that kernels before the attributes lack.
        fn is_of_attributes(self) -> bool {
            matches!(
                self,
                Self::PreciseAttributes(..) | Self::ExtendedAttributes(..)
            )
        }
    }

    type Answer = Box<dyn Fn(Asked) -> Result<(), Errno>>;

    /// A device that answers as the test says, with increasing stamps, and records the requests.
    struct Injected {
        answer: Answer,
        resolution: Result<(), Errno>,
        time: Result<RawTime, Errno>,
        /// The distance of each stamp from the one before it, in nanoseconds.
        steps: RefCell<Box<dyn Iterator<Item = i64>>>,
        asked: RefCell<Vec<Asked>>,
        /// The answer to requests with attributes; `None` for a kernel that lacks them.
        attributes: Option<RawTimestamp>,
        /// The readings of a system clock, in turn; the error if there is none left.
        system_times: RefCell<Vec<RawTime>>,
        no_system_time: Errno,
    }

    impl Injected {
        fn ask(&self, asked: Asked) -> Result<(), Errno> {
            if asked.is_of_attributes() && self.attributes.is_none() {
                return Err(Errno::NOTTY);
            }
            self.asked.borrow_mut().push(asked);
            (self.answer)(asked)
        }

        fn stamps(&self) -> impl FnMut() -> RawTime {
            let mut ns = 1_000_000_000;
            move || {
                ns += self.steps.borrow_mut().next().unwrap();
                RawTime::new(ns / 1_000_000_000, (ns % 1_000_000_000) as u32)
            }
        }
    }

    impl Device for Injected {
        fn resolution(&self) -> Result<(), Errno> {
            self.resolution
        }

        fn time(&self) -> Result<RawTime, Errno> {
            self.time
        }

        fn capabilities(&self, number: Number, caps: &mut RawCapabilities) -> Result<(), Errno> {
            caps.cross_timestamping = 1;
            caps.extended_attrs = i32::from(self.attributes.is_some());
            self.ask(Asked::Capabilities(number))
        }

        fn precise(&self, number: Number, stamps: &mut RawPrecise) -> Result<(), Errno> {
            let mut next = self.stamps();
            stamps.device = next();
            stamps.sys_realtime = next();
            stamps.sys_monoraw = next();
            self.ask(Asked::Precise(number))
        }

        fn extended(&self, number: Number, stamps: &mut RawExtended) -> Result<(), Errno> {
            let mut next = self.stamps();
            for stamp in stamps.ts.iter_mut().take(stamps.n_samples as usize) {
                *stamp = std::array::from_fn(|_| next());
            }
            self.ask(Asked::Extended(number, stamps.n_samples, stamps.clockid))
        }

        fn precise_attributes(&self, stamps: &mut RawOffsetAttributes) -> Result<(), Errno> {
            stamps.timestamps[0] = self.attributes.unwrap_or_default();
            let request = stamps.request;
            self.ask(Asked::PreciseAttributes(
                request.num_samples,
                request.clock_id,
            ))
        }

        fn extended_attributes(&self, stamps: &mut RawOffsetAttributes) -> Result<(), Errno> {
            let request = stamps.request;
            let stamp = self.attributes.unwrap_or_default();
            stamps.timestamps[..request.num_samples as usize].fill(stamp);
            self.ask(Asked::ExtendedAttributes(
                request.num_samples,
                request.clock_id,
            ))
        }

        fn system_time(&self, clock: libc::clockid_t) -> Result<RawTime, Errno> {
            self.asked.borrow_mut().push(Asked::SystemTime(clock));
            let mut times = self.system_times.borrow_mut();
            if times.is_empty() {
                return Err(self.no_system_time);
            }
            Ok(times.remove(0))
        }

        fn offset(&self, number: Number, stamps: &mut RawOffset) -> Result<(), Errno> {
            let mut next = self.stamps();
            let count = stamps.n_samples as usize;
            for pair in stamps.pairs.iter_mut().take(count) {
                *pair = std::array::from_fn(|_| next());
            }
            *stamps
                .pairs
                .get_mut(count)
                .map_or(&mut stamps.last, |[system, _]| system) = next();
            self.ask(Asked::Offset(number, stamps.n_samples))
        }
    }

    fn calls(answer: impl Fn(Asked) -> Result<(), Errno> + 'static) -> Calls<Injected> {
        let device = Injected {
            answer: Box::new(answer),
            resolution: Ok(()),
            time: Ok(RawTime::new(1, 2)),
            steps: RefCell::new(Box::new(std::iter::repeat(100))),
            asked: RefCell::new(Vec::new()),
            attributes: None,
            system_times: RefCell::new(Vec::new()),
            no_system_time: Errno::INVAL,
        };
        Calls::new(device, "/dev/ptp7".into())
    }

    /// The answer of a kernel with attributes: 100 ns and 300 ticks from each reading to the next.
    fn attributed() -> RawTimestamp {
        let mut stamp = RawTimestamp {
            device: RawTime::new(1, 200),
            ..RawTimestamp::default()
        };
        stamp.before.time = 1_000_000_100;
        stamp.before.monotonic_raw = 900;
        stamp.before.counter = 7_000;
        stamp.before.counter_id = 1;
        stamp.after = stamp.before;
        stamp.after.time = 1_000_000_300;
        stamp.after.counter = 7_600;
        stamp.attributes.valid = 7;
        stamp.attributes.error_bound = 25_000;
        stamp.attributes.timescale = 4;
        stamp.attributes.status = 2;
        stamp
    }

    fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> (&'static str, Option<i32>) {
        let error = result.unwrap_err();
        assert!(error.to_string().contains("/dev/ptp7"), "{error}");
        (error.code(), error.errno())
    }

    const REALTIME: i32 = libc::CLOCK_REALTIME;
    const RAW: i32 = libc::CLOCK_MONOTONIC_RAW;

    #[test]
    fn each_call_uses_the_second_number_of_its_request() {
        let calls = calls(|_| Ok(()));
        calls.capabilities().unwrap();
        let stamp = calls.cross_timestamp().unwrap();
        assert_eq!(
            [stamp.device_ns, stamp.realtime_ns, stamp.monotonic_raw_ns],
            [1_000_000_100, 1_000_000_200, 1_000_000_300]
        );
        assert_eq!(
            calls.samples(2, SampledClock::MonotonicRaw).unwrap().len(),
            2
        );
        assert_eq!(
            calls.device.asked.take(),
            [
                Asked::Capabilities(Number::Second),
                Asked::Precise(Number::Second),
                Asked::Extended(Number::Second, 2, RAW)
            ]
        );
    }

    #[test]
    fn injected_attributes_come_with_the_counter_of_the_same_instant() {
        let mut calls = calls(|_| Ok(()));
        calls.device.attributes = Some(attributed());
        let attributes = Some(Attributes {
            error_bound_ns: Some(25_000),
            timescale: Some(PtpTimescale::Utc),
            status: Some(PtpStatus::Synchronized),
        });
        let kind = CounterKind::X86Tsc;
        let stamp = calls.cross_timestamp().unwrap();
        let expected = CrossTimestamp {
            device_ns: 1_000_000_200,
            realtime_ns: 1_000_000_100,
            monotonic_raw_ns: 900,
            attributes,
            counter: Some(SystemCounter { kind, value: 7_000 }),
        };
        assert_eq!(stamp, expected);
        let samples = calls.samples(3, SampledClock::Realtime).unwrap();
        let plain = Sample::new(1_000_000_100, 1_000_000_200, 1_000_000_300).unwrap();
        let counters = Some(CounterBracket {
            kind,
            before: 7_000,
            after: 7_600,
        });
        let sample = Sample {
            attributes,
            counters,
            ..plain
        };
        assert_eq!(samples, [sample; 3]);
        assert!(calls.capabilities().unwrap().extended_attributes);
        assert_eq!(
            calls.device.asked.take(),
            [
                Asked::PreciseAttributes(1, REALTIME),
                Asked::ExtendedAttributes(3, REALTIME),
                Asked::Capabilities(Number::Second),
            ]
        );
    }

    #[test]
    fn injected_counter_of_another_kind_at_each_end_of_a_sample_is_none() {
        let mut stamp = attributed();
        stamp.after.counter_id = 2;
        let mut calls = calls(|_| Ok(()));
        calls.device.attributes = Some(stamp);
        let samples = calls.samples(1, SampledClock::Realtime).unwrap();
        assert_eq!(samples[0].counters, None);
        stamp.after.time = i64::MAX;
        calls.device.attributes = Some(stamp);
        let refusal = refused(calls.samples(1, SampledClock::Realtime));
        assert_eq!(refusal.0, "ERR_VMCLOCK_OUT_OF_RANGE");
    }

    #[test]
    fn injected_errors_of_the_request_with_attributes_are_not_asked_again_without() {
        for (errno, code) in [
            (Errno::BUSY, "ERR_VMCLOCK_SYSTEM"),
            (Errno::TIMEDOUT, "ERR_VMCLOCK_TIMEOUT"),
        ] {
            let mut calls = calls(move |_| Err(errno));
            calls.device.attributes = Some(attributed());
            assert_eq!(refused(calls.samples(1, SampledClock::Realtime)).0, code);
            assert_eq!(refused(calls.cross_timestamp()).0, code);
            assert_eq!(calls.device.asked.take().len(), 2);
        }
    }

    #[test]
    fn injected_auxiliary_clocks_are_sampled_where_the_kernel_has_them() {
        let aux = SampledClock::Auxiliary(3);
        let mut calls = calls(|_| Ok(()));
        calls.device.attributes = Some(attributed());
        let at = |nsec| RawTime::new(1, nsec);
        // The first time the clock is set meanwhile.
        calls.device.system_times = RefCell::new(vec![at(50), at(250), at(50), at(350)]);
        assert_eq!(calls.samples(1, aux).unwrap().len(), 1);
        let once = [
            Asked::SystemTime(19),
            Asked::ExtendedAttributes(1, 19),
            Asked::SystemTime(19),
        ];
        assert_eq!(calls.device.asked.take(), [once, once].concat());
        // A driver that stamps another clock.
        calls.device.system_times = RefCell::new(vec![at(500); 6]);
        assert_eq!(refused(calls.samples(1, aux)).0, "ERR_VMCLOCK_STEPPED");
    }

    #[test]
    fn injected_einval_and_enodev_a_missing_auxiliary_clock_is_not_supported() {
        for (errno, number, words) in [
            (Errno::INVAL, 22, "CONFIG_POSIX_AUX_CLOCKS"),
            (Errno::NODEV, 19, "disabled"),
        ] {
            let mut calls = calls(|_| Ok(()));
            calls.device.no_system_time = errno;
            let error = calls.samples(1, SampledClock::Auxiliary(0)).unwrap_err();
            let seen = (error.code(), error.errno());
            assert_eq!(seen, ("ERR_VMCLOCK_NOT_SUPPORTED", Some(number)));
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(calls.device.asked.take(), [Asked::SystemTime(16)]);
        }
    }

    #[test]
    fn injected_enotty_before_linux_5_4_the_first_numbers_are_used() {
        let calls = calls(|asked| match asked {
            Asked::Capabilities(Number::Second)
            | Asked::Precise(Number::Second)
            | Asked::Extended(Number::Second, ..) => Err(Errno::NOTTY),
            _ => Ok(()),
        });
        assert!(calls.capabilities().unwrap().cross_timestamping);
        calls.cross_timestamp().unwrap();
        let samples = calls.samples(1, SampledClock::Realtime).unwrap();
        assert_eq!(
            samples,
            [Sample::new(1_000_000_100, 1_000_000_200, 1_000_000_300).unwrap()]
        );
    }

    #[test]
    fn injected_eopnotsupp_a_clock_without_extended_samples_gives_the_older_ones() {
        for errno in [Errno::NOTTY, Errno::OPNOTSUPP] {
            let calls = calls(move |asked| match asked {
                Asked::Extended(..) => Err(errno),
                Asked::Offset(Number::Second, _) => Err(Errno::NOTTY),
                _ => Ok(()),
            });
            for count in [1, 24, 25] {
                let samples = calls.samples(count, SampledClock::Realtime).unwrap();
                let expected: Vec<Sample> = (0..i64::from(count))
                    .map(|at| 1_000_000_100 + 200 * at)
                    .map(|before| Sample::new(before, before + 100, before + 200).unwrap())
                    .collect();
                assert_eq!(samples, expected);
            }
            assert_eq!(
                calls.device.asked.take().last(),
                Some(&Asked::Offset(Number::First, 25))
            );
            // The older request has no other system clock.
            let other = calls.samples(1, SampledClock::Monotonic);
            assert_eq!(
                refused(other),
                ("ERR_VMCLOCK_NOT_SUPPORTED", Some(errno.raw_os_error()))
            );
        }
    }

    #[test]
    fn injected_einval_before_linux_6_12_another_system_clock_is_not_supported() {
        let calls = calls(|asked| match asked {
            Asked::Extended(_, _, clock) if clock != REALTIME => Err(Errno::INVAL),
            _ => Ok(()),
        });
        let refusal = refused(calls.samples(3, SampledClock::MonotonicRaw));
        assert_eq!(refusal, ("ERR_VMCLOCK_NOT_SUPPORTED", Some(22)));
        // It never returns one clock's stamps for another's.
        assert_eq!(
            calls.device.asked.take(),
            [
                Asked::Extended(Number::Second, 3, RAW),
                Asked::Extended(Number::Second, 0, RAW)
            ]
        );
    }

    #[test]
    fn injected_einval_of_the_driver_is_distinguished_from_the_kernels() {
        let calls = calls(|asked| match asked {
            Asked::Extended(_, 0, _) => Ok(()),
            _ => Err(Errno::INVAL),
        });
        for clock in [SampledClock::MonotonicRaw, SampledClock::Realtime] {
            let refusal = refused(calls.samples(3, clock));
            assert_eq!(refusal, ("ERR_VMCLOCK_SYSTEM", Some(22)));
        }
        let refusal = refused(calls.cross_timestamp());
        assert_eq!(refusal, ("ERR_VMCLOCK_SYSTEM", Some(22)));
    }

    #[test]
    fn injected_eopnotsupp_cross_timestamps_are_not_supported() {
        let calls = calls(|_| Err(Errno::OPNOTSUPP));
        let refusal = refused(calls.cross_timestamp());
        assert_eq!(refusal, ("ERR_VMCLOCK_NOT_SUPPORTED", Some(95)));
    }

    #[test]
    fn injected_enodev_a_removed_clock_is_distinguished_from_another_clocksource() {
        let mut calls = calls(|_| Err(Errno::NODEV));
        assert_eq!(
            refused(calls.cross_timestamp()).0,
            "ERR_VMCLOCK_CLOCKSOURCE"
        );
        calls.device.resolution = Err(Errno::NODEV);
        calls.device.time = Err(Errno::NODEV);
        for code in [
            refused(calls.cross_timestamp()).0,
            refused(calls.capabilities()).0,
            refused(calls.now_ns()).0,
            refused(calls.samples(1, SampledClock::Realtime)).0,
        ] {
            assert_eq!(code, "ERR_VMCLOCK_VANISHED");
        }
    }

    #[test]
    fn injected_errors_of_a_driver_keep_their_error_numbers() {
        let mut calls = calls(|_| Err(Errno::IO));
        assert_eq!(
            refused(calls.cross_timestamp()),
            ("ERR_VMCLOCK_SYSTEM", Some(5))
        );
        calls.device.time = Err(Errno::TIMEDOUT);
        assert_eq!(refused(calls.now_ns()), ("ERR_VMCLOCK_TIMEOUT", Some(110)));
    }

    #[test]
    fn injected_times_that_do_not_fit_are_out_of_range() {
        let mut calls = calls(|_| Ok(()));
        // The driver gives such a time if the counter is behind the page's reference.
        calls.device.time = Ok(RawTime::new(20_241_737_000, 0));
        assert_eq!(refused(calls.now_ns()).0, "ERR_VMCLOCK_OUT_OF_RANGE");
    }

    #[test]
    fn injected_step_back_within_a_bracket_repeats_the_samples() {
        let mut calls = calls(|_| Ok(()));
        // Once, the second sample's last reading is earlier than its first.
        let steps = [100, 100, 100, 100, 100, -300];
        calls.device.steps =
            RefCell::new(Box::new(steps.into_iter().chain(std::iter::repeat(100))));
        assert_eq!(calls.samples(2, SampledClock::Realtime).unwrap().len(), 2);
        assert_eq!(calls.device.asked.take().len(), 2);

        calls.device.steps = RefCell::new(Box::new(std::iter::repeat(-100)));
        let refusal = refused(calls.samples(2, SampledClock::Realtime));
        assert_eq!(refusal.0, "ERR_VMCLOCK_STEPPED");
    }

    #[test]
    fn injected_realtime_samples_of_a_clock_that_was_not_requested_are_refused() {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let first = i64::try_from(now.as_nanos()).unwrap() - 1_000_000_000;
        for clock in [SampledClock::Monotonic, SampledClock::MonotonicRaw] {
            // Once all three are CLOCK_REALTIME, and once the last one is the requested clock.
            for rest in [0, -first] {
                let mut calls = calls(|_| Ok(()));
                let steps = (0..).map(move |at| match at % 3 {
                    0 => first,
                    1 => 0,
                    _ => rest,
                });
                calls.device.steps = RefCell::new(Box::new(steps));
                let refusal = refused(calls.samples(1, clock));
                assert_eq!(refusal.0, "ERR_VMCLOCK_NOT_SUPPORTED");
            }
        }
    }

    #[test]
    fn one_call_takes_1_to_25_samples() {
        let calls = calls(|_| Ok(()));
        for count in [0, 26, u32::MAX] {
            let error = calls.samples(count, SampledClock::Realtime).unwrap_err();
            assert_eq!(error.code(), "ERR_VMCLOCK_INVALID_ARGUMENT");
        }
        assert_eq!(calls.device.asked.take(), []);
    }
}
