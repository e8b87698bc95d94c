//! What the user wrote: the machine file's types, reading with good errors, and validation that needs nothing but the
//! file. Values that were left out stay `None`; deriving them is the plan's work, since it depends on host and QEMU.

mod cpu;
mod disk;
mod display;
mod examples;
mod explain;
mod fields;
mod file;
mod firmware;
mod guard;
mod guest;
mod handover;
mod hooks;
mod host;
mod lines;
mod memory;
mod named;
mod network;
mod pci;
mod problems;
mod reading;
mod refused;
mod schema;
mod source;
mod subject;
mod tokens;
mod tpm;
mod validate;
mod values;
mod vsock;

#[cfg(test)]
mod tests;

pub use cpu::{Accelerator, Cpu, Topology};
pub use disk::{Aio, Bus, Cache, Discard, Disk, Media};
pub use display::{Display, Listen, Serial, Video};
pub use explain::nearest;
pub use fields::{Field, Fields};
pub use file::Machine;
pub use firmware::{Firmware, Kernel, Uefi};
pub use guard::{GiveBack, Sign};
pub use guest::{Guest, Rtc};
pub use handover::{DisplayManager, Handover, Holders};
pub use hooks::{Hook, Hooks};
pub use host::{Frequency, HostTuning, Place as HostPlace, ThpDefrag};
pub use lines::{Lines, Position};
pub use memory::{Memory, Pages};
pub use named::Named;
pub use network::{Backend, Network, NetworkModel};
pub use pci::{PciDevice, Property, Rebar, Revive};
pub use refused::{Place, Refused};
pub use schema::schema;
pub use source::{Source, parse, read};
pub use tpm::Tpm;
pub use values::{QEMU, is_name};
pub use vsock::Vsock;
