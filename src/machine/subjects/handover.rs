//! What vfio-run stops and ends on the host to free the machine's devices, and starts again after them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::machine::explicit_none;
use crate::machine::named::Named;
use crate::machine::problems::{Problems, consists_of};
use crate::machine::subject::Subject;

/// What vfio-run stops and ends on the host before it takes the devices in `pci`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Handover {
    /// What happens to the display manager. Default `Auto`: vfio-run stops it if it runs and a graphics card in use is
    /// passed through.
    #[serde(default)]
    pub display_manager: DisplayManager,
    /// Further systemd units to stop: `["nvidia-persistenced.service"]`. vfio-run starts them again after the run. Default:
    /// none.
    #[serde(default)]
    pub units: Vec<String>,
    /// User units to stop (`systemctl --user`), of the users who are logged in at a screen or have a device open:
    /// `["wireplumber.service"]`. vfio-run starts them again after the run. Default: none.
    #[serde(default)]
    pub user_units: Vec<String>,
    /// Kernel modules to remove, in order. Default: NVIDIA's, unless another card needs them; other drivers release a device
    /// when it is unbound.
    #[serde(default, deserialize_with = "explicit_none::list", skip_serializing_if = "Option::is_none")]
    pub modules: Option<Vec<String>>,
    /// What happens to programs that still have a device open when the units have stopped. Default `Refuse`.
    #[serde(default)]
    pub holders: Holders,
}

/// What happens to the display manager.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum DisplayManager {
    /// vfio-run stops it if it runs and a graphics card in use is passed through.
    #[default]
    Auto,
    /// It goes on.
    None,
    /// vfio-run stops this unit: `Unit("sddm.service")`.
    Unit(String),
}

/// What happens to programs that have a device open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Holders {
    /// vfio-run refuses to start and names them.
    #[default]
    Refuse,
    /// vfio-run asks them to end (SIGTERM), then kills them (SIGKILL).
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
                    .add(format!("handover.modules[{i}]"), format!("{module:?} is not the name of a kernel module"))
                    .allowed("a name as `lsmod` shows it, such as \"amdgpu\"");
            }
        }
    }

    fn name(&self, named: &mut Named) {
        named.units.extend(self.units.iter().cloned());
        if let DisplayManager::Unit(unit) = &self.display_manager {
            named.units.push(unit.clone());
        }
        named.user_units.extend(self.user_units.iter().cloned());
    }
}
