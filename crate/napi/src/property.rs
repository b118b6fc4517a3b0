//! Properties of objects that JavaScript gets.

use std::ffi::CStr;
use std::ptr;

use napi::bindgen_prelude::Result;
use napi::{Status, sys};

/// Defines a property. Not set: a setter on `Object.prototype` would receive the slots.
pub(crate) fn define(
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
    // SAFETY: both values were just made in this handle scope, and the name is a C string.
    check("napi_define_properties", unsafe {
        sys::napi_define_properties(env, object, 1, &property)
    })
}

/// The error for a Node-API call that failed.
pub(crate) fn check(call: &str, status: sys::napi_status) -> Result<()> {
    if status == sys::Status::napi_ok {
        Ok(())
    } else {
        Err(napi::Error::new(
            Status::from(status),
            format!("{call} failed"),
        ))
    }
}
