//! How JavaScript enters a call: the callbacks that Node-API knows, and what they answer.
//!
//! A callback answers `undefined` for success, `false` where the answer is no, or a `Failure`. It answers `true` for
//! a success after a restore of the machine that JavaScript does not know of yet. It never throws, unless not even
//! the answer could be made.

use std::ffi::c_void;
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{AtomicPtr, Ordering};

use napi::bindgen_prelude::{Result, ToNapiValue};
use napi::{JsError, sys};
use vmclock::clock::fast::{Order, SlowPath};

use super::Hot;
use super::calls::HotCall;
use crate::clones;
use crate::failure::Failure;
use crate::property::{check, define};

/// The clocks that have callbacks of their own, which know where to look for their [`Hot`].
///
/// Every other callback asks Node-API for its function's data, which takes 2 to 3 ns. Without the places two
/// rows of the benchmark miss their floors (AMD EPYC, Node 20.20 and 26.10, three runs each). `readInto()` takes
/// 1.40 to 1.46 times as long as its peer, where the floor is 1.4; with the places 1.27 to 1.40, mostly 1.31.
/// `isContinuous()` takes 1.60 to 1.70 times as long as its peer, where the floor is 1.6; with the places 1.25 to
/// 1.33. The instances take 67 kB of the addon.
static PLACES: [AtomicPtr<Hot>; PLACE_COUNT] =
    [const { AtomicPtr::new(ptr::null_mut()) }; PLACE_COUNT];
const PLACE_COUNT: usize = 16;

/// A place among [`PLACES`], or none. Given back when it is dropped.
pub(super) struct Place(Option<usize>);

impl Place {
    /// Stores `hot` in a free place, if there is one.
    ///
    /// The place belongs to the `Hot` that owns the result. So the address in it is valid as long as
    /// that `Hot` is: until the last function that could enter [`invoke_at`] is gone.
    pub(super) fn take(hot: *mut Hot) -> Self {
        Self(PLACES.iter().position(|place| {
            place
                .compare_exchange(ptr::null_mut(), hot, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        }))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(place) = self.0.and_then(|place| PLACES.get(place)) {
            place.store(ptr::null_mut(), Ordering::Release);
        }
    }
}

/// The callback of a call for a place: one of sixteen instances of `invoke_at`, or `invoke`.
macro_rules! callback_at {
    ($call:ty, $order:ty, $place:expr, [$($number:literal)*]) => {
        match $place {
            $(Place(Some($number)) => invoke_at::<$call, $order, $number>,)*
            _ => invoke::<$call, $order>,
        }
    };
}

/// The callback of `T` for the clock in its own place.
#[allow(
    clippy::indexing_slicing,
    reason = "both are constants, and the assertion is made by the compiler"
)]
unsafe extern "C" fn invoke_at<T: HotCall, O: Order, const PLACE: usize>(
    env: sys::napi_env,
    _info: sys::napi_callback_info,
) -> sys::napi_value {
    const { assert!(PLACE < PLACE_COUNT) };
    // Relaxed: this thread stored the address itself.
    let hot = PLACES[PLACE].load(Ordering::Relaxed);
    // SAFETY: `add_function` gives this callback only to functions of the `Hot` in this place. Each
    // of them keeps the `Hot` alive as long as it can be called, and the `Hot` keeps its place.
    let hot: &Hot = unsafe { &*hot };
    call::<T, O>(env, hot)
}

