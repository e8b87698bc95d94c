//! Devices of the host that the guest has for itself.

mod check;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::units::{PciIds, PciSlot, Size};

/// A PCI device that the guest has for itself, with its functions where they are on the card.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PciDevice {
    /// Which: `"01:00.0"`, or `"01:00.*"` for all functions of a card, as `lspci` and `vfio-run devices` show them.
    pub address: PciSlot,
    /// What its first function must be, as vendor:device: another card at this address is refused.
    #[serde(default)]
    pub expect: Option<PciIds>,
    /// What its first function's subsystem must be, which tells one maker's card from another's.
    #[serde(default)]
    pub subsystem: Option<PciIds>,
    /// A file with its ROM in place of the card's own. A card that the host's firmware has used may need it.
    #[serde(default)]
    pub rom: Option<PathBuf>,
    /// Have the guest find it at the addresses of a VGA card (QEMU: `x-vga`), for guests without UEFI. Default: no.
    #[serde(default)]
    pub x_vga: Option<bool>,
    /// Resize its largest resizable memory range for the run. Default: as the host's firmware set it.
    #[serde(default)]
    pub rebar: Option<Rebar>,
    /// How the kernel resets it: a word of its `reset_method`. Default: the kernel's choice.
    #[serde(default)]
    pub reset_method: Option<String>,
    /// What may be tried, in this order, where it does not answer after the guest: a driver of the host's that got a dead
    /// card could take the host with it. Default: `[Reset, Bus]`; what helped last time is tried first.
    #[serde(default, deserialize_with = "super::reading::list", skip_serializing_if = "Option::is_none")]
    pub revive: Option<Vec<Revive>>,
    /// The slot of the guest's root bus that it sits behind, 26 to 30 being free. Default: the next free one.
    #[serde(default)]
    pub slot: Option<u8>,
    /// Properties for QEMU's `vfio-pci`, given to each function; QEMU judges their values: `{"x-no-mmap": true}`.
    #[serde(default)]
    pub properties: BTreeMap<String, Property>,
}

/// To what a resizable memory range is resized (Resizable BAR).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Rebar {
    /// The largest size that the device offers.
    Max,
    /// This size: `Size("256 MiB")`.
    Size(Size),
}

/// What can wake a card that does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Revive {
    /// The kernel's reset of each function.
    Reset,
    /// A reset of the bus below the port that it is behind (`reset_subordinate`), where nothing of the host is on it.
    Bus,
    /// The kernel forgets the card and looks for it again.
    Rescan,
    /// The host sleeps for five seconds, which cuts the card's power.
    Suspend,
}

/// The value of a property.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Property {
    /// `true` or `false`.
    Switch(bool),
    /// A whole number.
    Number(i64),
    /// Text.
    Text(String),
}

impl PciDevice {
    /// A device of which nothing but the address is said.
    pub fn at(address: PciSlot) -> Self {
        Self {
            address,
            expect: None,
            subsystem: None,
            rom: None,
            x_vga: None,
            rebar: None,
            reset_method: None,
            revive: None,
            slot: None,
            properties: BTreeMap::new(),
        }
    }
}

/// An entry of the list: a text is an address, and fields are all that can be said.
struct Written(PciDevice);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Written;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an address or fields")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Written, E> {
                text.parse().map(|address| Written(PciDevice::at(address))).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Written, A::Error> {
                PciDevice::deserialize(MapAccessDeserializer::new(map)).map(Written)
            }
        }
        from.deserialize_any(Either)
    }
}

/// Reads the list.
pub(super) fn list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PciDevice>, D::Error> {
    Ok(Vec::<Written>::deserialize(from)?.into_iter().map(|Written(device)| device).collect())
}

/// What the list takes: for a text the pattern counts, for an object the fields.
pub(super) fn list_schema(generator: &mut SchemaGenerator) -> Schema {
    let address = PciSlot::json_schema(generator);
    let mut item = PciDevice::json_schema(generator);
    item.insert("type".to_owned(), json!(["string", "object"]));
    if let Some(pattern) = address.get("pattern") {
        item.insert("pattern".to_owned(), pattern.clone());
    }
    schemars::json_schema!({ "type": "array", "items": item })
}
