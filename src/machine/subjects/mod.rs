//! The subjects of a machine file, one file each: its types, and what it says about itself.

pub(super) mod acpi;
pub(super) mod apple_smc;
pub(super) mod audio;
pub(super) mod cpu;
pub(super) mod dead_man_switch;
pub(super) mod disk;
pub(super) mod display;
pub(super) mod firmware;
pub(super) mod guest;
pub(super) mod handover;
pub(super) mod hooks;
pub(super) mod host;
pub(super) mod input;
pub(super) mod looking_glass;
pub(super) mod memory;
pub(super) mod network;
pub(super) mod pci;
pub(super) mod pin;
pub(super) mod reboot;
pub(super) mod share;
pub(super) mod smbios;
pub(super) mod tpm;
pub(super) mod usb;
pub(super) mod vsock;
pub(super) mod watchdog;
