//! Opening a clock, and its cold calls.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use napi::bindgen_prelude::{BigInt, Function, Object, Result};
use napi::threadsafe_function::UnknownReturnValue;
use napi::{Env, sys};
use napi_derive::napi;
use vmclock::abi::offset;
use vmclock::counter::CpuCounter;
use vmclock::snapshot::{Abi, Snapshot};
use vmclock::{Continuity, Error, Options, Timescale, VmClock};

use crate::failure::{Failure, Outcome, outcome};
use crate::hot::{ClockBox, hot_calls};
use crate::typed_array::Elements64;
use crate::watcher::NativeWatcher;

#[napi(object)]
pub struct NativeClockOptions {
    pub timescale: String,
    pub rfc_v4: bool,
    pub assumed_drift_ppb: Option<u32>,
    pub require_synchronized: bool,
    pub non_decreasing: bool,
    pub trusted_uids: Vec<u32>,
}

impl TryFrom<NativeClockOptions> for Options {
    type Error = Error;

    fn try_from(options: NativeClockOptions) -> std::result::Result<Self, Error> {
        Ok(Self {
            timescale: options.timescale.parse::<Timescale>()?,
            abi: if options.rfc_v4 {
                Abi::RfcV4
            } else {
                Abi::Uapi
            },
            assumed_drift_ppb: options.assumed_drift_ppb,
            require_synchronized: options.require_synchronized,
            non_decreasing: options.non_decreasing,
            trusted_uids: options.trusted_uids,
        })
    }
}

#[napi(object)]
pub struct NativeSystemOffset {
    pub offset_ns: BigInt,
    pub max_error_ns: Option<BigInt>,
}

#[napi(object)]
pub struct NativeSnapshot {
    pub size_bytes: u32,
    pub seq_count: u32,
    pub counter: BigInt,
    pub version: u32,
    pub counter_id: u32,
    pub time_type: u32,
    pub disruption_marker: BigInt,
    pub flags: BigInt,
    pub clock_status: Option<u32>,
    pub leap_second_smearing_hint: Option<u32>,
    pub tai_offset_sec: Option<i32>,
    pub leap_indicator: Option<u32>,
    pub counter_period_shift: Option<u32>,
    pub counter_value: Option<BigInt>,
    pub counter_period_frac_sec: Option<BigInt>,
    pub counter_period_esterror_rate_frac_sec: Option<BigInt>,
    pub counter_period_maxerror_rate_frac_sec: Option<BigInt>,
    pub time_sec: Option<BigInt>,
    pub time_frac_sec: Option<BigInt>,
    pub time_esterror_nanosec: Option<BigInt>,
    pub time_maxerror_nanosec: Option<BigInt>,
    pub vm_generation_counter: Option<BigInt>,
    pub time_type_name: String,
    pub clock_status_name: Option<String>,
    pub smearing_hint_name: Option<String>,
    pub leap_indicator_name: Option<String>,
    pub tai_minus_utc_sec: Option<i32>,
    pub max_error_ns: Option<BigInt>,
    pub est_error_ns: Option<BigInt>,
    pub vm_generation: Option<BigInt>,
    pub disruption_soon: bool,
    pub disruption_imminent: bool,
    pub time_monotonic: bool,
    pub notification_present: bool,
}

