//! Draws through the hook while restores are noticed, with a real OpenSSL and without Node. `tools/sanitizers.mjs`
//! runs it: it links the test, whose Node-API functions nothing calls.

use std::collections::HashSet;
use std::ffi::{CStr, c_int};

use super::{randomness, restores};

const THREADS: usize = 8;
const DRAWS: usize = 2_000;
const DRAWS_A_RESTORE: usize = 10;
const VALUE_BYTES: usize = 16;

type RandBytes = unsafe extern "C" fn(*mut u8, c_int) -> c_int;

#[test]
fn eight_threads_draw_different_values_while_restores_are_notified() {
    load(c"libcrypto.so.3");
    let Ok(restores) = restores::begin(None, &[]) else {
        panic!("no view of the machine");
    };
    let Ok(randomness) = randomness::begin(restores, false) else {
        panic!("the hook cannot be installed");
    };
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

/// Loads OpenSSL for the search order of the process, as a Node with a shared OpenSSL has it.
fn load(library: &CStr) {
    // SAFETY: the name is a C string, and this library may be loaded by any program.
    let handle = unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    assert!(!handle.is_null(), "no {library:?}: install libssl3");
}

fn drawn() -> [u8; VALUE_BYTES] {
    // SAFETY: the name is a C string.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"RAND_bytes".as_ptr()) };
    assert!(!found.is_null());
    // SAFETY: `include/openssl/rand.h` of OpenSSL 3 declares it so.
    let rand_bytes: RandBytes = unsafe { std::mem::transmute(found) };
    let mut value = [0; VALUE_BYTES];
    // SAFETY: the bytes are this function's, and 16 of them fit an int.
    let answer = unsafe { rand_bytes(value.as_mut_ptr(), VALUE_BYTES as c_int) };
    assert_eq!(answer, 1);
    value
}
