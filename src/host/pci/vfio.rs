//! Whether VFIO accepts the devices, asked of the kernel itself: when a plan is made, for the devices that are already
//! bound to vfio-pci; before the first change that takes something, whether VFIO works at all; before QEMU starts, for all
//! devices. QEMU's own message names neither the device that blocks a group nor the program that uses it.
//!
//! Groups and the container are opened and closed again, the devices are not: the kernel resets a device when it is opened
//! and when it is closed, and some cards survive one reset but not a second.
//!
//! The kernel is not asked to attach the groups to the container (`VFIO_SET_IOMMU`). That needs a group whose members have
//! all left their drivers, so for a screen the answer would come when it is dark already. For a group that could be asked
//! before, it would be attached, let go and attached again by QEMU; a host with Linux 6.1 hung once between the two. What the
//! kernel looks at when it attaches, memory that the firmware reserves and interrupts that are not remapped, is in files
//! (`iommu.rs`), which `check` reads without touching anything.
//! Source: `Documentation/driver-api/vfio.rst`, `include/uapi/linux/vfio.h`.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};
use serde::{Deserialize, Serialize};
use vfio_bindings::bindings::vfio::{VFIO_BASE, VFIO_GROUP_FLAGS_VIABLE, VFIO_TYPE, vfio_group_status};
use vfio_ioctls::{VfioContainer, VfioError};

use super::details::Details;
use super::function::PciFunction;
use super::holders::{self, Holder};
use super::nodes::Node;
use super::sysfs::folder;
use crate::host::Root;
use crate::units::{PciAddress, PciSlot};

/// Why VFIO refuses devices.
#[derive(Debug)]
pub enum Refused {
    /// VFIO itself does not work.
    Container(VfioError),
    /// A device is in no IOMMU group.
    NoGroup(PciAddress),
    /// A group's node cannot be opened.
    Group {
        /// The node.
        path: PathBuf,
        /// The kernel's error.
        error: std::io::Error,
    },
    /// Another process has opened the group.
    InUse {
        /// The group.
        group: String,
        /// The processes that have opened it, as far as this user can see them.
        holders: Vec<Holder>,
    },
    /// A member of a group is bound to a driver of the host.
    NotViable {
        /// The group.
        group: String,
        /// Its members that are bound to another driver, with that driver.
        members: Vec<String>,
    },
}

impl Refused {
    /// What VFIO refuses, and why.
    pub fn detail(&self) -> String {
        match self {
            Self::Container(error) => format!("cannot use VFIO ({error})"),
            Self::NoGroup(address) => format!("{address} is in no IOMMU group"),
            Self::Group { path, error } => format!("cannot open {}: {error}", path.display()),
            Self::InUse { group, holders } => format!("IOMMU group {group} is in use by {}", words(holders)),
            Self::NotViable { group, members } => format!(
                "IOMMU group {group} can only be passed through as a whole, but {} {} not bound to vfio-pci",
                members.join(", "),
                if members.len() == 1 { "is" } else { "are" }
            ),
        }
    }

    /// What the user can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Container(VfioError::OpenContainer(error))
                if error.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                "start as root, or run `modprobe vfio_iommu_type1` once: udev then lets everybody open `/dev/vfio/vfio`"
            }
            Self::Container(_) => "run `modprobe vfio_iommu_type1`, then read `dmesg`",
            Self::NoGroup(_) => "pass another device through; `vfio-run devices` shows the groups",
            Self::Group { error, .. } if error.kind() == std::io::ErrorKind::PermissionDenied => {
                "start as root, or let udev give the group to your user: `SUBSYSTEM==\"vfio\", OWNER=\"…\"`"
            }
            Self::Group { .. } => "read `dmesg`",
            Self::InUse { .. } => "end that program",
            Self::NotViable { .. } => "pass these through as well",
        }
    }
}

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.detail(), self.remedy())
    }
}

