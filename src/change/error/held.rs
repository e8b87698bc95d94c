//! Devices that are in use.

use std::path::PathBuf;

use crate::host::pci::Holder;
use crate::units::PciAddress;

/// Programs or the host use a device that is to be taken.
#[derive(Debug, thiserror::Error)]
pub enum HeldError {
    /// Programs hold its nodes open.
    #[error("in use: {}. {}", list(holders), remedy(holders))]
    Programs {
        /// The programs.
        holders: Vec<Holder>,
    },
    /// The host uses disks behind the controller.
    #[error(
        "the host uses disks behind {address}: {}. Unmount them, or take them out of their volume or pool (`lsblk` and \
         `zpool status` name it)",
        nodes.iter().map(|node| node.to_string_lossy()).collect::<Vec<_>>().join(", ")
    )]
    Disks {
        /// The controller.
        address: PciAddress,
        /// Nodes of the disks, and of their partitions.
        nodes: Vec<PathBuf>,
    },
}

fn list(holders: &[Holder]) -> String {
    holders.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What to do about programs that hold a device. It names users' units, since the plan could not know them.
fn remedy(holders: &[Holder]) -> String {
    let mut units: Vec<String> = holders.iter().filter_map(Holder::user_units).flatten().collect();
    units.sort();
    units.dedup();
    let line = match units.is_empty() {
        true => "name their units in `handover: (units: […])`".to_owned(),
        false => format!("write `handover: (user_units: {units:?})`"),
    };
    format!(
        "End them, {line}, or write `handover: (holders: End)`; a compositor that does not close the card ends with its \
         display manager: `handover: (display_manager: Unit(\"…\"))`"
    )
}
