//! Opening a clock, and every call that is not in [`crate::hot`].

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use napi::bindgen_prelude::{BigInt, Either, Function, Object, Result};
use napi::threadsafe_function::UnknownReturnValue;
use napi::{Env, sys};
use napi_derive::napi;
use vmclock::choose::{self, Choice, Found, Opened, Pages, TimeSource, Timing};
use vmclock::clock::guard::GuardState;
use vmclock::counter::CpuCounter;
use vmclock::publish::From as SourceChoice;
use vmclock::snapshot::Abi;
use vmclock::{Continuity, Error, Options, Timescale, VmClock};

use crate::failure::{Failure, Outcome, outcome};
use crate::hot::{ClockBox, c_calls, hot_calls};
use crate::page::{NativeSnapshot, own};
use crate::typed_array::Elements64;
use crate::watcher::NativeWatcher;

#[napi(object, object_to_js = false, use_nullable = true)]
pub struct NativeClockOptions {
    /// `utc`, `tai`, `monotonic`, `utc-noon-linear`, `utc-sls` or `page`.
    pub timescale: String,
    pub rfc_v4: bool,
    /// Parts per billion, 0 to 10^9.
    pub assumed_drift_ppb: Option<u32>,
    /// Unsigned 64-bit.
    pub assumed_error_ns: Option<BigInt>,
    pub require_synchronized: bool,
    pub non_decreasing: bool,
    pub trusted_uids: Vec<u32>,
    pub allow_unguarded: bool,
    pub max_age_ms: Option<f64>,
    /// Unsigned 64-bit.
    pub error_limit_ns: Option<BigInt>,
    /// True if the calls that stamp read the counter in order.
    pub ordered: bool,
    /// True if the clock gets a name, by which the C interface finds it.
    pub named: bool,
}

/// The pages to choose from.
#[napi(object, object_to_js = false, use_nullable = true)]
pub struct NativeChoice {
    /// The value of VMCLOCK_PATH. The native part does not read the environment, which threads may change.
    pub environment_path: Option<String>,
    /// `auto`, `page` or `process`.
    pub source: String,
    /// `auto`, `kernel`, `phc` or `clockbound`.
    pub from: String,
    /// Unsigned 64-bit.
    pub host_error_ns: Option<BigInt>,
    pub allow_untrusted_counter: bool,
}

fn timescale(name: &str) -> std::result::Result<Timescale, Error> {
    Timescale::from_name(name).ok_or_else(|| {
        Error::invalid_argument(format!("there is no timescale \"{}\"", name.escape_debug()))
    })
}

impl TryFrom<NativeClockOptions> for Options {
    type Error = Error;

    fn try_from(options: NativeClockOptions) -> std::result::Result<Self, Error> {
        Ok(Self {
            timescale: timescale(&options.timescale)?,
            abi: if options.rfc_v4 {
                Abi::RfcV4
            } else {
                Abi::Uapi
            },
            assumed_drift_ppb: options.assumed_drift_ppb,
            assumed_error_ns: options
                .assumed_error_ns
                .map(|ns| unsigned_ns(ns, "the assumed error"))
                .transpose()?,
            require_synchronized: options.require_synchronized,
            non_decreasing: options.non_decreasing,
            trusted_uids: options.trusted_uids,
            allow_unguarded: options.allow_unguarded,
            // The choice of a page decides it.
            source: None,
            max_age: options.max_age_ms.map(max_age).transpose()?,
            error_limit_ns: options
                .error_limit_ns
                .map(|ns| unsigned_ns(ns, "the error limit"))
                .transpose()?,
        })
    }
}

fn max_age(ms: f64) -> std::result::Result<Duration, Error> {
    Duration::try_from_secs_f64(ms / 1000.0)
        .map_err(|_| Error::invalid_argument("the maximum age must be milliseconds"))
}

/// Returns a number of nanoseconds of 64 bits without sign.
pub(crate) fn unsigned_ns(ns: BigInt, what: &str) -> std::result::Result<u64, Error> {
    match ns.get_u64() {
        (false, ns, true) => Ok(ns),
        _ => Err(Error::invalid_argument(format!(
            "{what} must be 0 to 2^64 - 1 ns"
        ))),
    }
}

impl TryFrom<NativeChoice> for Choice {
    type Error = Error;

    fn try_from(choice: NativeChoice) -> std::result::Result<Self, Error> {
        let refuse = |what| Err(Error::invalid_argument(what));
        Ok(Self {
            environment_path: choice.environment_path.map(PathBuf::from),
            source: match choice.source.as_str() {
                "auto" => Pages::Auto,
                "page" => Pages::Page,
                "process" => Pages::Process,
                _ => return refuse("source is auto, page or process"),
            },
            from: source_choice(&choice.from)?,
            host_error_ns: choice
                .host_error_ns
                .map(|ns| unsigned_ns(ns, "the stated error of the host"))
                .transpose()?,
            allow_untrusted_counter: choice.allow_untrusted_counter,
        })
    }
}

/// Returns the choice of a source by its name.
pub(crate) fn source_choice(name: &str) -> std::result::Result<SourceChoice, Error> {
    SourceChoice::from_name(name)
        .ok_or_else(|| Error::invalid_argument("from is auto, kernel, phc or clockbound"))
}

/// The source of a clock's time.
#[napi(object, object_from_js = false)]
pub struct NativeTimeSource {
    /// `device`, `published`, `process` or `path`.
    pub kind: &'static str,
    pub path: Either<String, ()>,
    /// `hypervisor`, `kernel`, `phc`, `clockbound` or `unknown`.
    pub from: &'static str,
    pub guard: NativeGuard,
    /// `synchronous` or `asynchronous`; undefined for a page without a generation counter.
    pub generation: Either<&'static str, ()>,
    pub assumed: Vec<NativeAssumption>,
    /// CLOCK_REALTIME at which the page's maker began.
    pub since_ns: Either<BigInt, ()>,
}

