//! Facts about the machine: this boot, its hypervisor, and the rules of its device manager.

mod boot;
pub mod hypervisor;
pub mod udev;

pub use boot::boot_id;
