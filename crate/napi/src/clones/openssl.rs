//! OpenSSL, as this process has it: its random generator, and the hook in front of that.
//!
//! # Rules
//!
//! - Every function is looked up by its name, and its absence is a refusal. Nothing is linked: the addon loads in
//!   runtimes without OpenSSL too.
//! - The hook gives what OpenSSL's own generator gives, and nothing else. `RAND_OpenSSL()`'s own functions are
//!   called, because `RAND_add` and `RAND_seed` would call the hook again.
//! - All members of the hook's table are set. OpenSSL takes a table without `status` for a generator that is not
//!   seeded, and one without `bytes` for a failure.
//! - The hook runs on every thread of the process, libuv's too. It calls no Node-API.
//! - The hook is never freed: the addon is linked with `-z nodelete`, and the table is a static.
//!
//! # References
//!
//! RAND_set_rand_method(3), and OpenSSL's `crypto/rand/rand_lib.c` and `crypto/rand/rand_meth.c`. The table
//! `struct rand_meth_st` is public: `include/openssl/rand.h`. It is the same in OpenSSL 3.0 to 3.5.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

type Bytes = unsafe extern "C" fn(*mut u8, c_int) -> c_int;
type Seed = unsafe extern "C" fn(*const c_void, c_int) -> c_int;
type Add = unsafe extern "C" fn(*const c_void, c_int, f64) -> c_int;
type Cleanup = unsafe extern "C" fn();
type Status = unsafe extern "C" fn() -> c_int;

/// `struct rand_meth_st`, which OpenSSL calls a `RAND_METHOD`.
#[repr(C)]
struct Method {
    seed: Option<Seed>,
    bytes: Option<Bytes>,
    cleanup: Option<Cleanup>,
    add: Option<Add>,
    pseudorand: Option<Bytes>,
    status: Option<Status>,
}

/// The hook.
static HOOK: Method = Method {
    seed: Some(hook_seed),
    bytes: Some(hook_bytes),
    cleanup: Some(hook_cleanup),
    add: Some(hook_add),
    pseudorand: Some(hook_bytes),
    status: Some(hook_status),
};

/// Decides over each draw. It is asked on any thread, and never freed.
pub(super) trait Gate: Sync {
    /// Calls `draw`, which returns whether OpenSSL succeeded, until its bytes were drawn after the last restore.
    /// Returns false if there are none: the last draw failed, or none may begin.
    fn draw(&self, draw: &mut dyn FnMut() -> bool) -> bool;

    /// Returns whether a draw may begin.
    fn is_open(&self) -> bool;
}

/// OpenSSL and the gate in front of it, for the hook.
static GUARDED: OnceLock<(&'static OpenSsl, &'static dyn Gate)> = OnceLock::new();

/// OpenSSL's success.
const OK: c_int = 1;
/// OpenSSL's failure.
const FAILED: c_int = 0;

/// The security strength that the process's generator must have, in bits. A caller may ask for as much, and the
/// hook's interface cannot pass on how much a caller asks for.
const STRENGTH_BITS: c_uint = 256;