/// How a page is guarded.
#[napi(object, object_from_js = false)]
pub struct NativeGuard {
    /// `device`, `none`, `guarded` or `unavailable`.
    pub state: &'static str,
    /// The device, if the state is `guarded`.
    pub path: Either<String, ()>,
    pub reason: Either<String, ()>,
    pub remedy: Either<String, ()>,
}

/// A part of a clock's promise that was not measured, and who answers for it.
#[napi(object, object_from_js = false)]
pub struct NativeAssumption {
    /// `time-error`, `rate-error`, `counter` or `guard`.
    pub part: &'static str,
    /// `maker`, `operator` or `caller`.
    pub by: &'static str,
}

impl From<TimeSource> for NativeTimeSource {
    fn from(source: TimeSource) -> Self {
        Self {
            kind: source.kind.name(),
            path: own(source.path.as_deref().map(shown)),
            from: source.from.name(),
            guard: source.guard.into(),
            generation: own(source.generation.map(Timing::name)),
            assumed: source
                .assumed
                .iter()
                .map(|assumption| NativeAssumption {
                    part: assumption.part.name(),
                    by: assumption.by.name(),
                })
                .collect(),
            since_ns: own(source.began_ns.map(BigInt::from)),
        }
    }
}

impl From<GuardState> for NativeGuard {
    fn from(guard: GuardState) -> Self {
        let bare = |state| Self {
            state,
            path: own(None),
            reason: own(None),
            remedy: own(None),
        };
        match guard {
            GuardState::Device => bare("device"),
            GuardState::None => bare("none"),
            GuardState::Guarded { path } => Self {
                path: own(Some(shown(&path))),
                ..bare("guarded")
            },
            GuardState::Unavailable { reason, remedy } => Self {
                reason: own(Some(reason)),
                remedy: own(Some(remedy)),
                ..bare("unavailable")
            },
        }
    }
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[napi(object)]
pub struct NativeSystemOffset {
    pub offset_ns: BigInt,
    pub max_error_ns: Option<BigInt>,
}

#[napi]
pub struct NativeClock {
    clock: Rc<ClockBox>,
    found: Found,
    path: Option<PathBuf>,
    timescale: Timescale,
    is_ordered: bool,
    has_name: bool,
    /// The clock's name for the C interface; NaN if it has none.
    name: Cell<f64>,
}

/// Opens the page at `path`, or without one the best page of `choice`.
#[napi]
pub fn open_clock(
    path: Option<String>,
    choice: NativeChoice,
    options: NativeClockOptions,
) -> Outcome<NativeClock> {
    outcome(NativeClock::open(path.as_deref(), choice, options))
}

#[napi]
impl NativeClock {
    fn open(
        path: Option<&str>,
        choice: NativeChoice,
        options: NativeClockOptions,
    ) -> std::result::Result<Self, Error> {
        let (is_ordered, has_name) = (options.ordered, options.named);
        let options = options.try_into()?;
        let Opened { clock, found } = match path {
            Some(path) => choose::open_path(Path::new(path), &options)?,
            None => choose::open(&choice.try_into()?, &options)?,
        };
        Ok(Self {
            found,
            path: clock.path().map(Path::to_path_buf),
            timescale: clock.timescale(),
            is_ordered,
            has_name,
            name: Cell::new(f64::NAN),
            clock: Rc::new(RefCell::new(Some(clock))),
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

    /// The page's path; undefined for a page of this process.
    #[napi(getter)]
    pub fn path(&self) -> Either<String, ()> {
        own(self.path.as_deref().map(shown))
    }

    #[napi]
    pub fn time_source(&self) -> Outcome<NativeTimeSource> {
        outcome(self.with(|clock| Ok(self.found.time_source(clock).into())))
    }

    /// The timescale of all readings. It is never `page`.
    #[napi(getter)]
    pub fn timescale(&self) -> &'static str {
        self.timescale.name()
    }

    /// Makes the raw callbacks of the clock, with new arrays at every access. `HotCalls` in `ts/native.ts`
    /// describes them.
    #[napi(getter)]
    pub fn hot<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        let (object, name) = hot_calls(env, &self.clock, self.is_ordered, self.has_name)?;
        self.name.set(name);
        Ok(object)
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

    /// Converts all counters or none. `vm_generation` is absent where the token has none.
    #[napi]
    pub fn convert_into(
        &self,
        env: &Env,
        #[napi(ts_arg_type = "BigUint64Array")] counters: Object,
        #[napi(ts_arg_type = "BigInt64Array")] out: Object,
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
            // Every counter is converted before a time is stored. So a failure stores nothing, and the two
            // arrays may share their memory.
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

    /// Starts a watcher, which keeps nothing alive. It calls `callback` when there is something to `take`.
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

    /// Unmaps the page, unless a watcher shares the mapping. Afterwards every call fails with
    /// ERR_VMCLOCK_CLOSED.
    #[napi]
    pub fn close(&self) {
        drop(self.clock.take());
        // Otherwise the name is given back when the callbacks are collected, and a program may close very many clocks
        // before.
        c_calls::give_back(self.name.get());
    }
}

#[napi]
pub fn list_pages(environment_path: Option<String>) -> Vec<String> {
    choose::list(environment_path.map(PathBuf::from))
        .iter()
        .map(|path| shown(path))
        .collect()
}

#[napi(object, object_from_js = false)]
pub struct CounterFacts {
    /// The page's number for this machine's counter: 1 on x86-64 (TSC), 0 on aarch64 (CNTVCT_EL0).
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
