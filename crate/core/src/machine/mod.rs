//! Facts about the machine: this boot, its hypervisor, its managers of devices and services, its terminal, its
//! VMGENID device.

mod boot;
pub mod hypervisor;
pub mod supervisor;
pub mod terminal;
pub mod time_namespace;
pub mod udev;
pub mod vmgenid;

pub use boot::boot_id;