/// The drivers that members of a group may be bound to while a guest uses the group (`vfio_dev_driver_allowed()` in
/// `drivers/vfio/vfio_main.c`, `driver_managed_dma` of `pcieport`).
pub const ALLOWED_DRIVERS: [&str; 3] = ["vfio-pci", "pci-stub", "pcieport"];

/// The folder that the driver has in sysfs once it is loaded.
const DRIVER: &str = "/sys/bus/pci/drivers/vfio-pci";
/// A list of modules is half a megabyte.
const MAX_LIST: usize = 16 << 20;

/// Whether vfio-pci is loaded, or is among the modules of the running kernel; `None`: these cannot be read.
pub(super) fn has_driver(root: &Root) -> Option<bool> {
    if root.path(DRIVER).exists() {
        return Some(true);
    }
    let release = root.text_up_to("/proc/sys/kernel/osrelease", 256)?;
    let list = |name: &str| root.text_up_to(format!("/lib/modules/{}/{name}", release.trim()), MAX_LIST);
    // `kernel/drivers/vfio/pci/vfio-pci.ko.xz: …`, modules.dep(5); built in ones are listed without what they need.
    let names =
        |text: &str| text.lines().any(|line| line.split(':').next().is_some_and(|path| path.contains("/vfio-pci.ko")));
    let Some(modules) = list("modules.dep") else {
        // Modules of other kernels only: this one's were removed when it was updated.
        return (!root.names("/lib/modules").is_empty()).then_some(false);
    };
    Some(names(&modules) || list("modules.builtin").is_some_and(|text| names(&text)))
}

/// What VFIO answered for devices that are already bound to vfio-pci.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// VFIO accepts them.
    Gives,
    /// VFIO refuses them.
    Refuses {
        /// Why.
        detail: String,
        /// What the user can do about it.
        remedy: String,
    },
}

/// Asks VFIO for those of the wanted functions for which it can be asked without changing anything. `None`: for none.
pub(super) fn answer(root: &Root, functions: &[PciFunction], wanted: &[PciSlot]) -> Option<Answer> {
    let devices = ready(functions, wanted);
    if devices.is_empty() || !root.is_real() {
        return None;
    }
    Some(match ask(root, &devices) {
        Ok(()) => Answer::Gives,
        Err(refused) => Answer::Refuses { detail: refused.detail(), remedy: refused.remedy().to_owned() },
    })
}

/// The functions of wanted groups that are bound to vfio-pci as a whole (else opening VFIO's node might load it), and
/// that no launcher and no program uses.
fn ready(functions: &[PciFunction], wanted: &[PciSlot]) -> Vec<PciAddress> {
    let wanted = |f: &&PciFunction| !f.is_of_board() && wanted.iter().any(|slot| slot.contains(f.address));
    let groups: BTreeSet<u32> = functions.iter().filter(wanted).filter_map(|f| f.group).collect();
    let is_with_vfio = |f: &PciFunction| f.driver.as_deref() == Some("vfio-pci");
    let is_free = |f: &PciFunction| {
        let taken = |details: &Details| details.lease.is_some() || !details.holders.is_empty();
        (f.driver.is_none() || is_with_vfio(f)) && !f.details.as_deref().is_some_and(taken)
    };
    groups
        .into_iter()
        .map(|group| functions.iter().filter(move |f| f.group == Some(group) && !f.is_bridge()))
        .filter(|members| members.clone().all(is_free) && members.clone().any(is_with_vfio))
        .flat_map(|members| members.map(|f| f.address))
        .collect()
}

