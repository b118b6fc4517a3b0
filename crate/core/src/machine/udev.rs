//! The udev rules that let every user read the vmclock device and its PTP clock.

/// The rule for the page, which [`crate::Error::Access`] quotes.
macro_rules! page_rule {
    () => {
        r#"KERNEL=="vmclock*", MODE="0444""#
    };
}
pub(crate) use page_rule;

/// The rules file's path.
macro_rules! rules_path {
    () => {
        "/etc/udev/rules.d/60-vmclock.rules"
    };
}
pub(crate) use rules_path;

/// The commands that apply the rules to existing devices.
///
/// They trigger only these devices. A trigger of all devices would run every other rule of the
/// machine again.
macro_rules! apply_rules {
    () => {
        "udevadm control --reload && udevadm trigger --subsystem-match=misc --subsystem-match=ptp"
    };
}
pub(crate) use apply_rules;

/// The rules file's path. Its number sorts it after systemd's own rules (50), which set the defaults.
pub const RULES_PATH: &str = rules_path!();

/// The text of the rules file, for `udev(7)`.
///
/// The rules permit reading only. `ptp_vmclock.c` refuses a writable mapping of the page.
/// `posix-clock.c` lets nobody set or adjust a PTP clock that is open for reading, and this driver
/// offers neither. A reader learns the time and whether the machine was moved. The time is no secret
/// to a process that has the counter and the system clock.
pub const RULES: &str = concat!(
    "# Every user may read the hypervisor's vmclock page, and the PTP clock that Linux makes of it.\n",
    page_rule!(),
    "\n",
    r#"SUBSYSTEM=="ptp", ATTR{clock_name}=="vmclock*", MODE="0444""#,
    "\n",
);
