//! Where sysfs shows PCI functions and what is below each.

use crate::host::Root;
use crate::units::PciAddress;

/// The folder that lists all functions.
pub(super) const DEVICES: &str = "/sys/bus/pci/devices";
/// Deeper than the tree below a USB controller with hubs.
const MAX_DEPTH: usize = 24;
/// More folders than a controller full of hubs has.
const MAX_FOLDERS: usize = 20_000;

/// The function's folder.
pub(super) fn folder(address: PciAddress) -> String {
    format!("{DEVICES}/{address}")
}

/// Calls for each folder below this one. Links are not followed: they lead out of the function.
pub(super) fn walk(root: &Root, folder: &str, visit: &mut dyn FnMut(&str)) {
    let mut open = vec![(folder.to_owned(), 0)];
    let mut seen = 0;
    while let Some((path, depth)) = open.pop() {
        seen += 1;
        if depth >= MAX_DEPTH || seen > MAX_FOLDERS {
            continue;
        }
        let Ok(entries) = std::fs::read_dir(root.path(&path)) else { continue };
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let is_function = name.parse::<PciAddress>().is_ok();
            if !is_function && !["power", "msi_irqs", "link", "statistics", "queues"].contains(&name.as_str()) {
                let below = format!("{path}/{name}");
                visit(&below);
                open.push((below, depth + 1));
            }
        }
    }
}
