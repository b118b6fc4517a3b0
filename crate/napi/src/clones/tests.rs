//! Draws through the hook while restores are noticed, in a forked child, and beside other code's method, with a real
//! OpenSSL and without Node. `tools/addon-tests.mjs` runs them: it links the tests, whose Node-API functions nothing
//! calls.

use std::collections::HashSet;
use std::ffi::{CStr, c_int, c_void};
use std::io::{Read, Write, pipe};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::randomness::{Obstacle, Randomness};
use super::{randomness, restores};

const THREADS: usize = 8;
const DRAWS: usize = 2_000;
const DRAWS_A_RESTORE: usize = 10;
const VALUE_BYTES: usize = 16;

type RandBytes = unsafe extern "C" fn(*mut u8, c_int) -> c_int;

/// OpenSSL has one method in a process, and `cargo test` one process for all tests.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn eight_threads_draw_different_values_while_restores_are_notified() {
    let _alone = with_open_ssl();
    let Ok(restores) = restores::begin(None, &[]) else {
        panic!("no view of the machine");
    };
    let randomness = protected(false).unwrap_or_else(|reason| panic!("{reason}"));
    let draw = |at: usize| {
        if at.is_multiple_of(DRAWS_A_RESTORE) {
            restores.notify();
        }
        drawn()
    };
    let values: HashSet<_> = std::thread::scope(|scope| {
        let drawers: Vec<_> = (0..THREADS)
            .map(|_| scope.spawn(|| (0..DRAWS).map(draw).collect::<Vec<_>>()))
            .collect();
        drawers
            .into_iter()
            .flat_map(|drawer| drawer.join().unwrap())
            .collect()
    });
    assert_eq!(values.len(), THREADS * DRAWS);
    // A thread's draw after its own notice is reseeded. Another thread may have done so for it.
    let (reseeds, _) = randomness.history();
    let least = DRAWS / DRAWS_A_RESTORE;
    assert!(reseeds >= least as u64, "{reseeds} reseeds");
}

#[test]
fn a_forked_child_draws_other_values_than_its_parent_and_reseeds_after_a_restore() {
    let _alone = with_open_ssl();
    let Ok(restores) = restores::begin(None, &[]) else {
        panic!("no view of the machine");
    };
    let randomness = protected(false).unwrap_or_else(|reason| panic!("{reason}"));
    drawn();
    let (mut answers, mut out) = pipe().unwrap();
    // SAFETY: the child draws, writes to a pipe and ends. No thread of this process reseeds or draws meanwhile.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let before = drawn();
        let (reseeds_before, _) = randomness.history();
        restores.notify();
        let after = drawn();
        let (reseeds, _) = randomness.history();
        let has_reseeded = u8::from(reseeds == reseeds_before + 1);
        let is_written = [&before[..], &after, &[has_reseeded]]
            .iter()
            .all(|part| out.write_all(part).is_ok());
        // SAFETY: it ends the child without the parent's handlers.
        unsafe { libc::_exit(c_int::from(!is_written)) };
    }
    drop(out);
    let values = [drawn(), drawn()];
    let mut of_child = Vec::new();
    answers.read_to_end(&mut of_child).unwrap();
    let mut status = 0;
    // SAFETY: the child is this process's, and the status is written.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
    let (drawn_values, has_reseeded) = of_child.split_at(2 * VALUE_BYTES);
    assert_eq!(has_reseeded, [1]);
    let all: HashSet<&[u8]> = drawn_values
        .chunks(VALUE_BYTES)
        .chain(values.iter().map(<[u8; VALUE_BYTES]>::as_slice))
        .collect();
    assert_eq!(all.len(), 4);
}

/// `struct rand_meth_st`, as another addon would write it down.
#[repr(C)]
struct ForeignMethod {
    seed: Option<unsafe extern "C" fn(*const c_void, c_int) -> c_int>,
    bytes: Option<RandBytes>,
    cleanup: Option<unsafe extern "C" fn()>,
    add: Option<unsafe extern "C" fn(*const c_void, c_int, f64) -> c_int>,
    pseudorand: Option<RandBytes>,
    status: Option<unsafe extern "C" fn() -> c_int>,
}

