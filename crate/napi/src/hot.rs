//! The calls that stamp, as raw Node-API callbacks.
//!
//! # The rules of this room
//!
//! - A callback finds its clock through its own function data: a counted pointer to a [`Hot`],
//!   one count a function. That function's finalizer alone gives the count back, so whoever can
//!   still call the function still has the clock's box. `close` empties the box and frees nothing
//!   else.
//! - The first few clocks of a process have a place in [`PLACES`] instead, and callbacks of their own
//!   that look there. The place is taken before the functions are made and given back when the
//!   [`Hot`] is dropped, so by the same count it is this clock's while a function can be called.
//! - Figures go through one array buffer, the *slots*, which JavaScript reads back: a callback that
//!   returned a BigInt would cost a third more. The buffer is kept by a strong reference in the
//!   [`Hot`], and the facade never lets it out of private fields, so it is neither collected nor
//!   detached nor moved.
//! - No callback runs JavaScript while it holds the clock, so none is entered twice; an error's
//!   object is made after the clock was let go.
//! - Everything here belongs to one environment (a worker has its own) and so to one thread. Of the
//!   places only the addresses are shared: whoever put one there is alone in reading it.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_void};
use std::ptr;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicPtr, Ordering};

use napi::bindgen_prelude::{JsValue, Object, Result, ToNapiValue};
use napi::{Env, JsError, Status, sys};
use vmclock::clock::fast::{FastClock, SlowPath, TimePoint};
use vmclock::{Continuity, Reading, VmClock};

use crate::failure::Failure;

/// The clock of one JavaScript object; empty once it is closed.
pub(crate) type ClockBox = RefCell<Option<VmClock>>;

/// Positions in the slots: `SLOT` in `ts/native.ts`.
#[derive(Clone, Copy)]
enum Slot {
    EpochNs,
    MaxErrorNs,
    EstErrorNs,
    EarliestNs,
    LatestNs,
    Counter,
    DisruptionMarker,
    VmGeneration,
    Status,
    LeapSecond,
    TaiMinusUtcSec,
    Known,
    ArgumentCounter,
    ArgumentDisruptionMarker,
    ArgumentVmGeneration,
    ArgumentHasVmGeneration,
}

const SLOTS: usize = Slot::ArgumentHasVmGeneration as usize + 1;

/// Bits of [`Slot::Known`]: `KNOWN` in `ts/native.ts`.
mod known {
    pub(super) const BOUND: i64 = 1;
    pub(super) const EST_ERROR: i64 = 2;
    pub(super) const VM_GENERATION: i64 = 4;
    pub(super) const TAI_MINUS_UTC: i64 = 8;
}

/// What the slot of an unknown figure holds.
const UNKNOWN: i64 = -1;

/// Positions among the doubles: `DOUBLE` in `ts/native.ts`.
#[derive(Clone, Copy)]
enum Double {
    NowMs,
}

const DOUBLES: usize = Double::NowMs as usize + 1;
const DOUBLES_OFFSET: usize = SLOTS * size_of::<i64>();
const BUFFER_BYTES: usize = DOUBLES_OFFSET + DOUBLES * size_of::<f64>();

/// The memory of the slots and doubles.
#[derive(Clone, Copy)]
struct Figures {
    start: *mut u8,
}

impl Figures {
    fn slot(self, slot: Slot) -> *mut i64 {
        self.start
            .wrapping_add(slot as usize * size_of::<i64>())
            .cast()
    }

    fn set(self, slot: Slot, value: i64) {
        // SAFETY: the slot lies within the buffer of `BUFFER_BYTES`, which is 8-byte aligned (V8
        // aligns array buffers to 8 at least) and outlives `self` (rules above); only this thread
        // touches it.
        unsafe { self.slot(slot).write(value) }
    }

    fn argument(self, slot: Slot) -> i64 {
        // SAFETY: as in `set`.
        unsafe { self.slot(slot).read() }
    }

