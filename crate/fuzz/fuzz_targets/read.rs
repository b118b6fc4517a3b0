//! Everything that a clock can be asked, on a page of any bytes that changes between its loads.

#![no_main]

#[path = "../../core/tests/exact/mod.rs"]
#[allow(dead_code, reason = "the arithmetic's own tests use the rest")]
mod exact;
#[path = "../../core/tests/hostile/mod.rs"]
#[allow(dead_code, reason = "the other targets use the rest")]
mod hostile;
#[path = "../../core/tests/virtual_machine/mod.rs"]
mod virtual_machine;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::check(bytes, &mut hostile::Seen::default()));
