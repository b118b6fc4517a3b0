//! Fresh randomness and identity in the processes of a restored machine.
//!
//! - `restores`: notices that the machine was restored or cloned.
//! - `kernel`: whether the kernel's random generator has reseeded since.
//! - `uevents`: the kernel's notice of both, where a page shows nothing.
//! - `openssl`: the functions of this process's OpenSSL, and the hook, which asks a gate.
//! - `randomness`: the gate, which reseeds OpenSSL after a restore, before its next byte.
//! - `listeners`: the environments that want to be woken.
//!
//! All of it belongs to the process and lasts as long: the JavaScript environments come and go. The addon is
//! linked with `-z nodelete`, because Node closes an addon with the last worker that has loaded it.

mod kernel;
mod listeners;
mod openssl;
mod randomness;
mod restores;
#[cfg(test)]
mod tests;
mod uevents;

use std::cell::Cell;
use std::ffi::c_void;
use std::path::Path;
use std::ptr;

use napi::bindgen_prelude::{Either, Function, JsValue, Object, Result};
use napi::threadsafe_function::UnknownReturnValue;
use napi::{Env, sys};
use napi_derive::napi;
use vmclock::abi::SIZE_FULL;
use vmclock::machine::vmgenid;

use crate::entropy;
use crate::failure::{Failure, Outcome, outcome};
use crate::property::define;
use randomness::{Entropy, Obstacle};
use restores::{Known, Restores};

/// How this process notices restores.
#[napi(object, object_from_js = false)]
pub struct NativeRestoreSignal {
    /// The page's path, if there is a page.
    pub path: Either<String, ()>,
    /// True if the page is the hypervisor's, which shows a restore before the machine runs again.
    pub is_device: bool,
    pub has_generation: bool,
    /// Why this process cannot look at the machine's device.
    pub unavailable: Either<String, ()>,
    pub remedy: Either<String, ()>,
    /// True if the machine has a VMGENID device, and this process hears the kernel's uevents.
    pub hears_uevents: bool,
    /// True if the kernel has sent one.
    pub has_seen_uevent: bool,
}

/// The epoch, and the words for which it is known.
#[napi(object, object_from_js = false)]
pub struct NativeEpoch {
    pub epoch: u32,
    pub seq_count: u32,
    pub notices: u32,
}

impl From<Known> for NativeEpoch {
    fn from(known: Known) -> Self {
        Self {
            epoch: known.epoch,
            seq_count: known.seq,
            notices: known.notices,
        }
    }
}

/// The state of the protection.
#[napi(object, object_from_js = false)]
pub struct NativeProtection {
    /// True if OpenSSL calls the hook.
    pub is_installed: bool,
    pub is_strict: bool,
    pub reseeds: f64,
    /// `hardware`, `kernel` or `none`.
    pub entropy: &'static str,
}

fn own<T>(value: Option<T>) -> Either<T, ()> {
    value.map_or(Either::B(()), Either::A)
}

fn begun() -> std::result::Result<&'static Restores, Failure> {
    restores::begun().ok_or_else(|| Failure::argument("this process looks for no restores yet"))
}

/// Begins to look for restores, once in a process.
#[napi]
pub fn begin_restores(
    path: Option<String>,
    trusted_uids: Vec<u32>,
) -> Outcome<NativeRestoreSignal> {
    outcome(
        restores::begin(path.as_deref().map(Path::new), &trusted_uids).map(|restores| {
            uevents::hear(restores);
            signal(restores)
        }),
    )
}

/// Returns how this process notices restores, as far as it is known now.
#[napi]
pub fn restore_signal() -> Outcome<NativeRestoreSignal> {
    outcome(begun().map(signal))
}

fn signal(restores: &Restores) -> NativeRestoreSignal {
    let unavailable = restores.unavailable();
    NativeRestoreSignal {
        path: own(restores
            .path()
            .map(|path| path.to_string_lossy().into_owned())),
        is_device: restores.is_synchronous(),
        has_generation: restores.has_generation(),
        unavailable: own(unavailable.map(|device| device.reason.clone())),
        remedy: own(unavailable.map(|device| device.remedy.clone())),
        hears_uevents: kernel::is_heard(),
        has_seen_uevent: uevents::were_seen(),
    }
}

thread_local! {
    /// The epoch that JavaScript of this thread knows; 0 for none.
    static TOLD: Cell<u32> = const { Cell::new(0) };
}

/// Returns whether the machine was restored since JavaScript of this thread last looked. False if it never did, or
/// if that cannot be known now.
pub(crate) fn is_restore_unknown() -> bool {
    let told = TOLD.get();
    told != 0
        && restores::begun().is_some_and(|restores| restores.look().is_ok_and(|now| now != told))
}

/// Returns the epoch now, with the words to compare before the next look.
#[napi]
pub fn look_for_restore() -> Outcome<NativeEpoch> {
    outcome(begun().and_then(|restores| {
        let known = restores.look_closer()?;
        TOLD.set(known.epoch);
        Ok(known.into())
    }))
}

/// Returns the epoch now, for a caller that cannot see the words.
#[napi]
pub fn restore_epoch() -> Outcome<u32> {
    outcome(begun().and_then(|restores| {
        let epoch = restores.look()?;
        TOLD.set(epoch);
        Ok(epoch)
    }))
}

