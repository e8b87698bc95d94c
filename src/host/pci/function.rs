//! One PCI function: where it is, what it is, and who drives it, which its `uevent` and two links tell.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::config::hex;
use super::details::Details;
use super::sysfs::folder;
use crate::host::Root;
use crate::units::{PciAddress, PciIds};

/// One PCI function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PciFunction {
    /// Its address.
    pub address: PciAddress,
    /// What it is.
    pub ids: PciIds,
    /// The ids of the card that it is on.
    pub subsystem: Option<PciIds>,
    /// Class, subclass and programming interface: 0x030000 is a VGA card.
    pub class: u32,
    /// The driver that it is bound to.
    pub driver: Option<String>,
    /// Its IOMMU group.
    pub group: Option<u32>,
    /// The bridge or port above it.
    pub port: Option<PciAddress>,
    /// The rest, if the function was looked at closely.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Details>>,
}

impl PciFunction {
    /// Whether it is a bridge to a further bus: a port, a switch. VFIO lets those keep their drivers, and nothing else, by the
    /// header's type (`vfio_dev_driver_allowed()`); a host or ISA bridge (class 0600, 0601) has a device's. If the header was
    /// not read, the class decides: PCI, CardBus and half-transparent bridges have one of their own.
    pub fn is_bridge(&self) -> bool {
        match self.details.as_deref().and_then(|details| details.header) {
            Some(header) => header != 0,
            None => matches!(self.class >> 8, 0x0604 | 0x0607 | 0x0609),
        }
    }

    /// Whether it belongs to the board: a bridge of any kind (class 06). No guest gets one.
    pub fn is_of_board(&self) -> bool {
        self.class >> 16 == 0x06
    }

    /// Whether it is a graphics card of any kind (class 03).
    pub fn is_gpu(&self) -> bool {
        self.class >> 16 == 0x03
    }

    /// Whether it is a VGA card in the narrow sense, with the old addresses.
    pub fn is_vga(&self) -> bool {
        self.class >> 8 == 0x0300
    }
}

/// What every function's `uevent` tells, with the port above it.
pub(super) fn read(root: &Root, name: &str) -> Option<PciFunction> {
    let address: PciAddress = name.parse().ok()?;
    let folder = folder(address);
    let event = root.text_up_to(format!("{folder}/uevent"), 4096)?;
    let value = |key: &str| event.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let real = std::fs::canonicalize(root.path(&folder)).ok();
    let port = real.as_deref().and_then(Path::parent).and_then(Path::file_name);
    Some(PciFunction {
        address,
        ids: value("PCI_ID")?.parse().ok()?,
        subsystem: value("PCI_SUBSYS_ID").and_then(|ids| ids.parse().ok()).filter(|ids: &PciIds| ids.vendor != 0),
        class: u32::try_from(hex(value("PCI_CLASS")?)?).ok()?,
        driver: root.link(format!("{folder}/driver")),
        group: root.link(format!("{folder}/iommu_group")).and_then(|group| group.parse().ok()),
        port: port.and_then(|name| name.to_str()?.parse().ok()),
        details: None,
    })
}
