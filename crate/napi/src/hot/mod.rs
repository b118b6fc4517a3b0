//! The calls that take a timestamp, as raw Node-API callbacks.
//!
//! - `slots`: the memory through which the calls exchange figures with JavaScript.
//! - `calls`: what each call does with a clock and its slots.
//! - `callbacks`: how JavaScript enters a call and gets its answer.
//! - `c_calls`: another way to enter the fast path of a call, for a runtime's FFI.
//! - `names`: how a caller of `c_calls` names a clock.
//!
//! # The rules of this room
//!
//! - A function of JavaScript reaches its clock through a counted pointer to a `Hot`, one count a
//!   function. Only the function's finalizer gives the count back. So the clock's box exists as long
//!   as anybody can call the function. `close` empties the box and frees nothing else.
//! - Figures pass through one array buffer, the *slots*, which JavaScript reads after the call: a
//!   callback that returned a BigInt would cost a third more. `Hot` holds a strong reference to the
//!   buffer, and the facade keeps it in private fields. So it is never collected, detached or moved.
//! - No callback runs JavaScript while it has borrowed the clock, so none is entered twice. An error
//!   object is made after the borrow has ended.
//! - Everything here belongs to one environment (a worker has its own), and so to one thread. Threads
//!   share only `callbacks::PLACES` and the table of names, and there only the thread that stored an address
//!   follows it.

pub mod c_calls;
mod callbacks;
mod calls;
mod names;
pub mod slots;

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::ptr;
use std::rc::{Rc, Weak};

use napi::bindgen_prelude::{JsValue, Object, Result};
use napi::{Env, sys};
use vmclock::VmClock;
use vmclock::clock::fast::{Order, Ordered, Unordered};

use crate::property::{check, define};

use c_calls::Name;
use callbacks::{Place, add_function};
use calls::{Convert, IsContinuous, NowHrTime, NowMs, NowNs, Read, ReadCounter, TakeContinuity};
use slots::{BUFFER_BYTES, DOUBLES, DOUBLES_OFFSET, SLOTS, Slots};

/// The clock of one JavaScript object; empty once it is closed.
pub(crate) type ClockBox = RefCell<Option<VmClock>>;

/// The state that the functions of one clock share.
struct Hot {
    clock: Rc<ClockBox>,
    slots: Slots,
    /// The page state for which the per-state slots are filled; 0 if none.
    filled_for_state: Cell<u64>,
    /// The start of the second that `HrSeconds` holds, in nanoseconds since the epoch. Only `NowHrTime` writes either.
    second_ns: Cell<i64>,
    env: sys::napi_env,
    /// A strong reference to the buffer that `slots` lies in.
    buffer: sys::napi_ref,
    /// Given back when this is dropped.
    place: Place,
    /// Given back when this is dropped.
    name: Name,
}

impl Drop for Hot {
    fn drop(&mut self) {
        // The status is ignored: the call fails only for arguments that are null.
        // SAFETY: the reference was made in this environment and is deleted once, here, on its
        // thread: `Hot` is dropped by finalizers of the same environment.
        unsafe { sys::napi_delete_reference(self.env, self.buffer) };
        tell_collector(self.env, -EXTERNAL_BYTES);
    }
}

/// About the memory of one clock outside of V8's heap: its boxes, its functions and its share of a mapping.
const EXTERNAL_BYTES: i64 = 8192;

/// Tells V8 of memory that it does not see, so that it collects dropped clocks in time.
fn tell_collector(env: sys::napi_env, change_bytes: i64) {
    let mut total_bytes = 0;
    // The status is ignored: the call fails only for arguments that are null.
    // SAFETY: the environment is that of the running call or finalizer, and the result is written.
    unsafe { sys::napi_adjust_external_memory(env, change_bytes, &mut total_bytes) };
}

