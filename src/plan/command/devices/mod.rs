//! The guest's devices on QEMU's command line.

pub(super) mod audio;
pub(super) mod balloon;
pub(in crate::plan) mod disks;
pub(super) mod display;
pub(super) mod input;
mod intel;
pub(super) mod networks;
pub(super) mod passthrough;
pub(super) mod ports;
pub(super) mod shared_memory;
pub(super) mod shares;
pub(super) mod tpm;
pub(super) mod usb;
pub(super) mod vsock;
