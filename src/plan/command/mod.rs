//! QEMU's command line, one file a subject: each adds its options, and with them the changes, helpers and findings that
//! the subject needs.

mod acpi;
mod apple_smc;
mod base;
mod board;
mod boot;
mod boot_order;
mod certificates;
mod cpu;
mod decided;
mod devices;
mod enlightenments;
mod extra;
mod firmware;
mod installing;
mod lacks;
mod memory;
mod smbios;
mod watchdog;
mod window;
mod write;

pub(super) use decided::Decided;
pub(super) use devices::disks;
pub use devices::ports::AGENT;
pub(super) use write::{finish, write};