    fn set_double(self, double: Double, value: f64) {
        let at = DOUBLES_OFFSET + double as usize * size_of::<f64>();
        // SAFETY: as in `set`; the doubles lie behind the slots in the same buffer.
        unsafe { self.start.wrapping_add(at).cast::<f64>().write(value) }
    }

    fn set_unsigned(self, slot: Slot, value: u64) {
        self.set(slot, value.cast_signed());
    }

    fn set_reading(self, reading: &Reading) {
        let mut known = 0;
        let mut optional = |slot, value: Option<i64>, bit| {
            if value.is_some() {
                known |= bit;
            }
            self.set(slot, value.unwrap_or(UNKNOWN));
        };
        // Error figures are at most 2^63 - 1.
        optional(
            Slot::MaxErrorNs,
            reading.max_error_ns.map(u64::cast_signed),
            known::BOUND,
        );
        optional(Slot::EarliestNs, reading.earliest_ns, known::BOUND);
        optional(Slot::LatestNs, reading.latest_ns, known::BOUND);
        optional(
            Slot::EstErrorNs,
            reading.est_error_ns.map(u64::cast_signed),
            known::EST_ERROR,
        );
        optional(
            Slot::VmGeneration,
            reading.vm_generation.map(u64::cast_signed),
            known::VM_GENERATION,
        );
        optional(
            Slot::TaiMinusUtcSec,
            reading.tai_minus_utc_sec.map(i64::from),
            known::TAI_MINUS_UTC,
        );
        self.set(Slot::EpochNs, reading.epoch_ns);
        self.set_unsigned(Slot::Counter, reading.counter);
        self.set_unsigned(Slot::DisruptionMarker, reading.disruption_marker);
        self.set(Slot::Status, i64::from(reading.status.raw()));
        self.set(Slot::LeapSecond, i64::from(reading.leap_second));
        self.set(Slot::Known, known);
    }

    /// What of a reading changes while the rest of it stands in the slots.
    #[inline(always)]
    fn set_moment(self, point: &TimePoint) {
        let epoch_ns = point.epoch_ns;
        self.set(Slot::EpochNs, epoch_ns);
        self.set_unsigned(Slot::Counter, point.counter);
        if let Some(max_error_ns) = point.max_error_ns.map(u64::cast_signed) {
            self.set(Slot::MaxErrorNs, max_error_ns);
            // Neither leaves 64 bits: lines end far before.
            self.set(Slot::EarliestNs, epoch_ns.wrapping_sub(max_error_ns));
            self.set(Slot::LatestNs, epoch_ns.wrapping_add(max_error_ns));
        }
        if let Some(est_error_ns) = point.est_error_ns {
            self.set_unsigned(Slot::EstErrorNs, est_error_ns);
        }
    }

    fn set_continuity(self, token: &Continuity) {
        self.set_unsigned(Slot::DisruptionMarker, token.disruption_marker);
        self.set(
            Slot::VmGeneration,
            token.vm_generation.map_or(UNKNOWN, u64::cast_signed),
        );
        self.set(
            Slot::Known,
            token.vm_generation.map_or(0, |_| known::VM_GENERATION),
        );
    }

    fn argument_token(self) -> Continuity {
        let has_generation = self.argument(Slot::ArgumentHasVmGeneration) != 0;
        let generation = self.argument(Slot::ArgumentVmGeneration).cast_unsigned();
        Continuity {
            disruption_marker: self
                .argument(Slot::ArgumentDisruptionMarker)
                .cast_unsigned(),
            vm_generation: has_generation.then_some(generation),
        }
    }
}

/// What a callback's function data points to.
struct Hot {
    clock: Rc<ClockBox>,
    figures: Figures,
    /// Of which of the clock's states the slots hold all that is the same in each of its readings;
    /// 0 for none.
    rest_of: Cell<u64>,
    env: sys::napi_env,
    /// Keeps the buffer behind `figures`.
    buffer: sys::napi_ref,
    place: Option<usize>,
}

