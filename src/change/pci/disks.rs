//! Refuse to unbind a controller whose disks the host uses. The plan looks at them too, but somebody may have plugged in and
//! mounted a stick since. So the kernel is asked just before the driver is unbound.

use std::path::{Path, PathBuf};

use crate::change::error::HeldError;
use crate::host::pci::{BLOCK, without_path};
use crate::host::{Root, is_claimed};
use crate::units::PciAddress;

/// Refuses a function with a disk that is in use. A fake root has no disks.
pub(super) fn check_unused(root: &Root, address: PciAddress) -> Result<(), HeldError> {
    if root.is_real() { check(root, address, &is_claimed) } else { Ok(()) }
}

fn check(root: &Root, address: PciAddress, in_use: &dyn Fn(&Path) -> bool) -> Result<(), HeldError> {
    let nodes: Vec<PathBuf> = disks(root, address).into_iter().filter(|node| in_use(node)).collect();
    if nodes.is_empty() { Ok(()) } else { Err(HeldError::Disks { address, nodes }) }
}

/// The nodes of the disks, and their partitions, that are behind the function now.
fn disks(root: &Root, address: PciAddress) -> Vec<PathBuf> {
    let address = address.to_string();
    let behind = |name: &String| {
        let link = std::fs::read_link(root.path(BLOCK).join(name));
        link.is_ok_and(|link| link.iter().any(|part| part == address.as_str()))
    };
    let names = root.names(BLOCK).into_iter().filter(behind);
    // A `/` in a node's name is a `!` in its folder's.
    let names = names.map(|name| without_path(&name).unwrap_or(name));
    names.map(|name| Path::new("/dev").join(name.replace('!', "/"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_behind_a_controller_that_somebody_uses_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let class = folder.path().join("sys/class/block");
        std::fs::create_dir_all(&class).unwrap();
        let usb = "../../devices/pci0000:00/0000:00:14.0/usb2/2-1/host6/block";
        let nvme = "../../devices/pci0000:00/0000:00:1d.0/0000:03:00.0/nvme/nvme0";
        for (name, behind) in [
            ("sda", format!("{usb}/sda")),
            ("sda1", format!("{usb}/sda/sda1")),
            ("cciss!c0d0", format!("{usb}/cciss!c0d0")),
            ("nvme0c0n1", format!("{nvme}/nvme0c0n1")),
            ("nvme0n1", "../../devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1".to_owned()),
            ("loop0", "../../devices/virtual/block/loop0".to_owned()),
        ] {
            std::os::unix::fs::symlink(behind, class.join(name)).unwrap();
        }
        let root = Root::new(folder.path());
        let used = |address: &str, used: &[&str]| {
            let found = check(&root, address.parse().unwrap(), &|node| used.iter().any(|path| Path::new(path) == node));
            found.map_err(|error| error.to_string())
        };
        assert_eq!(disks(&root, "00:14.0".parse().unwrap()).len(), 3);
        assert_eq!(used("00:14.0", &["/dev/nvme0n1"]), Ok(()));
        let words = used("00:14.0", &["/dev/sda", "/dev/sda1", "/dev/cciss/c0d0"]).unwrap_err();
        assert!(words.starts_with("the host uses disks behind 0000:00:14.0: /dev/cciss/c0d0, /dev/sda, /dev/sda1. "));
        assert!(used("03:00.0", &["/dev/nvme0n1"]).is_err());
        assert!(used("00:1d.0", &["/dev/nvme0n1"]).is_err(), "a port has what is below it");
        assert_eq!(used("00:1f.0", &["/dev/sda"]), Ok(()));
    }
}