/// Why the hook cannot be installed.
pub(super) struct Refusal(pub(super) &'static str);

/// The process's OpenSSL.
pub(super) struct OpenSsl {
    bytes: Bytes,
    add: Add,
    status: Status,
    own: NonNull<Method>,
    get_method: unsafe extern "C" fn() -> *const Method,
    set_method: unsafe extern "C" fn(*const Method) -> c_int,
}

// SAFETY: the pointer is to a table that OpenSSL never changes, and its functions may be called on any thread.
unsafe impl Send for OpenSsl {}
// SAFETY: as above.
unsafe impl Sync for OpenSsl {}

impl OpenSsl {
    /// Finds OpenSSL, version 3 or later, with its own generator in use.
    pub(super) fn find() -> Result<Self, Refusal> {
        let absent = Refusal("it does not export OpenSSL 3's functions for a RAND_METHOD");
        let Some(version_major) = symbol(c"OPENSSL_version_major") else {
            return Err(absent);
        };
        // SAFETY: OpenSSL has declared the function so since 3.0, and other libraries do not have it.
        let version_major: unsafe extern "C" fn() -> c_uint =
            unsafe { std::mem::transmute(version_major) };
        // SAFETY: it takes nothing, and returns a constant.
        if unsafe { version_major() } < 3 {
            return Err(absent);
        }
        let (Some(open_ssl), Some(get_method), Some(set_method)) = (
            symbol(c"RAND_OpenSSL"),
            symbol(c"RAND_get_rand_method"),
            symbol(c"RAND_set_rand_method"),
        ) else {
            return Err(absent);
        };
        let (Some(public), Some(strength), Some(is_fips)) = (
            symbol(c"RAND_get0_public"),
            symbol(c"EVP_RAND_get_strength"),
            symbol(c"EVP_default_properties_is_fips_enabled"),
        ) else {
            return Err(absent);
        };
        // SAFETY: `include/openssl/rand.h` of OpenSSL 3 declares it so.
        let open_ssl: unsafe extern "C" fn() -> *mut Method =
            unsafe { std::mem::transmute(open_ssl) };
        // SAFETY: as above.
        let get_method: unsafe extern "C" fn() -> *const Method =
            unsafe { std::mem::transmute(get_method) };
        // SAFETY: as above.
        let set_method: unsafe extern "C" fn(*const Method) -> c_int =
            unsafe { std::mem::transmute(set_method) };
        // SAFETY: as above; the result is a pointer to an incomplete type.
        let public: unsafe extern "C" fn(*mut c_void) -> *mut c_void =
            unsafe { std::mem::transmute(public) };
        // SAFETY: `include/openssl/evp.h` of OpenSSL 3 declares it so.
        let strength: unsafe extern "C" fn(*mut c_void) -> c_uint =
            unsafe { std::mem::transmute(strength) };
        // SAFETY: as above.
        let is_fips: unsafe extern "C" fn(*mut c_void) -> c_int =
            unsafe { std::mem::transmute(is_fips) };

        // SAFETY: null names the default library context.
        if unsafe { is_fips(ptr::null_mut()) } != 0 {
            return Err(Refusal(
                "its OpenSSL uses the FIPS provider, whose generators no hook reaches",
            ));
        }
        // SAFETY: it takes nothing, and returns the address of a static table.
        let Some(own) = NonNull::new(unsafe { open_ssl() }) else {
            return Err(absent);
        };
        // SAFETY: the table is a static of OpenSSL, which it never changes.
        let table: &Method = unsafe { own.as_ref() };
        let (Some(bytes), Some(add), Some(status)) = (table.bytes, table.add, table.status) else {
            return Err(absent);
        };
        // SAFETY: null names the default library context.
        let generator = unsafe { public(ptr::null_mut()) };
        if generator.is_null() {
            return Err(Refusal("its OpenSSL has no random generator"));
        }
        // SAFETY: the generator belongs to this thread and was just returned.
        if unsafe { strength(generator) } < STRENGTH_BITS {
            return Err(Refusal(
                "its OpenSSL is configured with a generator of less than 256 bits",
            ));
        }
        Ok(Self {
            bytes,
            add,
            status,
            own,
            get_method,
            set_method,
        })
    }

    /// Fills `count` bytes from `out` on from OpenSSL's own generator. Returns OpenSSL's answer.
    ///
    /// # Safety
    ///
    /// The bytes are the caller's to write.
    unsafe fn bytes(&self, out: *mut u8, count: c_int) -> c_int {
        // SAFETY: the caller's promise is the one that the function asks for.
        unsafe { (self.bytes)(out, count) }
    }

    /// Reseeds OpenSSL's primary generator with `seed`, and with what OpenSSL takes from the system itself. The
    /// generators of all threads notice, and reseed from it before they give anything more. Returns whether
    /// OpenSSL did so.
    pub(super) fn reseed(&self, seed: &[u8]) -> bool {
        let Ok(length) = c_int::try_from(seed.len()) else {
            return false;
        };
        // SAFETY: the bytes are readable for the length of the call.
        let added = unsafe { (self.add)(seed.as_ptr().cast(), length, f64::from(length)) };
        added == OK
    }

    fn own_status(&self) -> c_int {
        // SAFETY: it takes nothing, on any thread.
        unsafe { (self.status)() }
    }

    /// Installs the hook in front of this OpenSSL, unless another method than OpenSSL's own is installed. The
    /// first gate remains.
    pub(super) fn install(&'static self, gate: &'static dyn Gate) -> Result<(), Refusal> {
        if self.is_installed() {
            return Ok(());
        }
        // SAFETY: it takes nothing.
        let present = unsafe { (self.get_method)() };
        if !ptr::eq(present, self.own.as_ptr()) {
            return Err(Refusal("other code has installed a RAND_METHOD of its own"));
        }
        // Before the hook can be called.
        GUARDED.get_or_init(|| (self, gate));
        // SAFETY: the hook is a static, in an addon that is never unloaded.
        if unsafe { (self.set_method)(&raw const HOOK) } != OK || !self.is_installed() {
            return Err(Refusal("its OpenSSL does not install a RAND_METHOD"));
        }
        Ok(())
    }

    /// Installs OpenSSL's own method again, if the hook is installed.
    pub(super) fn uninstall(&self) {
        if self.is_installed() {
            // The status is ignored: OpenSSL's own method can always be installed.
            // SAFETY: the table is a static of OpenSSL.
            unsafe { (self.set_method)(self.own.as_ptr()) };
        }
    }

    /// Returns whether OpenSSL calls the hook. Other code can install another at any time.
    pub(super) fn is_installed(&self) -> bool {
        // SAFETY: it takes nothing.
        let present = unsafe { (self.get_method)() };
        ptr::eq(present, &raw const HOOK)
    }
}

/// Returns whether the hook has ever been installed in this process.
pub(super) fn was_installed() -> bool {
    GUARDED.get().is_some()
}

/// Looks a function up among all that this process has loaded.
fn symbol(name: &CStr) -> Option<NonNull<c_void>> {
    let name: *const c_char = name.as_ptr();
    // SAFETY: the name is a C string, and RTLD_DEFAULT is the search order of the process.
    NonNull::new(unsafe { libc::dlsym(libc::RTLD_DEFAULT, name) })
}

/// `RAND_bytes`, `RAND_priv_bytes` and everything that draws in OpenSSL.
unsafe extern "C" fn hook_bytes(out: *mut u8, count: c_int) -> c_int {
    let Some((openssl, gate)) = GUARDED.get() else {
        return FAILED;
    };
    let is_drawn = gate.draw(&mut || {
        // SAFETY: OpenSSL calls the hook with its own caller's buffer.
        let answer = unsafe { openssl.bytes(out, count) };
        answer == OK
    });
    if is_drawn { OK } else { FAILED }
}

/// `RAND_add`, and what `RAND_poll` found. A failure ends Node's loop around a draw that fails.
unsafe extern "C" fn hook_add(seed: *const c_void, length: c_int, entropy: f64) -> c_int {
    match GUARDED.get() {
        Some((openssl, gate)) if gate.is_open() => {
            // SAFETY: OpenSSL's caller gave the bytes for the length of the call.
            unsafe { (openssl.add)(seed, length, entropy) }
        }
        _ => FAILED,
    }
}

/// `RAND_seed`.
unsafe extern "C" fn hook_seed(seed: *const c_void, length: c_int) -> c_int {
    // SAFETY: as the caller of this function promises.
    unsafe { hook_add(seed, length, f64::from(length)) }
}

/// `RAND_status`: whether a draw would succeed.
unsafe extern "C" fn hook_status() -> c_int {
    match GUARDED.get() {
        Some((openssl, gate)) if gate.is_open() => openssl.own_status(),
        _ => FAILED,
    }
}

/// Called when the process ends. OpenSSL frees its own generators.
unsafe extern "C" fn hook_cleanup() {}