impl From<Snapshot> for NativeSnapshot {
    fn from(snapshot: Snapshot) -> Self {
        let raw = snapshot.raw;
        let byte = |at, value: u8| snapshot.covers(at, 1).then(|| u32::from(value));
        let word = |at, value: u64| snapshot.covers(at, 8).then(|| BigInt::from(value));
        Self {
            size_bytes: snapshot.size_bytes,
            seq_count: snapshot.seq_count,
            counter: snapshot.counter.into(),
            version: raw.version.into(),
            counter_id: raw.counter_id.into(),
            time_type: raw.time_type.into(),
            disruption_marker: raw.disruption_marker.into(),
            flags: raw.flags.into(),
            clock_status: byte(offset::CLOCK_STATUS, raw.clock_status),
            leap_second_smearing_hint: byte(
                offset::LEAP_SECOND_SMEARING_HINT,
                raw.leap_second_smearing_hint,
            ),
            tai_offset_sec: snapshot
                .covers(offset::TAI_OFFSET_SEC, 2)
                .then(|| raw.tai_offset_sec.into()),
            leap_indicator: byte(offset::LEAP_INDICATOR, raw.leap_indicator),
            counter_period_shift: byte(offset::COUNTER_PERIOD_SHIFT, raw.counter_period_shift),
            counter_value: word(offset::COUNTER_VALUE, raw.counter_value),
            counter_period_frac_sec: word(
                offset::COUNTER_PERIOD_FRAC_SEC,
                raw.counter_period_frac_sec,
            ),
            counter_period_esterror_rate_frac_sec: word(
                offset::COUNTER_PERIOD_ESTERROR_RATE_FRAC_SEC,
                raw.counter_period_esterror_rate_frac_sec,
            ),
            counter_period_maxerror_rate_frac_sec: word(
                offset::COUNTER_PERIOD_MAXERROR_RATE_FRAC_SEC,
                raw.counter_period_maxerror_rate_frac_sec,
            ),
            time_sec: word(offset::TIME_SEC, raw.time_sec),
            time_frac_sec: word(offset::TIME_FRAC_SEC, raw.time_frac_sec),
            time_esterror_nanosec: word(offset::TIME_ESTERROR_NANOSEC, raw.time_esterror_nanosec),
            time_maxerror_nanosec: word(offset::TIME_MAXERROR_NANOSEC, raw.time_maxerror_nanosec),
            vm_generation_counter: word(offset::VM_GENERATION_COUNTER, raw.vm_generation_counter),
            time_type_name: snapshot.time_type().to_string(),
            clock_status_name: snapshot.clock_status().map(|status| status.to_string()),
            smearing_hint_name: snapshot.smearing_hint().map(|hint| hint.to_string()),
            leap_indicator_name: snapshot.leap_indicator().map(|leap| leap.to_string()),
            tai_minus_utc_sec: snapshot.tai_minus_utc_sec().map(i32::from),
            max_error_ns: snapshot.time_max_error_ns().map(BigInt::from),
            est_error_ns: snapshot.time_est_error_ns().map(BigInt::from),
            vm_generation: snapshot.vm_generation().map(BigInt::from),
            disruption_soon: snapshot.is_disruption_soon(),
            disruption_imminent: snapshot.is_disruption_imminent(),
            time_monotonic: snapshot.is_time_monotonic(),
            notification_present: snapshot.has_notification(),
        }
    }
}

#[napi]
pub struct NativeClock {
    clock: Rc<ClockBox>,
    path: PathBuf,
}

#[napi]
pub fn open_clock(path: Option<String>, options: NativeClockOptions) -> Outcome<NativeClock> {
    outcome(NativeClock::open(path.as_deref().map(Path::new), options))
}

#[napi]
impl NativeClock {
    fn open(path: Option<&Path>, options: NativeClockOptions) -> std::result::Result<Self, Error> {
        let clock = VmClock::open(path, options.try_into()?)?;
        let path = clock.path().to_path_buf();
        Ok(Self {
            clock: Rc::new(RefCell::new(Some(clock))),
            path,
        })
    }

    /// Runs `call` on the clock, if it is still open.
    pub(crate) fn with_clock<T>(
        &self,
        call: impl FnOnce(&mut VmClock) -> std::result::Result<T, Failure>,
    ) -> std::result::Result<T, Failure> {
        match self.clock.borrow_mut().as_mut() {
            Some(clock) => call(clock),
            None => Err(Failure::closed("clock")),
        }
    }

