//! What the machine itself tells: its hypervisor, and the rules of its device manager.

pub mod hypervisor;
pub mod udev;
