//! Devices of the host that are passed through to the guest.

mod check;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;

use crate::machine::explicit_none;
use crate::machine::short_or_fields::{FromShort, ShortOrFields};
use crate::units::{ParseUnitError, PciIds, PciSlot, Size};

/// A PCI device that is passed through to the guest, with its functions at the numbers that they have on the card.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PciDevice {
    /// Its address: `"01:00.0"`, or `"01:00.*"` for all functions of a card, as `lspci` and `vfio-run devices` show them.
    pub address: PciSlot,
    /// The ids that its first function must have, vendor:device, as `"10de:2684"`: vfio-run refuses another card at this
    /// address. Default: any.
    #[serde(default)]
    pub expect: Option<PciIds>,
    /// The subsystem ids that its first function must have, which tell one maker's card from another's. Default: any.
    #[serde(default)]
    pub subsystem: Option<PciIds>,
    /// A file with its ROM, in place of the card's own. A card that the host's firmware has used may need it. QEMU gets a copy
    /// in memory if its account cannot open the file. Default: the card's own.
    #[serde(default)]
    pub rom: Option<PathBuf>,
    /// Whether the guest finds it at the addresses of a VGA card (QEMU: `x-vga`), as guests without UEFI need. Default: no.
    #[serde(default)]
    pub x_vga: Option<bool>,
    /// The size of its largest resizable memory range (Resizable BAR) during the run. Default: as the host's firmware set it.
    #[serde(default)]
    pub rebar: Option<Rebar>,
    /// How the kernel resets it: a word of its `reset_method` below /sys. Default: the kernel's choice.
    #[serde(default)]
    pub reset_method: Option<String>,
    /// What vfio-run tries, in this order, if it does not answer after the guest: a host driver that is bound to a dead card
    /// can crash the host. Default: `[Reset, Bus]`; what helped last time comes first.
    #[serde(default, deserialize_with = "explicit_none::list", skip_serializing_if = "Option::is_none")]
    pub revive: Option<Vec<Revive>>,
    /// Its place in the boot order, which it shares with `disks`, 1 first; 0 if it is never booted. Default: a controller of
    /// disks comes after `disks`, if anything has a place; USB controllers and network cards have none.
    #[serde(default)]
    pub boot: Option<u32>,
    /// The slot of the guest's root bus that its root port takes, 26 to 30. Default: one that vfio-run chooses below 26.
    #[serde(default)]
    pub slot: Option<u8>,
    /// Properties of QEMU's `vfio-pci` for each function: `{"x-no-mmap": true}`. QEMU checks their values. Default: none.
    #[serde(default)]
    pub properties: BTreeMap<String, Property>,
}

/// The size of a resizable memory range (Resizable BAR).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Rebar {
    /// The largest size that the device offers.
    Max,
    /// This size: `Size("256 MiB")`.
    Size(Size),
}

/// What can revive a card that does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Revive {
    /// The kernel's reset of each function.
    Reset,
    /// A reset of the bus below the port that it is behind (`reset_subordinate`), if the host uses nothing else on that bus.
    Bus,
    /// The kernel forgets the card and looks for it again.
    Rescan,
    /// The host suspends to RAM for five seconds, which cuts the card's power.
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
    /// A device of which the file says nothing but the address.
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
            boot: None,
            slot: None,
            properties: BTreeMap::new(),
        }
    }
}

impl FromShort for PciDevice {
    type Short = String;
    const EXPECTED: &str = "an address or fields";

    fn from_short(text: String) -> Result<Self, String> {
        text.parse().map(Self::at).map_err(|error: ParseUnitError| error.to_string())
    }
}

/// Reads the list.
pub(in crate::machine) fn list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PciDevice>, D::Error> {
    Ok(Vec::<ShortOrFields<_>>::deserialize(from)?.into_iter().map(|ShortOrFields(device)| device).collect())
}

/// What the list takes: for a text the pattern counts, for an object the fields.
pub(in crate::machine) fn list_schema(generator: &mut SchemaGenerator) -> Schema {
    let address = PciSlot::json_schema(generator);
    let mut item = PciDevice::json_schema(generator);
    item.insert("type".to_owned(), json!(["string", "object"]));
    if let Some(pattern) = address.get("pattern") {
        item.insert("pattern".to_owned(), pattern.clone());
    }
    schemars::json_schema!({ "type": "array", "items": item })
}
