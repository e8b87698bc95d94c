//! Devices of the host that QEMU is given over its monitor just before the guest runs, and again each time that they are
//! plugged in.

mod access;
mod attach;
mod devices;
mod give_input;
mod give_usb;
mod toggle;
mod uevents;

pub(in crate::run) use access::Access;
pub(in crate::run) use devices::{Happened, LateDevices};