impl Drop for Hot {
    fn drop(&mut self) {
        if let Some(place) = self.place.and_then(|place| PLACES.get(place)) {
            place.store(ptr::null_mut(), Ordering::Release);
        }
        // The status is of no use here: the only failure is an argument that is null.
        // SAFETY: the reference was made in this environment and is deleted once, here, on its
        // thread: `Hot` is dropped by finalizers of the same environment.
        unsafe { sys::napi_delete_reference(self.env, self.buffer) };
    }
}

/// One of the calls.
trait HotCall {
    const NAME: &'static CStr;

    /// The call where nothing stands in its way; an error says only that `long` has to be asked.
    #[inline(always)]
    fn short(_clock: &mut VmClock, _hot: &Hot) -> Short {
        Err(SlowPath::FromPage)
    }

    /// False only where what was asked is not so.
    fn long(clock: &mut VmClock, hot: &Hot, untold: SlowPath) -> Answer;
}

type Short = std::result::Result<(), SlowPath>;

type Answer = std::result::Result<bool, vmclock::Error>;

struct NowNs;

impl HotCall for NowNs {
    const NAME: &'static CStr = c"nowNs";

    #[inline(always)]
    fn short(clock: &mut VmClock, hot: &Hot) -> Short {
        hot.figures.set(Slot::EpochNs, clock.fast_now_ns()?);
        Ok(())
    }

    fn long(clock: &mut VmClock, hot: &Hot, untold: SlowPath) -> Answer {
        hot.figures.set(Slot::EpochNs, clock.slow_now_ns(untold)?);
        Ok(true)
    }
}

struct NowMs;

impl HotCall for NowMs {
    const NAME: &'static CStr = c"nowMs";

    #[inline(always)]
    fn short(clock: &mut VmClock, hot: &Hot) -> Short {
        hot.figures.set_double(Double::NowMs, clock.fast_now_ms()?);
        Ok(())
    }

    fn long(clock: &mut VmClock, hot: &Hot, untold: SlowPath) -> Answer {
        let ms = clock.slow_now_ms(untold)?;
        hot.figures.set_double(Double::NowMs, ms);
        Ok(true)
    }
}

struct Read;

impl HotCall for Read {
    const NAME: &'static CStr = c"read";

    #[inline(always)]
    fn short(clock: &mut VmClock, hot: &Hot) -> Short {
        if hot.rest_of.get() != clock.states_seen() {
            return Err(SlowPath::FromPage);
        }
        hot.figures.set_moment(&clock.fast_time_point()?);
        Ok(())
    }

    fn long(clock: &mut VmClock, hot: &Hot, untold: SlowPath) -> Answer {
        // Nothing is left over but where the rest stands in the slots.
        if let Some(point) = clock.slow_time_point(untold) {
            hot.figures.set_moment(&point);
            return Ok(true);
        }
        hot.figures.set_reading(&clock.read()?);
        hot.rest_of.set(clock.states_seen());
        Ok(true)
    }
}

struct ReadCounter;

impl HotCall for ReadCounter {
    const NAME: &'static CStr = c"counter";

    #[inline(always)]
    fn short(clock: &mut VmClock, hot: &Hot) -> Short {
        hot.figures.set_unsigned(Slot::Counter, clock.counter());
        Ok(())
    }

    fn long(clock: &mut VmClock, hot: &Hot, _untold: SlowPath) -> Answer {
        hot.figures.set_unsigned(Slot::Counter, clock.counter());
        Ok(true)
    }
}

struct Convert;

impl HotCall for Convert {
    const NAME: &'static CStr = c"convert";

    fn long(clock: &mut VmClock, hot: &Hot, _untold: SlowPath) -> Answer {
        let figures = hot.figures;
        let counter = figures.argument(Slot::ArgumentCounter).cast_unsigned();
        let reading = clock.convert(counter, &figures.argument_token())?;
        // Of another counter: what all live readings have in common need not be the same in it.
        hot.rest_of.set(0);
        figures.set_reading(&reading);
        Ok(true)
    }
}

