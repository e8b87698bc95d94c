//! The guest's family and its clock.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

/// The time that the guest's hardware clock shows (QEMU: `-rtc base=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Rtc {
    /// Coordinated universal time.
    Utc,
    /// The host's local time, as Windows expects.
    LocalTime,
}

/// Which states of sleep the guest's firmware offers (ACPI).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sleep {
    /// Suspend to RAM. Few devices that are passed through wake up again. Default: no for Windows, yes for others.
    #[serde(default)]
    pub s3: Option<bool>,
    /// Suspend to disk, after which the guest ends. Default: no for Windows, yes for others.
    #[serde(default)]
    pub s4: Option<bool>,
}