static FOREIGN: ForeignMethod = ForeignMethod {
    seed: None,
    bytes: Some(foreign_bytes),
    cleanup: None,
    add: Some(foreign_add),
    pseudorand: Some(foreign_bytes),
    status: None,
};
static FOREIGN_DRAWS: AtomicUsize = AtomicUsize::new(0);
static FOREIGN_SEEDS: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn foreign_bytes(_out: *mut u8, _count: c_int) -> c_int {
    FOREIGN_DRAWS.fetch_add(1, Ordering::Relaxed);
    1
}

unsafe extern "C" fn foreign_add(_seed: *const c_void, _length: c_int, _entropy: f64) -> c_int {
    FOREIGN_SEEDS.fetch_add(1, Ordering::Relaxed);
    1
}

#[test]
fn a_method_of_other_code_stays_and_the_protection_is_refused_beside_it() {
    let _alone = with_open_ssl();
    let is_foreign = || {
        let before = FOREIGN_DRAWS.load(Ordering::Relaxed);
        drawn();
        FOREIGN_DRAWS.load(Ordering::Relaxed) > before
    };
    let refusal = "other code has installed a RAND_METHOD of its own";

    // It is there before the protection.
    set_method(&raw const FOREIGN);
    assert_eq!(protected(false).err(), Some(refusal));
    assert!(is_foreign());

    // It gives way to OpenSSL's own.
    set_method(ptr::null());
    let randomness = protected(true).unwrap_or_else(|reason| panic!("{reason}"));
    assert!(randomness.is_hook_installed());
    assert!(!is_foreign());

    // It replaces the hook, and neither a second protection nor the end of the first changes that. A process that
    // was strict remains so.
    set_method(&raw const FOREIGN);
    assert!(!randomness.is_hook_installed());
    assert_eq!(protected(false).err(), Some(refusal));
    assert!(randomness.is_strict());
    randomness.openssl().uninstall();
    assert!(is_foreign());

    // No reseed of the protection has gone to it.
    assert_eq!(FOREIGN_SEEDS.load(Ordering::Relaxed), 0);
    set_method(ptr::null());
}

/// Installs the hook, or says why not.
fn protected(is_strict: bool) -> Result<&'static Randomness, &'static str> {
    let restores = restores::begin(None, &[]).map_err(|_| "no view of the machine")?;
    randomness::begin(restores, is_strict).map_err(|obstacle| match obstacle {
        Obstacle::Refused(refusal) => refusal.0,
        Obstacle::NoEntropy => "no entropy",
    })
}

/// Loads OpenSSL for the search order of the process, as a Node with a shared OpenSSL has it. No other test uses it
/// while the result lives.
fn with_open_ssl() -> MutexGuard<'static, ()> {
    let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let library = c"libcrypto.so.3";
    // SAFETY: the name is a C string, and this library may be loaded by any program.
    let handle = unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    assert!(!handle.is_null(), "no {library:?}: install libssl3");
    // A test that failed may have left its own.
    set_method(ptr::null());
    alone
}

fn set_method(method: *const ForeignMethod) {
    // SAFETY: `include/openssl/rand.h` of OpenSSL 3 declares it so.
    let set_rand_method: unsafe extern "C" fn(*const ForeignMethod) -> c_int =
        unsafe { std::mem::transmute(function(c"RAND_set_rand_method")) };
    // SAFETY: the method is a static, or null for OpenSSL's own.
    assert_eq!(unsafe { set_rand_method(method) }, 1);
}

fn function(name: &CStr) -> NonNull<c_void> {
    // SAFETY: the name is a C string.
    NonNull::new(unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }).unwrap()
}

fn drawn() -> [u8; VALUE_BYTES] {
    // SAFETY: `include/openssl/rand.h` of OpenSSL 3 declares it so.
    let rand_bytes: RandBytes = unsafe { std::mem::transmute(function(c"RAND_bytes")) };
    let mut value = [0; VALUE_BYTES];
    // SAFETY: the bytes are this function's, and 16 of them fit an int.
    let answer = unsafe { rand_bytes(value.as_mut_ptr(), VALUE_BYTES as c_int) };
    assert_eq!(answer, 1);
    value
}
