//! A page of any bytes, found and taken over by a publisher on a machine whose clock is known.

#![no_main]

use vmclock_testkit::hostile::{Seen, check_takeover};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check_takeover(bytes, &mut Seen::default()));
