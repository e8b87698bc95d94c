//! What of the host makes way for the machine's devices, and comes back after them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::named::Named;
use super::problems::{Problems, consists_of};
use super::subject::Subject;

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

impl Subject for Handover {
    fn check(&self, problems: &mut Problems) {
        let manager = match &self.display_manager {
            DisplayManager::Unit(unit) => Some(("handover.display_manager.Unit".to_owned(), unit)),
            DisplayManager::Auto | DisplayManager::None => None,
        };
        let units = self.units.iter().enumerate().map(|(i, unit)| (format!("handover.units[{i}]"), unit));
        let of_users = self.user_units.iter().enumerate().map(|(i, unit)| (format!("handover.user_units[{i}]"), unit));
        for (field, unit) in manager.into_iter().chain(units).chain(of_users) {
            // systemd.unit(5); a slice or the launcher's own scope is nothing to stop.
            let kind = unit.rsplit_once('.').map(|(_, kind)| kind);
            let known = matches!(kind, Some("service" | "socket" | "target" | "timer" | "scope" | "path"));
            if !known || unit.len() > 255 || !consists_of(unit, ":-_.\\@") {
                let name = field.trim_end_matches(".Unit");
                problems
                    .add(&field, format!("`{name}` cannot be {unit:?}"))
                    .allowed("a unit's whole name, such as \"sddm.service\"");
            }
        }
        for (i, module) in self.modules.iter().flatten().enumerate() {
            if module.is_empty() || module.len() > 64 || !consists_of(module, "-_") {
                problems
                    .add(format!("handover.modules[{i}]"), format!("{module:?} is no kernel module's name"))
                    .allowed("a name as `lsmod` shows it, such as \"amdgpu\"");
            }
        }
    }

    fn name(&self, named: &mut Named) {
        named.user_units.extend(self.user_units.iter().cloned());
    }
}
