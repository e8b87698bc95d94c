//! Devices of the host that QEMU is given over its monitor just before the guest runs, and again each time that they are
//! plugged in.

mod access;
mod attach;
mod attach_disk;
mod devices;
mod fdset;
mod give_disk;
mod give_input;
mod give_usb;
mod image;
pub(super) mod medium;
mod toggle;
mod uevents;
mod withdraw_device;

pub(in crate::run) use access::Access;
pub(in crate::run) use devices::{Happened, LateDevices};
pub(in crate::run) use fdset::FdSet;