struct TakeContinuity;

impl HotCall for TakeContinuity {
    const NAME: &'static CStr = c"continuityToken";

    fn long(clock: &mut VmClock, hot: &Hot, _untold: SlowPath) -> Answer {
        let token = clock.continuity_token()?;
        hot.rest_of.set(0);
        hot.figures.set_continuity(&token);
        Ok(true)
    }
}

struct IsContinuous;

impl HotCall for IsContinuous {
    const NAME: &'static CStr = c"isContinuous";

    #[inline(always)]
    fn short(clock: &mut VmClock, hot: &Hot) -> Short {
        if clock.fast_is_continuous(&hot.figures.argument_token()) {
            Ok(())
        } else {
            Err(SlowPath::FromPage)
        }
    }

    fn long(clock: &mut VmClock, hot: &Hot, _untold: SlowPath) -> Answer {
        clock.is_continuous(&hot.figures.argument_token())
    }
}

/// The clocks that have callbacks of their own: to ask Node-API for a function's data costs nearly a tenth
/// of a stamp.
static PLACES: [AtomicPtr<Hot>; PLACE_COUNT] =
    [const { AtomicPtr::new(ptr::null_mut()) }; PLACE_COUNT];
const PLACE_COUNT: usize = 16;

macro_rules! callback_at {
    ($call:ty, $place:expr, [$($number:literal)*]) => {
        match $place {
            $(Some($number) => invoke_at::<$call, $number>,)*
            _ => invoke::<$call>,
        }
    };
}

/// The callback of `T` for the clock in its own place.
#[allow(
    clippy::indexing_slicing,
    reason = "both are constants, and the assertion is made by the compiler"
)]
unsafe extern "C" fn invoke_at<T: HotCall, const PLACE: usize>(
    env: sys::napi_env,
    _info: sys::napi_callback_info,
) -> sys::napi_value {
    const { assert!(PLACE < PLACE_COUNT) };
    let hot = PLACES[PLACE].load(Ordering::Relaxed);
    // SAFETY: `add_function` gave this callback to functions of the `Hot` in this place only, each of
    // which keeps it alive for as long as the function can be called; it leaves the place when it is
    // dropped.
    let hot: &Hot = unsafe { &*hot };
    call::<T>(env, hot)
}

/// The callback of `T` for clocks that got no place.
unsafe extern "C" fn invoke<T: HotCall>(
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
    call::<T>(env, hot)
}

#[inline(always)]
fn call<T: HotCall>(env: sys::napi_env, hot: &Hot) -> sys::napi_value {
    let told = match hot.clock.try_borrow_mut() {
        Ok(mut clock) => match clock.as_mut() {
            Some(clock) => T::short(clock, hot),
            None => Err(SlowPath::FromPage),
        },
        Err(_) => Err(SlowPath::FromPage),
    };
    // The clock is let go by now.
    match told {
        Ok(()) => ptr::null_mut(),
        Err(SlowPath::FromPage) => call_the_long_way::<T>(env, hot),
        Err(SlowPath::FromCounter(counter)) => call_at::<T>(env, hot, counter),
    }
}

// Both apart, so that the short way calls nothing and so saves nothing; and not one, so that it need not
// put together what it tells them.
#[inline(never)]
fn call_at<T: HotCall>(env: sys::napi_env, hot: &Hot, counter: u64) -> sys::napi_value {
    finish::<T>(env, hot, SlowPath::FromCounter(counter))
}

#[cold]
#[inline(never)]
fn call_the_long_way<T: HotCall>(env: sys::napi_env, hot: &Hot) -> sys::napi_value {
    finish::<T>(env, hot, SlowPath::FromPage)
}