/// Makes the calls of `clock` and the arrays that they write to: `HotCalls` in `ts/native.ts`. Calls that are not
/// ordered read the counter without a fence. Also returns the clock's name for the C interface; NaN if it has none.
pub(crate) fn hot_calls<'env>(
    env: &'env Env,
    clock: &Rc<ClockBox>,
    is_ordered: bool,
    has_name: bool,
) -> Result<(Object<'env>, f64)> {
    let raw_env = env.raw();
    let (start, buffer) = new_buffer(raw_env)?;
    let mut reference: sys::napi_ref = ptr::null_mut();
    // SAFETY: `buffer` was just made; a first count of 1 keeps it alive until `Hot` is dropped.
    check("napi_create_reference", unsafe {
        sys::napi_create_reference(raw_env, buffer, 1, &mut reference)
    })?;
    // SAFETY: V8 aligns array buffers to 8 at least. `Hot` keeps this one and only its own thread
    // touches it: see the rules above.
    let slots = unsafe { Slots::new(start) };
    tell_collector(raw_env, EXTERNAL_BYTES);
    let hot = Rc::new_cyclic(|hot: &Weak<Hot>| Hot {
        clock: Rc::clone(clock),
        slots,
        filled_for_state: Cell::new(0),
        // The double is 0 in a new buffer.
        second_ns: Cell::new(0),
        env: raw_env,
        buffer: reference,
        place: Place::take(hot.as_ptr().cast_mut()),
        name: if has_name {
            Name::take(hot.as_ptr().cast_mut())
        } else {
            Name::NONE
        },
    });

    let object = Object::new(env)?;
    let target = object.raw();
    let integers = sys::TypedarrayType::bigint64_array;
    let slots = new_array(raw_env, integers, SLOTS, buffer, 0)?;
    let floats = sys::TypedarrayType::float64_array;
    let doubles = new_array(raw_env, floats, DOUBLES, buffer, DOUBLES_OFFSET)?;
    define(raw_env, target, c"slots", slots)?;
    define(raw_env, target, c"doubles", doubles)?;
    let name = hot.name.number();
    define(raw_env, target, c"name", new_number(raw_env, name)?)?;
    if is_ordered {
        add_stamps::<Ordered>(raw_env, target, &hot)?;
    } else {
        add_stamps::<Unordered>(raw_env, target, &hot)?;
    }
    // These read no counter on the fast path.
    add_function::<Convert, Ordered>(raw_env, target, &hot)?;
    add_function::<TakeContinuity, Ordered>(raw_env, target, &hot)?;
    add_function::<IsContinuous, Ordered>(raw_env, target, &hot)?;
    Ok((object, name))
}

/// Adds the calls that read the counter.
fn add_stamps<O: Order>(env: sys::napi_env, target: sys::napi_value, hot: &Rc<Hot>) -> Result<()> {
    add_function::<NowNs, O>(env, target, hot)?;
    add_function::<NowMs, O>(env, target, hot)?;
    add_function::<NowHrTime, O>(env, target, hot)?;
    add_function::<Read, O>(env, target, hot)?;
    add_function::<ReadCounter, O>(env, target, hot)
}

/// A new array buffer for the slots, and where its memory starts.
fn new_buffer(env: sys::napi_env) -> Result<(*mut u8, sys::napi_value)> {
    let mut start: *mut c_void = ptr::null_mut();
    let mut buffer: sys::napi_value = ptr::null_mut();
    // SAFETY: `env` is the environment of the call that we are in; both results are written.
    check("napi_create_arraybuffer", unsafe {
        sys::napi_create_arraybuffer(env, BUFFER_BYTES, &mut start, &mut buffer)
    })?;
    Ok((start.cast(), buffer))
}

fn new_number(env: sys::napi_env, number: f64) -> Result<sys::napi_value> {
    let mut value: sys::napi_value = ptr::null_mut();
    // SAFETY: `env` is the environment of the call that we are in; the result is written.
    check("napi_create_double", unsafe {
        sys::napi_create_double(env, number, &mut value)
    })?;
    Ok(value)
}

/// An array of `length` elements from `offset` in `buffer`.
fn new_array(
    env: sys::napi_env,
    kind: sys::napi_typedarray_type,
    length: usize,
    buffer: sys::napi_value,
    offset: usize,
) -> Result<sys::napi_value> {
    let mut array: sys::napi_value = ptr::null_mut();
    // SAFETY: `buffer` is an array buffer of this environment; Node-API checks that the elements lie
    // within it.
    check("napi_create_typedarray", unsafe {
        sys::napi_create_typedarray(env, kind, length, buffer, offset, &mut array)
    })?;
    Ok(array)
}
