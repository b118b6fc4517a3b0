//! Facts about the machine: its hypervisor, and the rules of its device manager.

pub mod hypervisor;
pub mod udev;
