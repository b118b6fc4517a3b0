//! Typed arrays as arguments.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use napi::bindgen_prelude::{JsValue, Object};
use napi::{Env, sys};

/// The memory of a typed array of 64-bit integers, for the length of one native call. Elements are
/// accessed through relaxed atomics, because another worker may write the same memory.
pub(crate) struct Elements64 {
    start: *mut u64,
    length: usize,
}

impl Elements64 {
    /// The elements of `value`; `None` where it is not an array of the type `expected`.
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
        // A detached array has no memory, even if Node-API still states a length.
        let length = if start.is_null() { 0 } else { length };
        found.then(|| Self {
            start: start.cast(),
            length,
        })
    }

    pub(crate) fn length(&self) -> usize {
        self.length
    }

    fn element(&self, index: usize) -> Option<&AtomicU64> {
        if index >= self.length {
            return None;
        }
        let address = self.start.wrapping_add(index);
        // SAFETY: the element lies within the array and is 8-byte aligned, because typed arrays are
        // aligned to their elements. It stays valid while no JavaScript runs, which is for all of the
        // native call.
        Some(unsafe { AtomicU64::from_ptr(address) })
    }

    pub(crate) fn load(&self, index: usize) -> Option<u64> {
        Some(self.element(index)?.load(Ordering::Relaxed))
    }

    pub(crate) fn store(&self, index: usize, value: u64) {
        if let Some(element) = self.element(index) {
            element.store(value, Ordering::Relaxed);
        }
    }
}
