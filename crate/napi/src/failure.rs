//! Errors as values: what a failed call returns.

use std::borrow::Cow;

use napi::bindgen_prelude::Either;
use napi_derive::napi;
use vmclock::{Error, choose};

/// The failure of a call. `ts/errors.ts` makes a `VmClockError` of it.
#[napi(object, object_from_js = false)]
pub struct Failure {
    /// Always true: distinguishes a failure from a result.
    #[napi(ts_type = "true")]
    pub failed: bool,
    pub code: &'static str,
    /// The fault.
    pub message: String,
    /// The remedy.
    pub remedy: Option<String>,
    pub path: Option<String>,
    pub errno: Option<i32>,
    pub syscall: Option<&'static str>,
}

impl From<Error> for Failure {
    #[cold]
    fn from(error: Error) -> Self {
        Self {
            failed: true,
            code: error.code(),
            message: error.to_string(),
            remedy: match error {
                Error::NoTime { .. } => Some(choose::no_time_remedy()),
                _ => error.remedy().map(Cow::into_owned),
            },
            path: error.path().map(|path| path.to_string_lossy().into_owned()),
            errno: error.errno(),
            syscall: error.syscall(),
        }
    }
}

impl Failure {
    /// The failure of a call on a closed object.
    #[cold]
    pub(crate) fn closed(what: &str) -> Self {
        Self {
            remedy: Some("open a new one".to_owned()),
            ..Self::new("ERR_VMCLOCK_CLOSED", format!("this {what} is closed"))
        }
    }

    /// The failure of an argument that the facade should have refused.
    #[cold]
    pub(crate) fn argument(message: &str) -> Self {
        Self::new("ERR_VMCLOCK_INVALID_ARGUMENT", message.to_owned())
    }

    /// The failure of a call that this system or runtime cannot serve.
    #[cold]
    pub(crate) fn unsupported(message: String, remedy: &str) -> Self {
        Self {
            remedy: Some(remedy.to_owned()),
            ..Self::new("ERR_VMCLOCK_UNSUPPORTED", message)
        }
    }

    fn new(code: &'static str, message: String) -> Self {
        Self {
            failed: true,
            code,
            message,
            remedy: None,
            path: None,
            errno: None,
            syscall: None,
        }
    }
}

/// A result or a failure, for JavaScript.
pub(crate) type Outcome<T> = Either<T, Failure>;

/// Converts a result for JavaScript.
pub(crate) fn outcome<T>(result: Result<T, impl Into<Failure>>) -> Outcome<T> {
    match result {
        Ok(value) => Either::A(value),
        Err(error) => Either::B(error.into()),
    }
}
