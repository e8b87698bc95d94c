//! Have compositors let go of a graphics card that they do not show on: they are told that it was unplugged.
//!
//! What they listen to is udev, and the kernel sends an event of its device's again when its action is written to the
//! device's `uevent`; `udevadm trigger --action=remove` does just that. The card itself stays as it is.
//! Source: `Documentation/ABI/testing/sysfs-uevent`.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::change::attribute::wait_for;
use crate::change::host::write::write;
use crate::change::{Before, ChangeError, Undone};
use crate::host::Root;
use crate::host::pci::{Node, holders_of};
use crate::units::PciAddress;

/// How long compositors may take to close it. Some never do; who still holds it is named afterwards.
const LIMIT: Duration = Duration::from_secs(5);

/// Which device it is: one that comes back after its driver was away is another, also under the same name.
pub(in crate::change) fn capture(root: &Root, address: PciAddress, node: &Node) -> Result<Before, ChangeError> {
    let path = folder(address, node);
    match std::fs::metadata(root.path(&path)) {
        Ok(meta) => Ok(Before::Inode(meta.ino())),
        Err(error) => Err(ChangeError::Io { action: "read", path, error }),
    }
}

/// Announces that the card is unplugged, and gives compositors time to let go of it.
pub(in crate::change) fn hide(root: &Root, address: PciAddress, node: &Node) -> Result<(), ChangeError> {
    write(root, &folder(address, node).join("uevent"), "remove")?;
    wait_for(LIMIT, || holders_of(root, std::slice::from_ref(node)).is_empty());
    Ok(())
}

/// Announces the card again, where it is still the one that was hidden. One that its driver has made anew since was
/// announced by the kernel.
pub(in crate::change) fn show(
    root: &Root,
    address: PciAddress,
    node: &Node,
    before: u64,
) -> Result<Undone, ChangeError> {
    let folder = folder(address, node);
    match std::fs::metadata(root.path(&folder)) {
        Ok(meta) if meta.ino() == before => {
            write(root, &folder.join("uevent"), "add")?;
            Ok(Undone::Restored)
        }
        _ => Ok(Undone::AlreadyBack),
    }
}

fn folder(address: PciAddress, node: &Node) -> PathBuf {
    let name = node.path.file_name().unwrap_or_default();
    PathBuf::from(format!("/sys/bus/pci/devices/{address}/drm")).join(name)
}
