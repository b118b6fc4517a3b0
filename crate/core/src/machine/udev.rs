//! The udev rules that let every user read the device.

/// The rule for the page, as [`crate::Error::Access`] names it.
macro_rules! page_rule {
    () => {
        r#"KERNEL=="vmclock*", MODE="0444""#
    };
}
pub(crate) use page_rule;

/// Where the rules belong.
macro_rules! rules_path {
    () => {
        "/etc/udev/rules.d/60-vmclock.rules"
    };
}
pub(crate) use rules_path;

/// What applies the rules to devices that are there already: to these alone, for a trigger of all would
/// run every other rule of the machine again.
macro_rules! apply_rules {
    () => {
        "udevadm control --reload && udevadm trigger --subsystem-match=misc --subsystem-match=ptp"
    };
}
pub(crate) use apply_rules;

/// Where the rules belong: after systemd's own (50), which give the defaults.
pub const RULES_PATH: &str = rules_path!();

/// The rules file, for `udev(7)`.
///
/// Reading is all that it gives. The page maps read-only (`ptp_vmclock.c` refuses the rest), and a PTP
/// clock that is open for reading can be neither set nor steered (`posix-clock.c`), which this driver
/// does not offer to anybody. What is read is the time, which is no secret to a process that has the
/// counter and the system clock, and whether the machine was moved.
pub const RULES: &str = concat!(
    "# Every user may read the hypervisor's vmclock page, and the PTP clock that Linux makes of it.\n",
    page_rule!(),
    "\n",
    r#"SUBSYSTEM=="ptp", ATTR{clock_name}=="vmclock*", MODE="0444""#,
    "\n",
);
