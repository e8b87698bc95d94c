//! The small values that the machine file, the host and the plan share, parsed once, at the edge.

mod cgroups;
mod counted;
mod cpu_set;
mod disk_format;
pub mod exit;
mod forward;
mod ids;
mod input_holder;
pub mod machine_state;
mod origin;
mod pci_address;
mod pci_ids;
mod pci_slot;
mod printable;
pub mod run_files;
mod shell_word;
mod size;
mod stage;
mod subnet;
mod usb_ids;
mod usb_port;

pub use cgroups::{CGROUPS, EFFECTIVE_CPUS};
pub use counted::counted;
pub use cpu_set::{CpuSet, MAX_CPU};
pub use disk_format::DiskFormat;
pub use forward::{Forward, Protocol};
pub use input_holder::InputHolder;
pub use origin::Origin;
pub use pci_address::PciAddress;
pub use pci_ids::PciIds;
pub use pci_slot::PciSlot;
pub use printable::{is_obeyed, printable, printable_lines, printable_start, printable_up_to};
pub use shell_word::{quoted, quoted_file};
pub use size::Size;
pub use stage::Stage;
pub use subnet::Subnet;
pub use usb_ids::UsbIds;
pub use usb_port::UsbPort;

/// A value's text was not of the form that its type takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{read:?} is not {what}; {allowed}")]
pub struct ParseUnitError {
    /// What was read.
    pub read: String,
    /// What it should have been, with its article: `a size`.
    pub what: &'static str,
    /// The allowed form, with an example.
    pub allowed: &'static str,
}

/// Gives a type that has `FromStr`, `Display` and a pattern its serde and schema forms as a string.
macro_rules! as_string {
    ($type:ty, $name:literal, $describe:literal, $pattern:literal) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "description": $describe, "pattern": $pattern })
            }
        }
    };
}
use as_string;
