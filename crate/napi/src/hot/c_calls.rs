//! The fast calls by a C interface, for a runtime's foreign function interface (FFI).
//!
//! The C interface has only the fast path of each call. If that has no result, a function returns NaN, and
//! JavaScript makes the same call by Node-API. So errors, restores and the slow path have one implementation.

use std::ffi::{CStr, c_void};
use std::ptr;

use libc::{Dl_info, dladdr};
use napi::bindgen_prelude::Either;
use napi_derive::napi;
use vmclock::clock::fast::{Order, Ordered, Unordered};

use super::Hot;
use super::calls::{HotCall, IsContinuous, NowHrTime, NowMs, NowNs, Read, ReadCounter};
use super::names::Names;
use crate::failure::{Failure, Outcome};

/// All clocks of this process that have a name.
static NAMES: Names<Hot> = Names::new();

/// The name of a clock. Given back when it is dropped.
pub(super) struct Name(Option<f64>);

impl Name {
    /// The name of a clock that nothing calls by the C interface.
    pub(super) const NONE: Self = Self(None);

    /// Gives `hot` a name for this thread, if one is free.
    ///
    /// The name belongs to the `Hot` that owns the result. So the address in the table is valid as long as that `Hot`
    /// is, and no longer in the table when it is dropped.
    pub(super) fn take(hot: *mut Hot) -> Self {
        Self(NAMES.take(hot))
    }

    /// The name as a number; NaN for none.
    pub(super) fn number(&self) -> f64 {
        self.0.unwrap_or(f64::NAN)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        give_back(self.number());
    }
}

/// Ends the use of a name. The calls then answer NaN, and those by Node-API have the reason.
pub(crate) fn give_back(name: f64) {
    NAMES.give_back(name);
}

/// Makes the call on the named clock: NaN if this thread has no such clock, or the fast path no result.
#[inline(always)]
fn answer<T: HotCall, O: Order>(name: f64) -> f64 {
    let Some(hot) = NAMES.find(name) else {
        return f64::NAN;
    };
    // SAFETY: the table has the address of a `Hot` from its making to its drop, both on the thread that took the name,
    // and that is this thread. Nothing here runs JavaScript, so it is not dropped meanwhile.
    let hot: &Hot = unsafe { &*hot };
    let Ok(mut clock) = hot.clock.try_borrow_mut() else {
        return f64::NAN;
    };
    match clock.as_mut().map(|clock| T::fast::<O>(clock, hot)) {
        Some(Ok(answer)) => answer,
        _ => f64::NAN,
    }
}

/// Defines the functions.
macro_rules! c_calls {
    ($($symbol:ident: $call:ty, $order:ty;)*) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $symbol(name: f64) -> f64 {
                answer::<$call, $order>(name)
            }
        )*
    };
}

c_calls! {
    vmclock_now_ns: NowNs, Ordered;
    vmclock_now_ms: NowMs, Ordered;
    vmclock_now_hr_time: NowHrTime, Ordered;
    vmclock_read: Read, Ordered;
    vmclock_counter: ReadCounter, Ordered;
    vmclock_unordered_now_ns: NowNs, Unordered;
    vmclock_unordered_now_ms: NowMs, Unordered;
    vmclock_unordered_now_hr_time: NowHrTime, Unordered;
    vmclock_unordered_read: Read, Unordered;
    vmclock_unordered_counter: ReadCounter, Unordered;
    vmclock_is_continuous: IsContinuous, Ordered;
}

/// Returns the path of the addon's file, as the loader named it.
#[napi]
pub fn addon_path() -> Outcome<String> {
    let function: extern "C" fn(f64) -> f64 = vmclock_now_ns;
    let mut found = Dl_info {
        dli_fname: ptr::null(),
        dli_fbase: ptr::null_mut(),
        dli_sname: ptr::null(),
        dli_saddr: ptr::null_mut(),
    };
    // SAFETY: the loader compares the address with those of its files, and writes to a structure of this function.
    unsafe { dladdr(function as *const c_void, &mut found) };
    if found.dli_fname.is_null() {
        let remedy = "leave out calls: 'ffi' and the variable VMCLOCK_CALLS";
        let message = "the loader does not say which file the addon is".to_owned();
        return Either::B(Failure::unsupported(message, remedy));
    }
    // SAFETY: the name is a C string of the loader's, which stays as the addon is never unloaded.
    let path = unsafe { CStr::from_ptr(found.dli_fname) };
    Either::A(path.to_string_lossy().into_owned())
}
