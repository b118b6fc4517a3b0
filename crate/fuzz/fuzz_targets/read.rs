//! Everything that a clock can be asked, on a page of any bytes that changes between its loads.

#![no_main]

use vmclock_testkit::hostile::{Seen, check};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check(bytes, &mut Seen::default()));