/// The callback of `T` for clocks without a place.
unsafe extern "C" fn invoke<T: HotCall, O: Order>(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> sys::napi_value {
    let mut data: *mut c_void = ptr::null_mut();
    // SAFETY: Node-API passes its own `env` and `info`; null pointers mean "not asked for".
    let status = unsafe {
        sys::napi_get_cb_info(
            env,
            info,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            &mut data,
        )
    };
    if status != sys::Status::napi_ok || data.is_null() {
        return fail(env, Failure::closed("clock"));
    }
    // SAFETY: `data` is what `add_function` gave: a `Hot` that the function's own finalizer keeps
    // alive for as long as the function can be called.
    let hot: &Hot = unsafe { &*data.cast::<Hot>() };
    call::<T, O>(env, hot)
}

/// The fast path, with tail calls to the slow one. It calls nothing else, so it saves no register.
#[inline(always)]
fn call<T: HotCall, O: Order>(env: sys::napi_env, hot: &Hot) -> sys::napi_value {
    let result = match hot.clock.try_borrow_mut() {
        Ok(mut clock) => match clock.as_mut() {
            Some(clock) => T::fast::<O>(clock, hot),
            None => Err(SlowPath::FromPage),
        },
        Err(_) => Err(SlowPath::FromPage),
    };
    // The borrow has ended.
    match result {
        Ok(_) => ptr::null_mut(),
        Err(SlowPath::FromPage) => slow_from_page::<T>(env, hot),
        Err(SlowPath::FromCounter(counter)) => slow_from_counter::<T>(env, hot, counter),
    }
}

// One function for each variant, so that the fast path need not build a `SlowPath` in memory.
#[inline(never)]
fn slow_from_counter<T: HotCall>(env: sys::napi_env, hot: &Hot, counter: u64) -> sys::napi_value {
    finish::<T>(env, hot, SlowPath::FromCounter(counter))
}

#[cold]
#[inline(never)]
fn slow_from_page<T: HotCall>(env: sys::napi_env, hot: &Hot) -> sys::napi_value {
    finish::<T>(env, hot, SlowPath::FromPage)
}

/// The slow path and its answer.
#[inline(never)]
fn finish<T: HotCall>(env: sys::napi_env, hot: &Hot, slow_path: SlowPath) -> sys::napi_value {
    let result = match hot.clock.try_borrow_mut() {
        Ok(mut clock) => match clock.as_mut() {
            Some(clock) => T::slow(clock, hot, slow_path).map_err(Failure::from),
            None => Err(Failure::closed("clock")),
        },
        // Unreachable by the rules of this room; a typed answer all the same.
        Err(_) => Err(Failure::closed("clock")),
    };
    match result {
        Ok(true) if T::IS_REPEATABLE && clones::is_restore_unknown() => boolean(env, true),
        Ok(true) => ptr::null_mut(),
        Ok(false) => boolean(env, false),
        Err(failure) => fail(env, failure),
    }
}

fn boolean(env: sys::napi_env, value: bool) -> sys::napi_value {
    let mut answer: sys::napi_value = ptr::null_mut();
    // SAFETY: called within a callback on the thread of `env`; the result is written.
    let status = unsafe { sys::napi_get_boolean(env, value, &mut answer) };
    match check("napi_get_boolean", status) {
        Ok(()) => answer,
        Err(error) => throw(env, error),
    }
}

#[cold]
fn fail(env: sys::napi_env, failure: Failure) -> sys::napi_value {
    // SAFETY: called within a callback on the thread of `env`.
    match unsafe { Failure::to_napi_value(env, failure) } {
        Ok(object) => object,
        Err(error) => throw(env, error),
    }
}

/// Throws, where not even an answer could be made. To return nothing would mean success, and the slots
/// hold an older time.
#[cold]
fn throw(env: sys::napi_env, error: napi::Error) -> sys::napi_value {
    // SAFETY: called within a callback on the thread of `env`.
    unsafe { JsError::from(error).throw_into(env) };
    ptr::null_mut()
}

/// Gives back the count that a function held: the function's finalizer.
unsafe extern "C" fn release(_env: sys::napi_env, data: *mut c_void, _hint: *mut c_void) {
    // SAFETY: `data` came from `Rc::into_raw` in `add_function`, and a finalizer runs once.
    drop(unsafe { Rc::from_raw(data.cast::<Hot>()) });
}

/// Adds `T` to `object` as a function with a count of its own on `hot`.
pub(super) fn add_function<T: HotCall, O: Order>(
    env: sys::napi_env,
    object: sys::napi_value,
    hot: &Rc<Hot>,
) -> Result<()> {
    let data = Rc::into_raw(Rc::clone(hot)).cast_mut().cast::<c_void>();
    let mut function: sys::napi_value = ptr::null_mut();
    // SAFETY: the name is a C string of that length; `data` is what `invoke` expects.
    let created = unsafe {
        sys::napi_create_function(
            env,
            T::NAME.as_ptr(),
            T::NAME.count_bytes().cast_signed(),
            Some(callback_at!(T, O, &hot.place, [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15])),
            data,
            &mut function,
        )
    };
    let finalized = if created == sys::Status::napi_ok {
        // SAFETY: `function` was just made; from here on its finalizer owns the count in `data`.
        unsafe {
            sys::napi_add_finalizer(
                env,
                function,
                data,
                Some(release),
                ptr::null_mut(),
                ptr::null_mut(),
            )
        }
    } else {
        created
    };
    if finalized != sys::Status::napi_ok {
        // The function is dropped with its handle scope before anybody could call it.
        // SAFETY: no finalizer took over the count that `into_raw` made above.
        drop(unsafe { Rc::from_raw(data.cast::<Hot>()) });
        return check("napi_create_function", finalized);
    }
    define(env, object, T::NAME, function)
}
