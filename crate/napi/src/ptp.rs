//! The kernel's PTP clocks.

use std::cell::RefCell;

use napi::bindgen_prelude::{BigInt, Either};
use napi_derive::napi;
use vmclock::Error;
use vmclock::ptp::{
    Attributes, CounterBracket, PtpClock, Sample, SampledClock, SystemCounter, list,
};

use crate::clock::NativeClock;
use crate::failure::{Failure, Outcome, outcome};
use crate::page::{own, text};

#[napi(object, object_from_js = false)]
pub struct NativePtpDevice {
    pub path: String,
    pub name: String,
}

#[napi(object, object_from_js = false)]
pub struct NativePtpCapabilities {
    pub max_adjustment_ppb: i32,
    pub max_phase_adjustment_ns: i32,
    pub alarms: u32,
    pub external_timestamps: u32,
    pub periodic_outputs: u32,
    pub pins: u32,
    pub pulse_per_second: bool,
    pub cross_timestamping: bool,
    pub phase_adjustment: bool,
    pub extended_attributes: bool,
    pub precise_attributes: bool,
}

#[napi(object, object_from_js = false)]
pub struct NativePtpAttributes {
    pub error_bound_ns: Either<BigInt, ()>,
    pub timescale: Either<String, ()>,
    pub status: Either<String, ()>,
}

impl From<Attributes> for NativePtpAttributes {
    fn from(attributes: Attributes) -> Self {
        Self {
            error_bound_ns: own(attributes
                .error_bound_ns
                .map(|ns| BigInt::from(u64::from(ns)))),
            timescale: text(attributes.timescale),
            status: text(attributes.status),
        }
    }
}

#[napi(object, object_from_js = false)]
pub struct NativePtpCounter {
    pub kind: String,
    pub value: BigInt,
}

impl From<SystemCounter> for NativePtpCounter {
    fn from(counter: SystemCounter) -> Self {
        Self {
            kind: counter.kind.to_string(),
            value: counter.value.into(),
        }
    }
}

#[napi(object, object_from_js = false)]
pub struct NativePtpCounters {
    pub kind: String,
    pub before: BigInt,
    pub after: BigInt,
}

impl From<CounterBracket> for NativePtpCounters {
    fn from(counters: CounterBracket) -> Self {
        Self {
            kind: counters.kind.to_string(),
            before: counters.before.into(),
            after: counters.after.into(),
        }
    }
}

#[napi(object, object_from_js = false)]
pub struct NativeCrossTimestamp {
    pub device_ns: BigInt,
    pub realtime_ns: BigInt,
    pub monotonic_raw_ns: BigInt,
    pub attributes: Either<NativePtpAttributes, ()>,
    pub counter: Either<NativePtpCounter, ()>,
}

#[napi(object, object_from_js = false)]
pub struct NativePtpSample {
    pub before_ns: BigInt,
    pub device_ns: BigInt,
    pub after_ns: BigInt,
    pub offset_ns: BigInt,
    pub max_error_ns: BigInt,
    pub attributes: Either<NativePtpAttributes, ()>,
    pub counters: Either<NativePtpCounters, ()>,
}

impl From<Sample> for NativePtpSample {
    fn from(sample: Sample) -> Self {
        Self {
            before_ns: sample.before_ns.into(),
            device_ns: sample.device_ns.into(),
            after_ns: sample.after_ns.into(),
            offset_ns: sample.offset_ns.into(),
            max_error_ns: sample.max_error_ns.into(),
            attributes: own(sample.attributes.map(NativePtpAttributes::from)),
            counters: own(sample.counters.map(NativePtpCounters::from)),
        }
    }
}

#[napi]
pub struct NativePtpClock {
    clock: RefCell<Option<PtpClock>>,
    path: String,
    name: Option<String>,
}

#[napi]
pub fn open_ptp_clock(path: String) -> Outcome<NativePtpClock> {
    outcome(PtpClock::open(path).map(NativePtpClock::new))
}

#[napi]
pub fn find_ptp_clock(name: String) -> Outcome<NativePtpClock> {
    outcome(PtpClock::find(&name).map(NativePtpClock::new))
}

