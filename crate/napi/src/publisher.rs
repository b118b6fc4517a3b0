//! Publishes a page from this machine's own clock.

use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

use napi::bindgen_prelude::{BigInt, Either};
use napi_derive::napi;
use vmclock::device::Unavailable;
use vmclock::publish::{Generation, PublishOptions, Publisher, Shape};
use vmclock::{Error, Maintenance};

use crate::clock::unsigned_ns;
use crate::failure::{Failure, Outcome, outcome};
use crate::page::{NativeNoBound, own};

#[napi(object, object_to_js = false, use_nullable = true)]
pub struct NativePublisherOptions {
    /// `time`, `marker` or `marker-and-generation`.
    pub shape: String,
    /// `auto`, `always` or `never`.
    pub generation: String,
    /// `auto`, `kernel`, `phc` or `clockbound`.
    pub from: String,
    pub interval_ms: Option<f64>,
    pub max_error_ns: Option<BigInt>,
    pub host_error_ns: Option<BigInt>,
    pub max_error_after_migration: bool,
    pub allow_unguarded: bool,
    pub keep_on_exit: bool,
    pub tai_minus_utc_sec: Option<i32>,
    /// The wander of the counter's rate that is allowed for, in parts per billion.
    pub wander_ppb: Option<u32>,
    pub offset_ns: Option<BigInt>,
    pub allow_untrusted_counter: bool,
    pub mode: Option<u32>,
}

#[napi(object, object_from_js = false)]
pub struct NativeGuardUnavailable {
    pub path: String,
    pub reason: String,
    pub remedy: String,
}

impl From<&Unavailable> for NativeGuardUnavailable {
    fn from(unavailable: &Unavailable) -> Self {
        Self {
            path: unavailable.path.to_string_lossy().into_owned(),
            reason: unavailable.reason.clone(),
            remedy: unavailable.remedy.clone(),
        }
    }
}

/// The source of a publisher's time.
#[napi(object, object_from_js = false)]
pub struct NativePublisherSource {
    /// `kernel`, `phc`, `clockbound`, or `unknown` for a page without time.
    pub from: &'static str,
    pub passed_over: Vec<NativePassedOver>,
}

/// A better source that is not used, and why.
#[napi(object, object_from_js = false)]
pub struct NativePassedOver {
    pub from: &'static str,
    /// The code of its error.
    pub code: Either<&'static str, ()>,
    pub reason: String,
}

fn refused(what: &str) -> Error {
    Error::invalid_argument(what)
}

impl TryFrom<NativePublisherOptions> for PublishOptions {
    type Error = Error;

    fn try_from(options: NativePublisherOptions) -> Result<Self, Error> {
        let default = Self::default();
        let interval = match options.interval_ms {
            Some(ms) => Duration::try_from_secs_f64(ms / 1000.0)
                .map_err(|_| refused("the interval must be milliseconds"))?,
            None => default.interval,
        };
        let stated = |ns: Option<BigInt>, what| ns.map(|ns| unsigned_ns(ns, what)).transpose();
        let max_error_ns = stated(options.max_error_ns, "the stated maximum error")?;
        let host_error_ns = stated(options.host_error_ns, "the stated error of the host")?;
        let offset_ns = match options.offset_ns {
            Some(ns) => match ns.get_i64() {
                (ns, true) => ns,
                _ => return Err(refused("the offset must be an hour at most")),
            },
            None => default.offset_ns,
        };
        let tai_minus_utc_sec = options
            .tai_minus_utc_sec
            .map(i16::try_from)
            .transpose()
            .map_err(|_| refused("TAI - UTC must be 10 to 255 s"))?;
        Ok(Self {
            shape: match options.shape.as_str() {
                "time" => Shape::Time,
                "marker" => Shape::Marker,
                "marker-and-generation" => Shape::MarkerAndGeneration,
                _ => return Err(refused("shape is time, marker or marker-and-generation")),
            },
            generation: match options.generation.as_str() {
                "auto" => Generation::Auto,
                "always" => Generation::Always,
                "never" => Generation::Never,
                _ => return Err(refused("generation is auto, always or never")),
            },
            from: crate::clock::source_choice(&options.from)?,
            interval,
            max_error_ns,
            host_error_ns,
            max_error_after_migration: options.max_error_after_migration,
            allow_unguarded: options.allow_unguarded,
            keep_on_exit: options.keep_on_exit,
            tai_minus_utc_sec,
            wander_ppb: options.wander_ppb.unwrap_or(default.wander_ppb),
            offset_ns,
            allow_untrusted_counter: options.allow_untrusted_counter,
            mode: options.mode.unwrap_or(default.mode),
        })
    }
}