/// Returns `{ page, notices }`: two `Uint32Array` over the page, whose fourth word is the sequence number, and
/// over the count of notices. `null` in a runtime whose JavaScript can see no memory but its own.
#[napi(ts_return_type = "Failure | object | null")]
pub fn restore_words<'env>(env: &'env Env) -> Result<Either<Option<Object<'env>>, Failure>> {
    let restores = match begun() {
        Ok(restores) => restores,
        Err(failure) => return Ok(Either::B(failure)),
    };
    let notices = restores.notices().as_ptr();
    let (page, page_bytes) = match restores.page() {
        Some(page) => (page.address(), SIZE_FULL as usize),
        None => (NO_PAGE.as_ptr().cast(), size_of_val(&NO_PAGE)),
    };
    let raw = env.raw();
    let (Some(page), Some(notices)) = (
        words_at(raw, page.cast_mut().cast(), page_bytes)?,
        words_at(raw, notices.cast(), size_of::<u32>())?,
    ) else {
        return Ok(Either::A(None));
    };
    let object = Object::new(env)?;
    define(raw, object.raw(), c"page", page)?;
    define(raw, object.raw(), c"notices", notices)?;
    Ok(Either::A(Some(object)))
}

/// Replaces the page if there is none: its sequence number is always 0.
static NO_PAGE: [u32; 4] = [0; 4];

/// Makes a `Uint32Array` over memory that lasts as long as the process. The facade only loads from it, and gives it
/// to nobody. A store to the page or to `NO_PAGE` would end the process: both are mapped read-only.
fn words_at(
    env: sys::napi_env,
    start: *mut c_void,
    bytes: usize,
) -> Result<Option<sys::napi_value>> {
    let mut buffer: sys::napi_value = ptr::null_mut();
    // SAFETY: the memory is readable for these bytes as long as the process lives: `Restores` is never
    // dropped, and nothing else frees it. Nothing is to be done when the buffer is collected.
    let status = unsafe {
        sys::napi_create_external_arraybuffer(
            env,
            start,
            bytes,
            Some(keep),
            ptr::null_mut(),
            &mut buffer,
        )
    };
    if status != sys::Status::napi_ok {
        return Ok(None);
    }
    let mut array: sys::napi_value = ptr::null_mut();
    let kind = sys::TypedarrayType::uint32_array;
    // SAFETY: `buffer` was just made, and its length is a multiple of 4.
    let status = unsafe {
        sys::napi_create_typedarray(env, kind, bytes / size_of::<u32>(), buffer, 0, &mut array)
    };
    Ok((status == sys::Status::napi_ok).then_some(array))
}

unsafe extern "C" fn keep(_env: sys::napi_env, _data: *mut c_void, _hint: *mut c_void) {}

/// Tells the process of a restore that no page shows. By `kernel_reseeded` the caller answers for it that
/// the kernel's generator was reseeded since then.
#[napi]
pub fn notify_restored(kernel_reseeded: bool) -> Outcome<()> {
    outcome(begun().map(|restores| {
        restores.notify();
        if kernel_reseeded {
            restores.kernel_reseeded();
        }
        // The pages that this process makes show it too, before the caller goes on.
        vmclock::publish::notify_restored();
        listeners::wake_all();
    }))
}

/// Adds a callback, which keeps nothing alive. It is called after a notice that came from elsewhere.
#[napi]
pub fn listen_for_notices(callback: Function<'_, (), UnknownReturnValue>) -> Outcome<()> {
    outcome(
        listeners::add(&callback)
            .map_err(|error| Failure::argument(&format!("the callback cannot be called: {error}"))),
    )
}

/// Seeds OpenSSL, and installs the hook in front of its generator.
#[napi]
pub fn protect_open_ssl(is_strict: bool) -> Outcome<()> {
    outcome(begun().and_then(|restores| match randomness::begin(restores, is_strict) {
        Ok(_) => Ok(()),
        Err(Obstacle::Refused(refusal)) => Err(Failure::unsupported(
            format!("the random generator of this runtime cannot be protected: {}", refusal.0),
            "use an official Node.js or one with a shared OpenSSL 3, and load vmclock/clones/protect first",
        )),
        Err(Obstacle::NoEntropy) => Err(no_entropy()),
    }))
}

fn no_entropy() -> Failure {
    Failure::unsupported(
        "this machine has no entropy that clones would not share: its CPU has no random generator (RDSEED, \
         RDRAND, RNDR), and its kernel no VMGENID device"
            .to_owned(),
        "give the machine a CPU with RDRAND or RNDR or a VMGENID device, or accept the risk with onNoEntropy: 'warn'",
    )
}

/// Removes the hook, for a protection that does not reach every API.
#[napi]
pub fn unprotect_open_ssl() {
    if let Some(randomness) = randomness::begun() {
        randomness.openssl().uninstall();
    }
}

/// Returns the protection's state; undefined if there was none.
#[napi]
pub fn protection_state() -> Either<NativeProtection, ()> {
    own(randomness::begun().map(|randomness| {
        let (reseeds, last) = randomness.history();
        NativeProtection {
            is_installed: randomness.is_hook_installed(),
            is_strict: randomness.is_strict(),
            reseeds: reseeds as f64,
            entropy: last.unwrap_or(Entropy::None).name(),
        }
    }))
}

/// Returns how often this thread has drawn from OpenSSL through the hook, modulo 2^32.
#[napi]
pub fn draws_of_thread() -> u32 {
    randomness::draws()
}

/// The facts that a protection would find on this machine, besides a page.
#[napi(object, object_from_js = false)]
pub struct NativeCloneFacts {
    /// True if the CPU gives entropy.
    pub cpu_has_entropy: bool,
    /// True if the kernel's driver is bound to a VMGENID device.
    pub has_vmgenid: bool,
}

/// Returns what a protection would have on this machine.
#[napi]
pub fn clone_facts() -> NativeCloneFacts {
    NativeCloneFacts {
        cpu_has_entropy: entropy::from_cpu().is_some(),
        has_vmgenid: vmgenid::is_present(),
    }
}
