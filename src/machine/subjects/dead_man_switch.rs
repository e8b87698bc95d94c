//! The dead-man switch: the host gets its devices back unless the guest shows a sign of life.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::machine::problems::Problems;
use crate::machine::subject::Subject;

const MAX_GIVE_BACK: u32 = 3600;

/// The dead-man switch: vfio-run ends the guest and gives everything back unless the guest shows a sign of life in time.
///
/// No sign tells that a picture is on the screen, only that an operating system is at work. `vfio-run alive NAME`
/// counts as each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GiveBack {
    /// What counts as a sign of life. Default `Any`.
    #[serde(default)]
    pub sign: Sign,
    /// Seconds from QEMU's start within which the sign must come, 1 to 3600.
    #[schemars(range(min = 1, max = 3600))]
    pub within: u32,
}

/// What a living guest shows, as far as QEMU and the kernel can tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Sign {
    /// Any of the following.
    #[default]
    Any,
    /// The guest agent has opened its channel: the guest has come so far that its services run.
    GuestAgent,
    /// A driver of the guest has enabled the message-signalled interrupts (MSI) of a device in `pci`. Firmware and boot
    /// loaders do not; a driver that uses none never shows this sign.
    Driver,
    /// The guest has written more than 1 MiB to its disks. Boot loaders write a few KiB at most; QEMU does not see disks
    /// that are passed through as PCI devices.
    Disk,
    /// You have run `vfio-run alive NAME`.
    Confirmed,
}

impl std::fmt::Display for Sign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Any => "a sign of life",
            Self::GuestAgent => "the guest agent",
            Self::Driver => "a driver of the guest at work on a passed-through device",
            Self::Disk => "more than 1 MiB written to the guest's disks",
            Self::Confirmed => "`vfio-run alive`",
        })
    }
}

impl Subject for GiveBack {
    fn check(&self, problems: &mut Problems) {
        if !(1..=MAX_GIVE_BACK).contains(&self.within) {
            problems
                .add("give_back_unless.within", format!("`give_back_unless.within` cannot be {}", self.within))
                .allowed(format!("1 to {MAX_GIVE_BACK} seconds"));
        }
    }
}