#[napi]
pub fn list_ptp_clocks() -> Vec<NativePtpDevice> {
    list()
        .into_iter()
        .map(|device| NativePtpDevice {
            path: device.path.to_string_lossy().into_owned(),
            name: device.name,
        })
        .collect()
}

#[napi]
impl NativePtpClock {
    fn new(clock: PtpClock) -> Self {
        let path = clock.path().to_string_lossy().into_owned();
        let name = clock.name().map(str::to_owned);
        Self {
            clock: RefCell::new(Some(clock)),
            path,
            name,
        }
    }

    fn with<T>(&self, call: impl FnOnce(&PtpClock) -> Result<T, Error>) -> Result<T, Failure> {
        match self.clock.borrow().as_ref() {
            Some(clock) => call(clock).map_err(Failure::from),
            None => Err(Failure::closed("PTP clock")),
        }
    }

    #[napi(getter)]
    pub fn path(&self) -> String {
        self.path.clone()
    }

    /// Empty if the name is unknown.
    #[napi(getter)]
    pub fn name(&self) -> String {
        self.name.clone().unwrap_or_default()
    }

    #[napi]
    pub fn capabilities(&self) -> Outcome<NativePtpCapabilities> {
        outcome(self.with(|clock| {
            let caps = clock.capabilities()?;
            Ok(NativePtpCapabilities {
                max_adjustment_ppb: caps.max_adjustment_ppb,
                max_phase_adjustment_ns: caps.max_phase_adjustment_ns,
                alarms: caps.alarms,
                external_timestamps: caps.external_timestamps,
                periodic_outputs: caps.periodic_outputs,
                pins: caps.pins,
                pulse_per_second: caps.pulse_per_second,
                cross_timestamping: caps.cross_timestamping,
                phase_adjustment: caps.phase_adjustment,
                extended_attributes: caps.extended_attributes,
                precise_attributes: caps.precise_attributes,
            })
        }))
    }

    #[napi]
    pub fn now_ns(&self) -> Outcome<BigInt> {
        outcome(self.with(|clock| Ok(clock.now_ns()?.into())))
    }

    #[napi]
    pub fn cross_timestamp(&self) -> Outcome<NativeCrossTimestamp> {
        outcome(self.with(|clock| {
            let stamp = clock.cross_timestamp()?;
            Ok(NativeCrossTimestamp {
                device_ns: stamp.device_ns.into(),
                realtime_ns: stamp.realtime_ns.into(),
                monotonic_raw_ns: stamp.monotonic_raw_ns.into(),
                attributes: own(stamp.attributes.map(NativePtpAttributes::from)),
                counter: own(stamp.counter.map(NativePtpCounter::from)),
            })
        }))
    }

    #[napi]
    pub fn samples(&self, count: u32, clock: String) -> Outcome<Vec<NativePtpSample>> {
        outcome(self.with(|ptp| {
            let clock = match clock.as_str() {
                "realtime" => SampledClock::Realtime,
                "monotonic" => SampledClock::Monotonic,
                "monotonic-raw" => SampledClock::MonotonicRaw,
                name => match name
                    .strip_prefix("aux")
                    .and_then(|number| number.parse().ok())
                {
                    Some(number) => SampledClock::Auxiliary(number),
                    None => {
                        return Err(Error::invalid_argument(
                            "the clock must be realtime, monotonic, monotonic-raw or aux0 to aux7",
                        ));
                    }
                },
            };
            let samples = ptp.samples(count, clock)?;
            Ok(samples.into_iter().map(NativePtpSample::from).collect())
        }))
    }

    /// `tai`, `utc` or `unknown`.
    #[napi]
    pub fn timescale(&self, page: &NativeClock) -> Outcome<String> {
        let timescale = page.with_clock(|page| {
            self.with(|clock| {
                let timescale = clock.timescale(page)?;
                Ok(timescale.map_or_else(|| "unknown".to_owned(), |scale| scale.to_string()))
            })
        });
        outcome(timescale)
    }

    #[napi]
    pub fn close(&self) {
        drop(self.clock.take());
    }
}