#[napi]
pub struct NativePublisher {
    publisher: RefCell<Option<Publisher>>,
    path: String,
}

#[napi]
pub fn create_publisher(
    path: Option<String>,
    options: NativePublisherOptions,
) -> Outcome<NativePublisher> {
    outcome(NativePublisher::create(path.as_deref(), options))
}

#[napi]
impl NativePublisher {
    fn create(path: Option<&str>, options: NativePublisherOptions) -> Result<Self, Error> {
        let path = Path::new(path.unwrap_or(vmclock::page::PUBLISHED_PATH));
        let publisher = Publisher::create(path, options.try_into()?)?;
        let path = publisher.path().to_string_lossy().into_owned();
        Ok(Self {
            publisher: RefCell::new(Some(publisher)),
            path,
        })
    }

    fn with(&self, call: impl FnOnce(&Publisher) -> Result<(), Error>) -> Outcome<()> {
        outcome(match self.publisher.borrow().as_ref() {
            Some(publisher) => call(publisher).map_err(Failure::from),
            None => Err(Failure::closed("publisher")),
        })
    }

    #[napi(getter)]
    pub fn path(&self) -> String {
        self.path.clone()
    }

    #[napi]
    pub fn updates(&self) -> BigInt {
        self.publisher
            .borrow()
            .as_ref()
            .map_or(0, Publisher::updates)
            .into()
    }

    #[napi]
    pub fn cpu_time_ns(&self) -> BigInt {
        self.publisher
            .borrow()
            .as_ref()
            .map_or(0, Publisher::cpu_time_ns)
            .into()
    }

    /// Why the publisher had to stop by itself, if it had to.
    #[napi]
    pub fn failure(&self) -> Either<String, ()> {
        let publisher = self.publisher.borrow();
        let reason = publisher.as_ref().and_then(Publisher::failure);
        // napi would convert `None` to null.
        reason.map_or(Either::B(()), Either::A)
    }

    #[napi]
    pub fn bound_unavailable(&self) -> Either<NativeNoBound, ()> {
        let publisher = self.publisher.borrow();
        let no_bound = publisher.as_ref().and_then(Publisher::no_bound);
        no_bound.map_or(Either::B(()), |no_bound| Either::A(no_bound.into()))
    }

    /// `kernel`, `phc` or `clockbound`, and the better sources that are not used.
    #[napi]
    pub fn time_source(&self) -> NativePublisherSource {
        let publisher = self.publisher.borrow();
        let publisher = publisher.as_ref();
        let passed_over = publisher.map_or_else(Vec::new, Publisher::passed_over);
        NativePublisherSource {
            from: publisher.map_or("unknown", |publisher| publisher.source().name()),
            passed_over: passed_over
                .into_iter()
                .map(|passed| NativePassedOver {
                    from: passed.kind.name(),
                    code: own(passed.code),
                    reason: passed.reason,
                })
                .collect(),
        }
    }

    #[napi]
    pub fn guard_unavailable(&self) -> Either<NativeGuardUnavailable, ()> {
        let publisher = self.publisher.borrow();
        let unavailable = publisher.as_ref().and_then(Publisher::unavailable);
        unavailable.map_or(Either::B(()), |unavailable| Either::A(unavailable.into()))
    }

    #[napi]
    pub fn disrupt(&self) -> Outcome<()> {
        self.with(Publisher::disrupt)
    }

    #[napi]
    pub fn bump_generation(&self) -> Outcome<()> {
        self.with(Publisher::bump_generation)
    }

    /// `announced` is `none`, `soon` or `imminent`.
    #[napi]
    pub fn set_maintenance(&self, announced: String) -> Outcome<()> {
        self.with(|publisher| {
            publisher.set_maintenance(match announced.as_str() {
                "none" => Maintenance::None,
                "soon" => Maintenance::Soon,
                "imminent" => Maintenance::Imminent,
                _ => return Err(refused("maintenance is none, soon or imminent")),
            })
        })
    }

    #[napi]
    pub fn close(&self) -> Outcome<()> {
        outcome(match self.publisher.take() {
            Some(publisher) => publisher.close(),
            None => Ok(()),
        })
    }
}
