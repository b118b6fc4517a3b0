//! Facts about the machine: this boot, its hypervisor, the rules of its device manager, and its terminal.

mod boot;
pub mod hypervisor;
pub mod terminal;
pub mod udev;

pub use boot::boot_id;
