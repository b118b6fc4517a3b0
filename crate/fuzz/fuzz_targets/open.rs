//! A file of any bytes, opened as a page and read by this machine's counter.

#![no_main]

#[path = "../../core/tests/exact/mod.rs"]
#[allow(dead_code, reason = "the arithmetic's own tests use the rest")]
mod exact;
#[path = "../../core/tests/hostile/mod.rs"]
#[allow(dead_code, reason = "the other targets use the rest")]
mod hostile;
#[path = "../../core/tests/virtual_machine/mod.rs"]
mod virtual_machine;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::check_file(
    bytes,
    &mut hostile::Seen::default()
));