    fn with<T>(
        &self,
        call: impl FnOnce(&mut VmClock) -> std::result::Result<T, Error>,
    ) -> std::result::Result<T, Failure> {
        self.with_clock(|clock| call(clock).map_err(Failure::from))
    }

    #[napi(getter)]
    pub fn path(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    #[napi(getter)]
    pub fn hot<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        hot_calls(env, &self.clock)
    }

    #[napi]
    pub fn has_time(&self) -> Outcome<bool> {
        outcome(self.with(VmClock::has_time))
    }

    #[napi]
    pub fn snapshot(&self) -> Outcome<NativeSnapshot> {
        outcome(self.with(|clock| Ok(clock.snapshot()?.into())))
    }

    #[napi]
    pub fn system_offset(&self) -> Outcome<NativeSystemOffset> {
        outcome(self.with(|clock| {
            let offset = clock.system_offset()?;
            Ok(NativeSystemOffset {
                offset_ns: offset.offset_ns.into(),
                max_error_ns: offset.max_error_ns.map(BigInt::from),
            })
        }))
    }

    #[napi]
    pub fn convert_into(
        &self,
        env: &Env,
        counters: Object,
        out: Object,
        disruption_marker: BigInt,
        vm_generation: Option<BigInt>,
    ) -> Outcome<()> {
        let arrays = Elements64::of(env, &counters, sys::TypedarrayType::biguint64_array).zip(
            Elements64::of(env, &out, sys::TypedarrayType::bigint64_array),
        );
        let Some((counters, out)) = arrays else {
            return outcome(Err(Failure::argument(
                "counters must be a BigUint64Array and out a BigInt64Array",
            )));
        };
        if out.length() < counters.length() {
            return outcome(Err(Failure::argument(
                "out must be at least as long as counters",
            )));
        }
        let token = Continuity {
            disruption_marker: disruption_marker.get_u64().1,
            vm_generation: vm_generation.map(|generation| generation.get_u64().1),
        };
        outcome(self.with(|clock| {
            let converter = clock.converter(&token)?;
            // All or nothing, also where the two arrays share their memory: nothing is stored
            // before everything is converted.
            let mut times = Vec::new();
            times
                .try_reserve_exact(counters.length())
                .map_err(|_| Error::InvalidArgument {
                    reason: "not enough memory to convert so many counters at once".into(),
                    remedy: Some("convert fewer at once"),
                })?;
            for index in 0..counters.length() {
                times.push(converter.epoch_ns(counters.load(index).unwrap_or_default())?);
            }
            for (index, time) in times.into_iter().enumerate() {
                out.store(index, time.cast_unsigned());
            }
            Ok(())
        }))
    }

    #[napi]
    pub fn watch(
        &self,
        env: &Env,
        interval_ms: Option<u32>,
        callback: Function<'_, (), UnknownReturnValue>,
    ) -> Outcome<NativeWatcher> {
        let interval = interval_ms.map(|ms| Duration::from_millis(ms.into()));
        outcome(
            self.with(|clock| clock.watch(interval))
                .and_then(|watcher| NativeWatcher::start(env, watcher, &callback)),
        )
    }

    #[napi]
    pub fn close(&self) {
        drop(self.clock.take());
    }
}

#[napi]
pub fn default_path() -> String {
    vmclock::page::default_path().to_string_lossy().into_owned()
}

#[napi]
pub fn list_pages() -> Vec<String> {
    vmclock::page::list()
        .iter()
        .map(|path| path.to_string_lossy().into_owned())
        .collect()
}

#[napi(object)]
pub struct CounterFacts {
    pub counter_id: u32,
    pub frequency_hz: Option<BigInt>,
    pub invariant: bool,
}

#[napi]
pub fn counter_facts() -> CounterFacts {
    let facts = CpuCounter.facts();
    CounterFacts {
        counter_id: facts.id.into(),
        frequency_hz: facts.frequency_hz.map(BigInt::from),
        invariant: facts.invariant,
    }
}
