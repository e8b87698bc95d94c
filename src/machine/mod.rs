//! What the user wrote: the machine file's types, reading with good errors, and validation that needs nothing but the
//! file. Values that were left out stay `None`; deriving them is the plan's work, since it depends on host and QEMU.

mod cpu;
mod disk;
mod display;
mod examples;
mod explain;
mod fields;
mod firmware;
mod guard;
mod handover;
mod hooks;
mod lines;
mod memory;
mod network;
mod pci;
mod refused;
mod schema;
mod source;
mod tokens;
mod tpm;
mod validate;

#[cfg(test)]
mod tests;

pub use cpu::{Accelerator, Cpu, Topology};
pub use disk::{Aio, Bus, Cache, Discard, Disk, Media};
pub use display::{Display, Listen, Serial, Video};
pub use explain::nearest;
pub use fields::{Field, Fields};
pub use firmware::{Firmware, Kernel, Uefi};
pub use guard::{GiveBack, Sign};
pub use handover::{DisplayManager, Handover, Holders};
pub use hooks::{Hook, Hooks};
pub use lines::{Lines, Position};
pub use memory::{Memory, Pages};
pub use network::{Backend, Network, NetworkModel};
pub use pci::{PciDevice, Property, Rebar, Revive};
pub use refused::{Place, Refused};
pub use schema::schema;
pub use source::{Source, parse, read};
pub use tpm::Tpm;
pub use validate::is_name;

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One virtual machine, as its file describes it.
///
/// Only `guest` and `memory` must be there; all else is derived from the guest family, the host and the QEMU binary,
/// and each derived value can be overridden by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Name: letters, digits, `-`, `_` and `.`, at most 48 characters. Default: the file's name without `.ron`.
    #[serde(default)]
    pub name: String,
    /// The machine's UUID, seen by the guest (SMBIOS). Default: derived from the name, so it never changes.
    #[serde(default)]
    pub uuid: Option<Uuid>,
    /// Which family of defaults applies.
    pub guest: Guest,
    /// The QEMU binary. Default: `qemu-system-x86_64` in PATH.
    #[serde(default)]
    pub qemu: Option<PathBuf>,
    /// KVM or emulation. Default `Auto`: KVM where it works, else emulation with a warning.
    #[serde(default)]
    pub accelerator: Accelerator,
    /// QEMU machine type. Default: `q35`, whose version follows the QEMU binary.
    #[serde(default)]
    pub machine_type: Option<String>,
    /// Virtual CPUs and where their threads run.
    #[serde(default)]
    pub cpu: Cpu,
    /// The guest's memory.
    pub memory: Memory,
    /// Firmware. Default `Auto`: UEFI where the guest family wants it, none beside `kernel`.
    #[serde(default)]
    pub firmware: Firmware,
    /// A Linux kernel to start directly, without boot loader.
    #[serde(default)]
    pub kernel: Option<Kernel>,
    /// Disks and CD images, in boot order unless they name their own.
    #[serde(default)]
    pub disks: Vec<Disk>,
    /// Network cards. Default: one with user-mode networking; `[]` or `None` for none.
    #[serde(default, deserialize_with = "list", skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<Network>>,
    /// PCI devices of the host that the guest has for itself: addresses, or fields where more is to be said.
    #[serde(default, deserialize_with = "pci::list")]
    #[schemars(schema_with = "pci::list_schema")]
    pub pci: Vec<PciDevice>,
    /// What of the host makes way for these devices. Default: what is found to be in the way.
    #[serde(default)]
    pub handover: Handover,
    /// Programs of yours that take part in a run: `hooks: (ready: [["/usr/local/bin/lights", "off"]])`.
    #[serde(default)]
    pub hooks: Hooks,
    /// Where the emulated screen is shown. Default `None`.
    #[serde(default)]
    pub display: Display,
    /// The emulated graphics card. Default: none without a display, else `Virtio` for Linux and `Std` for others.
    #[serde(default, deserialize_with = "written", skip_serializing_if = "Option::is_none")]
    pub video: Option<Video>,
    /// The first serial port. Default `None`.
    #[serde(default)]
    pub serial: Serial,
    /// Trusted platform module. Default `Auto`: TPM 2.0 for Windows 11, none for others.
    #[serde(default)]
    pub tpm: Tpm,
    /// What the guest takes the clock for. Default: `LocalTime` for Windows, `Utc` for others.
    #[serde(default)]
    pub rtc: Option<Rtc>,
    /// The account that QEMU runs as when started by root: a name or a number. Default: a user id of its own.
    #[serde(default)]
    pub user: Option<String>,
    /// Seconds from the first request to power off until the guest is ended by force. Default 90.
    #[serde(default)]
    pub shutdown_timeout: Option<u32>,
    /// The dead-man switch: give the devices back unless the guest shows that it lives. Default: no switch.
    #[serde(default)]
    pub give_back_unless: Option<GiveBack>,
    /// Arguments added to the end of QEMU's command line as they are.
    #[serde(default)]
    pub extra_args: Vec<String>,
}

/// The guest's family: picks clock, Hyper-V enlightenments, firmware and TPM defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Guest {
    /// Windows 11: Hyper-V set, local time, UEFI with Secure Boot, TPM 2.0.
    Windows11,
    /// Windows 10 and the Server releases of its time: Hyper-V set, local time, UEFI.
    Windows10,
    /// Linux: kvmclock, UTC, UEFI.
    Linux,
    /// Anything else: UTC, SeaBIOS, no enlightenments.
    Other,
}

impl Guest {
    /// Whether the guest knows Hyper-V's interfaces and keeps its clock in local time.
    pub fn is_windows(self) -> bool {
        matches!(self, Self::Windows11 | Self::Windows10)
    }
}

/// What the guest takes its hardware clock for (QEMU: `-rtc base=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Rtc {
    /// Coordinated universal time.
    Utc,
    /// The host's local time, as Windows expects.
    LocalTime,
}

/// Reads an optional field of a type that has a `None` of its own: what is written is that `None`, while a field that
/// is left out has its default. `implicit_some` alone would take `video: None` for a field that is left out.
fn written<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// Reads an optional list whose default has entries. Who writes `None` wants none of them; `implicit_some` alone would
/// take it for a field that is left out.
fn list<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<Vec<T>>, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default).map(Some)
}

impl Machine {
    /// The name space of the UUIDs that names turn into: a random one, fixed for ever.
    const NAMES: Uuid = Uuid::from_u128(0x5f1c_7d3e_92ab_4c0d_8e64_d1b7_20f9_a635);

    /// The machine's UUID: the one given, or one that depends on the name alone.
    pub fn uuid(&self) -> Uuid {
        self.uuid.unwrap_or_else(|| Uuid::new_v5(&Self::NAMES, self.name.as_bytes()))
    }

    /// How long a guest may take to power off before it is ended by force.
    pub fn shutdown_timeout(&self) -> Duration {
        Duration::from_secs(self.shutdown_timeout.unwrap_or(90).into())
    }
}
