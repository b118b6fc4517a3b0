//! A file of any bytes, opened as a page and read by this machine's counter.

#![no_main]

use vmclock_testkit::hostile::{Seen, check_file};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check_file(bytes, &mut Seen::default()));
