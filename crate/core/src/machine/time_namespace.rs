//! The time namespace of this process.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// The kernel's file with the offsets of CLOCK_MONOTONIC and CLOCK_BOOTTIME, in seconds and nanoseconds.
const PATH: &str = "/proc/self/timens_offsets";

/// Returns whether CLOCK_MONOTONIC or CLOCK_BOOTTIME may differ from those of the machine's other processes. Kernels
/// without time namespaces lack the file. Without /proc nobody knows.
#[must_use]
pub fn may_shift_clocks() -> bool {
    match fs::read_to_string(PATH) {
        Ok(text) => shifts(&text),
        Err(error) => error.kind() != ErrorKind::NotFound || !Path::new("/proc/self/stat").exists(),
    }
}

/// Returns whether the file states an offset that is not 0, or nothing that is known.
fn shifts(text: &str) -> bool {
    let is_zero = |name: &str| {
        text.lines()
            .any(|line| line.split_whitespace().eq([name, "0", "0"]))
    };
    !(is_zero("monotonic") && is_zero("boottime"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_with_two_zero_offsets_shifts_no_clock() {
        assert!(!shifts(
            "monotonic           0         0\nboottime            0         0\n"
        ));
        for text in [
            "monotonic         -20         0\nboottime            0         0\n",
            "monotonic           0         0\nboottime            0         1\n",
            "monotonic           0         0\n",
            "",
        ] {
            assert!(shifts(text), "{text:?}");
        }
    }
}
