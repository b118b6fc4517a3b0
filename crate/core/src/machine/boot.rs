//! The identifier of this boot of the kernel.

use std::fs;
use std::sync::OnceLock;

/// The kernel's file with it. Containers have the one of their machine.
const PATH: &str = "/proc/sys/kernel/random/boot_id";

/// Returns the kernel's random identifier of this boot; `None` if /proc cannot be read.
///
/// It remains the same across a live migration, a snapshot and a clone.
#[must_use]
pub fn boot_id() -> Option<u128> {
    static BOOT_ID: OnceLock<Option<u128>> = OnceLock::new();
    *BOOT_ID.get_or_init(|| parse(&fs::read_to_string(PATH).ok()?))
}

fn parse(text: &str) -> Option<u128> {
    let digits: String = text.trim().split('-').collect();
    u128::from_str_radix(&digits, 16).ok().filter(|id| *id != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_id_is_a_uuid_in_hexadecimal() {
        let text = "01234567-89ab-cdef-0011-223344556677\n";
        assert_eq!(parse(text), Some(0x0123_4567_89ab_cdef_0011_2233_4455_6677));
        for text in ["", "x", "00000000-0000-0000-0000-000000000000"] {
            assert_eq!(parse(text), None);
        }
    }
}