#[inline(never)]
fn finish<T: HotCall>(env: sys::napi_env, hot: &Hot, untold: SlowPath) -> sys::napi_value {
    let result = match hot.clock.try_borrow_mut() {
        Ok(mut clock) => match clock.as_mut() {
            Some(clock) => T::long(clock, hot, untold).map_err(Failure::from),
            None => Err(Failure::closed("clock")),
        },
        // Unreachable by the rules above; a typed answer all the same.
        Err(_) => Err(Failure::closed("clock")),
    };
    match result {
        Ok(true) => ptr::null_mut(),
        Ok(false) => {
            let mut no: sys::napi_value = ptr::null_mut();
            // SAFETY: called within a callback on the thread of `env`; the result is written.
            match check("napi_get_boolean", unsafe {
                sys::napi_get_boolean(env, false, &mut no)
            }) {
                Ok(()) => no,
                Err(error) => throw(env, error),
            }
        }
        Err(failure) => fail(env, failure),
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

/// Where not even an answer can be made: to return nothing would mean success, and the slots hold an
/// older time.
#[cold]
fn throw(env: sys::napi_env, error: napi::Error) -> sys::napi_value {
    // SAFETY: called within a callback on the thread of `env`.
    unsafe { JsError::from(error).throw_into(env) };
    ptr::null_mut()
}

/// Gives back the count that a function held.
unsafe extern "C" fn release(_env: sys::napi_env, data: *mut c_void, _hint: *mut c_void) {
    // SAFETY: `data` came from `Rc::into_raw` in `add_function`, and a finalizer runs once.
    drop(unsafe { Rc::from_raw(data.cast::<Hot>()) });
}

/// Makes the calls of `clock` and the arrays that they write to: `HotCalls` in `ts/native.ts`.
pub(crate) fn hot_calls<'env>(env: &'env Env, clock: &Rc<ClockBox>) -> Result<Object<'env>> {
    let raw_env = env.raw();
    let mut start: *mut c_void = ptr::null_mut();
    let mut buffer: sys::napi_value = ptr::null_mut();
    // SAFETY: `env` is the environment of the call that we are in; both results are written.
    check("napi_create_arraybuffer", unsafe {
        sys::napi_create_arraybuffer(raw_env, BUFFER_BYTES, &mut start, &mut buffer)
    })?;
    let mut reference: sys::napi_ref = ptr::null_mut();
    // SAFETY: `buffer` was just made; a first count of 1 keeps it alive until `Hot` is dropped.
    check("napi_create_reference", unsafe {
        sys::napi_create_reference(raw_env, buffer, 1, &mut reference)
    })?;
    let hot = Rc::new_cyclic(|hot: &Weak<Hot>| Hot {
        clock: Rc::clone(clock),
        figures: Figures {
            start: start.cast(),
        },
        rest_of: Cell::new(0),
        env: raw_env,
        buffer: reference,
        place: take_place(hot.as_ptr().cast_mut()),
    });

    let mut slots: sys::napi_value = ptr::null_mut();
    // SAFETY: `SLOTS` 64-bit elements from the buffer's start lie within it.
    check("napi_create_typedarray", unsafe {
        sys::napi_create_typedarray(
            raw_env,
            sys::TypedarrayType::bigint64_array,
            SLOTS,
            buffer,
            0,
            &mut slots,
        )
    })?;
    let mut doubles: sys::napi_value = ptr::null_mut();
    // SAFETY: `DOUBLES` 64-bit elements from `DOUBLES_OFFSET` end where the buffer does.
    check("napi_create_typedarray", unsafe {
        sys::napi_create_typedarray(
            raw_env,
            sys::TypedarrayType::float64_array,
            DOUBLES,
            buffer,
            DOUBLES_OFFSET,
            &mut doubles,
        )
    })?;

    let object = Object::new(env)?;
    define(raw_env, object.raw(), c"slots", slots)?;
    define(raw_env, object.raw(), c"doubles", doubles)?;
    add_function::<NowNs>(raw_env, object.raw(), &hot)?;
    add_function::<NowMs>(raw_env, object.raw(), &hot)?;
    add_function::<Read>(raw_env, object.raw(), &hot)?;
    add_function::<ReadCounter>(raw_env, object.raw(), &hot)?;
    add_function::<Convert>(raw_env, object.raw(), &hot)?;
    add_function::<TakeContinuity>(raw_env, object.raw(), &hot)?;
    add_function::<IsContinuous>(raw_env, object.raw(), &hot)?;
    Ok(object)
}

