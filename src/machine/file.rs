//! The machine file as a whole.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::cpu::{Accelerator, Cpu};
use super::disk::Disk;
use super::display::{Display, Serial, Video};
use super::firmware::{Firmware, Kernel, Uefi};
use super::guard::GiveBack;
use super::guest::{Guest, Rtc};
use super::handover::Handover;
use super::hooks::Hooks;
use super::memory::Memory;
use super::network::Network;
use super::pci::{self, PciDevice};
use super::reading;
use super::subject::Subject;
use super::tpm::Tpm;
use super::vsock::Vsock;

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
    #[serde(default, deserialize_with = "reading::list", skip_serializing_if = "Option::is_none")]
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
    #[serde(default, deserialize_with = "reading::written", skip_serializing_if = "Option::is_none")]
    pub video: Option<Video>,
    /// The first serial port. Default `None`.
    #[serde(default)]
    pub serial: Serial,
    /// Trusted platform module. Default `Auto`: TPM 2.0 for Windows 11, none for others.
    #[serde(default)]
    pub tpm: Tpm,
    /// Sockets between host and guest (vsock). Default `None`.
    #[serde(default)]
    pub vsock: Vsock,
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

/// Lists the fields that are subjects, in the order in which they are checked.
macro_rules! subjects {
    ($($field:ident),* $(,)?) => {
        impl Machine {
            /// The names of the fields that are subjects.
            #[cfg(test)]
            pub(super) const SUBJECTS: &[&str] = &[$(stringify!($field)),*];

            /// The subjects.
            pub(super) fn subjects(&self) -> impl Iterator<Item = &dyn Subject> {
                [$(&self.$field as &dyn Subject),*].into_iter()
            }

            /// The same, to be changed.
            pub(super) fn subjects_mut(&mut self) -> impl Iterator<Item = &mut dyn Subject> {
                [$(&mut self.$field as &mut dyn Subject),*].into_iter()
            }
        }
    };
}

subjects! {
    cpu, memory, firmware, kernel, disks, networks, pci, handover, hooks, display, serial, tpm, vsock, give_back_unless,
}

impl Machine {
    /// The name space of the UUIDs that names turn into: a random one, fixed for ever.
    const NAMES: Uuid = Uuid::from_u128(0x5f1c_7d3e_92ab_4c0d_8e64_d1b7_20f9_a635);

    /// The machine's UUID: the one given, or one that depends on the name alone.
    pub fn uuid(&self) -> Uuid {
        self.uuid.unwrap_or_else(|| Uuid::new_v5(&Self::NAMES, self.name.as_bytes()))
    }

    /// What is asked of UEFI; `None` where the guest boots with SeaBIOS.
    pub fn uefi(&self) -> Option<Uefi> {
        match &self.firmware {
            Firmware::Bios => None,
            Firmware::Auto if self.kernel.is_some() || self.guest == Guest::Other => None,
            Firmware::Auto => Some(Uefi::default()),
            Firmware::Uefi(asked) => Some(asked.clone()),
        }
    }

    /// QEMU's machine type: the one given, else the one with PCI Express.
    pub fn machine_type(&self) -> &str {
        self.machine_type.as_deref().unwrap_or("q35")
    }

    /// How long a guest may take to power off before it is ended by force.
    pub fn shutdown_timeout(&self) -> Duration {
        Duration::from_secs(self.shutdown_timeout.unwrap_or(90).into())
    }
}
