//! Whether VFIO will give QEMU its devices: asked when they have changed hands and before QEMU starts, since QEMU's own
//! words for it name neither the device that is in the way nor the program.
//!
//! Groups and the container are opened and closed again, the devices are not: the kernel resets a device when it is opened
//! and when it is closed, and there are cards that stand one reset and no second.
//! Source: `Documentation/driver-api/vfio.rst`, `include/uapi/linux/vfio.h`.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};
use vfio_bindings::bindings::vfio::{VFIO_BASE, VFIO_GROUP_FLAGS_VIABLE, VFIO_TYPE, vfio_group_status};
use vfio_ioctls::{VfioContainer, VfioError};

use crate::host::Root;
use crate::host::pci::{Holder, Node, holders_of};
use crate::units::PciAddress;

/// VFIO will not give QEMU its devices.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// VFIO itself does not work.
    #[error("VFIO cannot be used ({0}); `modprobe vfio_iommu_type1`, then look at `dmesg`")]
    Container(VfioError),
    /// A device is in no IOMMU group.
    #[error("{0} is in no IOMMU group")]
    NoGroup(PciAddress),
    /// A group's node cannot be opened.
    #[error("cannot open {path}: {error}")]
    Group {
        /// The node.
        path: PathBuf,
        /// The kernel's word.
        error: std::io::Error,
    },
    /// Another process has the group.
    #[error("IOMMU group {group} is in use by {}; end that program", words(holders))]
    InUse {
        /// The group.
        group: String,
        /// Who has it, as far as it can be seen.
        holders: Vec<Holder>,
    },
    /// A member of a group is with a driver of the host's.
    #[error(
        "IOMMU group {group} can only be given as a whole, and {} of it {} not with vfio-pci",
        members.join(", "), if members.len() == 1 { "is" } else { "are" }
    )]
    NotViable {
        /// The group.
        group: String,
        /// Its members that are in the way, with their drivers.
        members: Vec<String>,
    },
}

fn words(holders: &[Holder]) -> String {
    match holders.is_empty() {
        true => "a process that cannot be seen".to_owned(),
        false => holders.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// Asks for all these devices of the host. Devices below another root than the host's own cannot be asked.
pub fn check(root: &Root, devices: &[PciAddress]) -> Result<(), Refused> {
    if devices.is_empty() || !root.is_real() {
        return Ok(());
    }
    VfioContainer::new(None).map_err(Refused::Container)?;
    let mut groups = BTreeSet::new();
    for address in devices {
        let link = std::fs::read_link(format!("/sys/bus/pci/devices/{address}/iommu_group"));
        let group = link.ok().and_then(|link| Some(link.file_name()?.to_str()?.to_owned()));
        groups.insert(group.ok_or(Refused::NoGroup(*address))?);
    }
    groups.into_iter().try_for_each(|group| group_is_free(root, group))
}

fn group_is_free(root: &Root, group: String) -> Result<(), Refused> {
    let path = Path::new("/dev/vfio").join(&group);
    let file = match OpenOptions::new().read(true).write(true).open(&path) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            return Err(Refused::InUse { group, holders: holders(root, path) });
        }
        other => other.map_err(|error| Refused::Group { path: path.clone(), error })?,
    };
    match is_viable(&file).map_err(|error| Refused::Group { path, error })? {
        true => Ok(()),
        false => Err(Refused::NotViable { members: in_the_way(root, &group), group }),
    }
}

nix::ioctl_readwrite_bad!(group_status, nix::request_code_none!(VFIO_TYPE, VFIO_BASE + 3), vfio_group_status);

/// Whether all members of the group are with drivers that keep their hands off.
fn is_viable(group: &File) -> std::io::Result<bool> {
    let mut status = vfio_group_status { argsz: size_of::<vfio_group_status>() as u32, flags: 0 };
    // SAFETY: the descriptor is open for as long as `group` is borrowed, and the kernel writes no more than `argsz` bytes
    // to `status`, which is ours.
    unsafe { group_status(group.as_raw_fd(), &mut status) }?;
    Ok(status.flags & VFIO_GROUP_FLAGS_VIABLE != 0)
}

fn holders(root: &Root, path: PathBuf) -> Vec<Holder> {
    let Ok(meta) = std::fs::metadata(&path) else { return Vec::new() };
    let number = |part: u64| u32::try_from(part).unwrap_or_default();
    let (major, minor) = (number(major(meta.rdev())), number(minor(meta.rdev())));
    holders_of(root, &[Node { path, major, minor, subsystem: "vfio".to_owned() }])
}

/// The members of the group that have a driver of the host's, as `0000:01:00.1 (snd_hda_intel)`.
fn in_the_way(root: &Root, group: &str) -> Vec<String> {
    let folder = format!("/sys/kernel/iommu_groups/{group}/devices");
    let driver = |name: &str| {
        let link = std::fs::read_link(root.path(format!("{folder}/{name}/driver"))).ok()?;
        Some(link.file_name()?.to_str()?.to_owned())
    };
    let taken = root.names(&folder).into_iter().filter_map(|name| Some((driver(&name)?, name)));
    // The kernel lets these two be (`vfio_dev_driver_allowed()`).
    let taken = taken.filter(|(driver, _)| !["vfio-pci", "pci-stub", "pcieport"].contains(&driver.as_str()));
    taken.map(|(driver, name)| format!("{name} ({driver})")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_in_the_way_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let member = |name: &str, driver: &str| {
            let path = folder.path().join("sys/kernel/iommu_groups/7/devices").join(name);
            std::fs::create_dir_all(&path).unwrap();
            std::os::unix::fs::symlink(format!("../drivers/{driver}"), path.join("driver")).unwrap();
        };
        member("0000:01:00.0", "vfio-pci");
        member("0000:01:00.1", "snd_hda_intel");
        member("0000:00:01.0", "pcieport");
        let root = Root::new(folder.path());
        let refused = Refused::NotViable { group: "7".to_owned(), members: in_the_way(&root, "7") };
        assert_eq!(
            refused.to_string(),
            "IOMMU group 7 can only be given as a whole, and 0000:01:00.1 (snd_hda_intel) of it is not with vfio-pci"
        );
        // No device of another root is asked.
        check(&root, &["0000:01:00.0".parse().unwrap()]).unwrap();
    }
}