/// Puts a clock into a place, if one is free.
fn take_place(hot: *mut Hot) -> Option<usize> {
    PLACES.iter().position(|place| {
        place
            .compare_exchange(ptr::null_mut(), hot, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    })
}

fn add_function<T: HotCall>(
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
            Some(callback_at!(T, hot.place, [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15])),
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

fn define(
    env: sys::napi_env,
    object: sys::napi_value,
    name: &CStr,
    value: sys::napi_value,
) -> Result<()> {
    let property = sys::napi_property_descriptor {
        utf8name: name.as_ptr(),
        name: ptr::null_mut(),
        method: None,
        getter: None,
        setter: None,
        value,
        attributes: sys::PropertyAttributes::enumerable,
        data: ptr::null_mut(),
    };
    // Defined, not set: a setter that somebody put on `Object.prototype` would be handed the slots.
    // SAFETY: both values were just made in this handle scope, and the name is a C string.
    check("napi_define_properties", unsafe {
        sys::napi_define_properties(env, object, 1, &property)
    })
}

fn check(call: &str, status: sys::napi_status) -> Result<()> {
    if status == sys::Status::napi_ok {
        Ok(())
    } else {
        Err(napi::Error::new(
            Status::from(status),
            format!("{call} failed"),
        ))
    }
}

/// The memory of a typed array of 64-bit integers, as an argument. Elements are touched through
/// relaxed atomics, because the array may lie in memory that another worker writes.
pub(crate) struct Elements64 {
    start: *mut u64,
    length: usize,
}

impl Elements64 {
    /// The elements of `value`; `None` where it is no array of that type.
    pub(crate) fn of(
        env: &Env,
        value: &Object,
        expected: sys::napi_typedarray_type,
    ) -> Option<Self> {
        let mut is_typed_array = false;
        // SAFETY: `value` is a live handle of this call.
        let status =
            unsafe { sys::napi_is_typedarray(env.raw(), value.raw(), &mut is_typed_array) };
        if status != sys::Status::napi_ok || !is_typed_array {
            return None;
        }
        let mut kind = 0;
        let mut length = 0;
        let mut start: *mut c_void = ptr::null_mut();
        // SAFETY: `value` is a typed array; the results that are asked for are written.
        let status = unsafe {
            sys::napi_get_typedarray_info(
                env.raw(),
                value.raw(),
                &mut kind,
                &mut length,
                &mut start,
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        let found = status == sys::Status::napi_ok && kind == expected;
        // A detached array has no memory, whatever length it once had.
        let length = if start.is_null() { 0 } else { length };
        found.then(|| Self {
            start: start.cast(),
            length,
        })
    }

    pub(crate) fn length(&self) -> usize {
        self.length
    }

    fn element(&self, index: usize) -> Option<&std::sync::atomic::AtomicU64> {
        if index >= self.length {
            return None;
        }
        let address = self.start.wrapping_add(index);
        // SAFETY: the element lies within the array, is 8-byte aligned (typed arrays are aligned to
        // their elements) and stays while no JavaScript runs, which is for all of the native call.
        Some(unsafe { std::sync::atomic::AtomicU64::from_ptr(address) })
    }

    pub(crate) fn load(&self, index: usize) -> Option<u64> {
        Some(
            self.element(index)?
                .load(std::sync::atomic::Ordering::Relaxed),
        )
    }

    pub(crate) fn store(&self, index: usize, value: u64) {
        if let Some(element) = self.element(index) {
            element.store(value, std::sync::atomic::Ordering::Relaxed);
        }
    }
}