fn words(holders: &[Holder]) -> String {
    match holders.is_empty() {
        true => "a process of another user".to_owned(),
        false => holders.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// Asks VFIO for nothing but itself: whether its container is there and has the type of IOMMU that QEMU uses. Opening it has
/// the kernel load VFIO's own modules, which take no device; vfio-pci is loaded when the first function has left its driver,
/// since it takes those that its own options name. A host without udev has no node before that.
pub fn works(root: &Root, devices: &[PciAddress]) -> Result<(), Refused> {
    if devices.is_empty() || !root.is_real() {
        return Ok(());
    }
    match VfioContainer::new(None) {
        Err(VfioError::OpenContainer(error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map(drop).map_err(Refused::Container),
    }
}

/// Asks VFIO for all these devices of the host. Below another root than the host's own there is nobody to ask.
pub fn ask(root: &Root, devices: &[PciAddress]) -> Result<(), Refused> {
    if devices.is_empty() || !root.is_real() {
        return Ok(());
    }
    VfioContainer::new(None).map_err(Refused::Container)?;
    let mut groups = BTreeSet::new();
    for address in devices {
        let group = root.link(format!("{}/iommu_group", folder(*address)));
        groups.insert(group.ok_or(Refused::NoGroup(*address))?);
    }
    groups.into_iter().try_for_each(|group| group_is_free(root, group))
}

fn group_is_free(root: &Root, group: String) -> Result<(), Refused> {
    let path = Path::new("/dev/vfio").join(&group);
    let file = match OpenOptions::new().read(true).write(true).open(&path) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            return Err(Refused::InUse { group, holders: holders_of_group(root, path) });
        }
        other => other.map_err(|error| Refused::Group { path: path.clone(), error })?,
    };
    match is_viable(&file).map_err(|error| Refused::Group { path, error })? {
        true => Ok(()),
        false => Err(Refused::NotViable { members: blocking_members(root, &group), group }),
    }
}

nix::ioctl_readwrite_bad!(
    /// `VFIO_GROUP_GET_STATUS`.
    group_status,
    nix::request_code_none!(VFIO_TYPE, VFIO_BASE + 3),
    vfio_group_status
);

/// Whether the kernel finds the group viable: no member is bound to a driver that may use it.
fn is_viable(group: &File) -> std::io::Result<bool> {
    let mut status = vfio_group_status { argsz: size_of::<vfio_group_status>() as u32, flags: 0 };
    // SAFETY: the descriptor is open for as long as `group` is borrowed, and the kernel writes no more than `argsz` bytes
    // to `status`, which is ours.
    unsafe { group_status(group.as_raw_fd(), &mut status) }?;
    Ok(status.flags & VFIO_GROUP_FLAGS_VIABLE != 0)
}

fn holders_of_group(root: &Root, path: PathBuf) -> Vec<Holder> {
    let Ok(meta) = std::fs::metadata(&path) else { return Vec::new() };
    let number = |part: u64| u32::try_from(part).unwrap_or_default();
    let (major, minor) = (number(major(meta.rdev())), number(minor(meta.rdev())));
    holders::of_nodes(root, &[Node { path, major, minor, subsystem: "vfio".to_owned() }])
}

/// The members of the group that are bound to a driver of the host, as `0000:01:00.1 (snd_hda_intel)`.
fn blocking_members(root: &Root, group: &str) -> Vec<String> {
    let folder = format!("/sys/kernel/iommu_groups/{group}/devices");
    let driver = |name: &str| root.link(format!("{folder}/{name}/driver"));
    let taken = root.names(&folder).into_iter().filter_map(|name| Some((driver(&name)?, name)));
    let taken = taken.filter(|(driver, _)| !ALLOWED_DRIVERS.contains(&driver.as_str()));
    taken.map(|(driver, name)| format!("{name} ({driver})")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::sample_tree;

    #[test]
    fn only_a_free_group_that_is_with_vfio_is_asked_for() {
        let function = |address: &str, group, driver: Option<&str>| PciFunction {
            address: address.parse().unwrap(),
            ids: "10de:2684".parse().unwrap(),
            subsystem: None,
            class: 0x03_0000,
            driver: driver.map(str::to_owned),
            group: Some(group),
            port: None,
            details: Some(Box::default()),
        };
        let mut functions = vec![
            function("01:00.0", 1, Some("vfio-pci")),
            function("01:00.1", 1, None),
            function("02:00.0", 2, Some("vfio-pci")),
            function("02:00.1", 2, Some("snd_hda_intel")),
            function("03:00.0", 3, None),
            function("04:00.0", 4, Some("vfio-pci")),
            function("04:00.1", 4, Some("pci-stub")),
        ];
        let wanted: Vec<PciSlot> =
            ["01:00.0", "02:00.*", "03:00.0", "04:00.*"].iter().map(|slot| slot.parse().unwrap()).collect();
        let asked =
            |functions: &[PciFunction]| ready(functions, &wanted).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(asked(&functions), ["0000:01:00.0", "0000:01:00.1"]);
        functions[1].details.as_mut().unwrap().lease = Some("win11".to_owned());
        assert_eq!(asked(&functions), [""; 0]);
        assert_eq!(answer(&Root::new("/nowhere"), &functions, &wanted), None);
    }

    #[test]
    fn the_driver_is_there_or_among_the_modules() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| sample_tree::put(folder.path(), path, text);
        let root = Root::new(folder.path());
        put("proc/sys/kernel/osrelease", "6.12.57-amd64\n");
        assert_eq!(has_driver(&root), None);
        let list = "lib/modules/6.12.57-amd64/modules.dep";
        put(list, "kernel/x.ko.xz: kernel/drivers/vfio/pci/vfio-pci.ko.xz\n");
        assert_eq!(has_driver(&root), Some(false));
        put("lib/modules/6.12.57-amd64/modules.builtin", "kernel/drivers/vfio/pci/vfio-pci.ko\n");
        assert_eq!(has_driver(&root), Some(true));
        put("lib/modules/6.12.57-amd64/modules.builtin", "");
        put(list, "kernel/drivers/vfio/pci/vfio-pci.ko.xz: kernel/x.ko.xz\n");
        assert_eq!(has_driver(&root), Some(true));
        std::fs::remove_dir_all(folder.path().join("lib/modules/6.12.57-amd64")).unwrap();
        assert_eq!(has_driver(&root), None);
        put("lib/modules/6.12.60-amd64/modules.dep", "");
        assert_eq!(has_driver(&root), Some(false));
        put("sys/bus/pci/drivers/vfio-pci/uevent", "");
        assert_eq!(has_driver(&root), Some(true));
    }

    #[test]
    fn a_user_without_permission_is_not_sent_to_dmesg() {
        let remedy = |kind: std::io::ErrorKind| Refused::Container(VfioError::OpenContainer(kind.into())).remedy();
        assert!(remedy(std::io::ErrorKind::PermissionDenied).starts_with("start as root"));
        assert!(remedy(std::io::ErrorKind::NotFound).contains("dmesg"));
    }

    #[test]
    fn the_members_that_block_a_group_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let member = |name: &str, driver: &str| {
            let path = folder.path().join("sys/kernel/iommu_groups/7/devices").join(name);
            std::fs::create_dir_all(&path).unwrap();
            std::os::unix::fs::symlink(format!("../drivers/{driver}"), path.join("driver")).unwrap();
        };
        member("0000:01:00.0", "vfio-pci");
        member("0000:01:00.1", "snd_hda_intel");
        member("0000:01:00.2", "pci-stub");
        member("0000:00:01.0", "pcieport");
        let root = Root::new(folder.path());
        let refused = Refused::NotViable { group: "7".to_owned(), members: blocking_members(&root, "7") };
        assert_eq!(
            refused.to_string(),
            "IOMMU group 7 can only be passed through as a whole, but 0000:01:00.1 (snd_hda_intel) is not bound to \
             vfio-pci; pass these through as well"
        );
        // No device of another root is asked.
        ask(&root, &["0000:01:00.0".parse().unwrap()]).unwrap();
    }
}
