//! The JavaScript environments that want to be woken after a notice. They look for themselves.

use std::sync::{Mutex, MutexGuard, PoisonError};

use napi::Status;
use napi::bindgen_prelude::{Function, Result};
use napi::threadsafe_function::{
    ThreadsafeFunction, ThreadsafeFunctionCallMode, UnknownReturnValue,
};

/// A call of JavaScript without arguments: weak, with a queue of one call.
type Call = ThreadsafeFunction<(), UnknownReturnValue, (), Status, false, true, 1>;

static LISTENERS: Mutex<Vec<Call>> = Mutex::new(Vec::new());

/// Adds an environment. It is removed when it has ended.
pub(super) fn add(callback: &Function<'_, (), UnknownReturnValue>) -> Result<()> {
    let call = callback
        .build_threadsafe_function::<()>()
        .weak::<true>()
        .max_queue_size::<1>()
        .build()?;
    listeners().push(call);
    Ok(())
}

/// Wakes all environments, from any thread.
pub(super) fn wake_all() {
    // A full queue holds a call already, which comes after this notice too.
    listeners()
        .retain(|call| call.call((), ThreadsafeFunctionCallMode::NonBlocking) != Status::Closing);
}

fn listeners() -> MutexGuard<'static, Vec<Call>> {
    // Every statement leaves the list consistent, so a panic elsewhere does no harm.
    LISTENERS.lock().unwrap_or_else(PoisonError::into_inner)
}
