//! What of the host makes way for the machine's devices, and comes back after them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What makes way before the devices of `pci` are taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Handover {
    /// The display manager. Default `Auto`: stopped where it runs and a graphics card in use is taken.
    #[serde(default)]
    pub display_manager: DisplayManager,
    /// Further units of systemd's to stop: `["nvidia-persistenced.service"]`. They start again afterwards.
    #[serde(default)]
    pub units: Vec<String>,
    /// Units of the users who are logged in at a screen, or hold a device, to stop in their own service managers:
    /// `["wireplumber.service"]`. They start again afterwards.
    #[serde(default)]
    pub user_units: Vec<String>,
    /// Kernel modules to remove, in order. Default: NVIDIA's, where no other card needs them; others let go by themselves.
    #[serde(default, deserialize_with = "super::reading::list", skip_serializing_if = "Option::is_none")]
    pub modules: Option<Vec<String>>,
    /// What becomes of programs that still hold a device when the units have stopped. Default `Refuse`.
    #[serde(default)]
    pub holders: Holders,
}

/// What becomes of the display manager.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum DisplayManager {
    /// It is stopped where it runs and a graphics card in use is taken.
    #[default]
    Auto,
    /// It is left alone.
    None,
    /// This unit is stopped: `Unit("sddm.service")`.
    Unit(String),
}

/// What becomes of programs that hold a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Holders {
    /// The start is refused, and they are named.
    #[default]
    Refuse,
    /// They are asked to end (SIGTERM), then made to (SIGKILL).
    End,
}
