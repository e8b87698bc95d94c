//! What the guest boots with: UEFI, SeaBIOS, or a Linux kernel directly.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The guest's firmware.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Firmware {
    /// UEFI for Windows and Linux (with Secure Boot for Windows 11), SeaBIOS for others and beside `kernel`.
    #[default]
    Auto,
    /// UEFI (OVMF), chosen from the firmware descriptors in `/usr/share/qemu/firmware` and its overrides.
    Uefi(Uefi),
    /// QEMU's own SeaBIOS.
    Bios,
}

/// What is asked of a UEFI build.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Uefi {
    /// Secure Boot. Default: yes for Windows 11, no for others.
    #[serde(default)]
    pub secure_boot: Option<bool>,
    /// A variable store that already holds Microsoft's keys. Default: as `secure_boot`.
    #[serde(default)]
    pub enrolled_keys: Option<bool>,
    /// The firmware code image, instead of the descriptors' choice; needs `vars`.
    #[serde(default)]
    pub code: Option<PathBuf>,
    /// The variable store's template, copied once for the machine; needs `code`.
    #[serde(default)]
    pub vars: Option<PathBuf>,
}

/// A Linux kernel that QEMU starts directly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// The kernel image (`bzImage` or a multiboot image).
    pub image: PathBuf,
    /// The initial RAM disk.
    #[serde(default)]
    pub initrd: Option<PathBuf>,
    /// The kernel command line.
    #[serde(default)]
    pub cmdline: String,
}
