//! vmclock
