//! The kernel's clocksources: the counters that its own clocks may run on.

use std::fs;

/// Names the counter that the kernel's clocks run on. Root selects another one by writing its name.
pub(crate) const CURRENT_PATH: &str =
    "/sys/devices/system/clocksource/clocksource0/current_clocksource";

const AVAILABLE_PATH: &str = "/sys/devices/system/clocksource/clocksource0/available_clocksource";

/// Returns the kernel's name for the counter that its clocks run on; `None` if it cannot be read.
pub(crate) fn current() -> Option<String> {
    let name = fs::read_to_string(CURRENT_PATH).ok()?;
    Some(name.trim_end().to_owned())
}

/// Returns whether the kernel lists the TSC as a clocksource; `None` if the list cannot be read.
///
/// The kernel takes a TSC off this list after it found it untrustworthy.
pub(crate) fn kernel_lists_tsc() -> Option<bool> {
    fs::read_to_string(AVAILABLE_PATH)
        .ok()
        .map(|names| lists_tsc(&names))
}

fn lists_tsc(names: &str) -> bool {
    names.split_ascii_whitespace().any(|name| name == "tsc")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_name_tsc_counts_as_the_tsc() {
        assert!(lists_tsc("kvm-clock tsc hpet acpi_pm \n"));
        assert!(lists_tsc("tsc\n"));
        assert!(!lists_tsc("tsc-early hpet acpi_pm\n"));
        assert!(!lists_tsc("\n"));
    }
}
