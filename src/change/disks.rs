//! Disks that the host uses keep their controller: a plan looks at mounts, but a stick may have been plugged in and
//! mounted since, and there are users that no list of mounts shows (ZFS, another mount namespace).
//!
//! The kernel lets one user have a block device for itself (`O_EXCL` without `O_CREAT`, open(2)): a mounted file system,
//! swap, device-mapper, md, a pool of ZFS. So it is asked for that, just before the driver goes.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::ChangeError;
use crate::host::Root;
use crate::units::PciAddress;

/// Refuses a function with a disk that is in use. A fake root has no disks.
pub(super) fn check_unused(root: &Root, address: PciAddress) -> Result<(), ChangeError> {
    if root.is_real() { check(root, address, &in_use) } else { Ok(()) }
}

fn check(root: &Root, address: PciAddress, in_use: &dyn Fn(&Path) -> bool) -> Result<(), ChangeError> {
    let nodes: Vec<PathBuf> = disks(root, address).into_iter().filter(|node| in_use(node)).collect();
    if nodes.is_empty() { Ok(()) } else { Err(ChangeError::DisksInUse { address, nodes }) }
}

/// The nodes of the disks, and their partitions, that are behind the function now.
fn disks(root: &Root, address: PciAddress) -> Vec<PathBuf> {
    let address = address.to_string();
    let class = "/sys/class/block";
    let behind = |name: &String| {
        let link = std::fs::read_link(root.path(class).join(name));
        link.is_ok_and(|link| link.iter().any(|part| part == address.as_str()))
    };
    let names = root.names(class).into_iter().filter(behind);
    // A `/` in a node's name is a `!` in its folder's.
    names.map(|name| Path::new("/dev").join(without_path(&name).replace('!', "/"))).collect()
}

/// An NVMe disk that could have several paths is in use by the name without one: `nvme0c1n1` as `nvme0n1`.
fn without_path(name: &str) -> String {
    let parts = name.strip_prefix("nvme").and_then(|rest| rest.split_once('c')).and_then(|(subsystem, rest)| {
        let (path, namespace) = rest.split_once('n')?;
        path.parse::<u32>().is_ok().then(|| format!("nvme{subsystem}n{namespace}"))
    });
    parts.unwrap_or_else(|| name.to_owned())
}

fn in_use(node: &Path) -> bool {
    // Without O_NONBLOCK a drive without a disc would be waited for.
    let flags = libc::O_EXCL | libc::O_NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(node);
    opened.is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY))
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

    #[test]
    fn what_is_not_there_or_no_disk_is_not_in_use() {
        assert!(!in_use(Path::new("/dev/no-such-disk")));
        assert!(!in_use(Path::new("/dev/null")));
    }
}
