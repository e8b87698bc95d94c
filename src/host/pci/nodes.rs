//! Device nodes that belong to a PCI function: of the screen, of sound, of disks, of what is plugged into a controller.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::sysfs::walk;
use crate::host::Root;
use crate::units::PciAddress;

/// NVIDIA's character devices have this major number; `nvidia-modeset` and `nvidiactl` these minors (`nv-linux.h`).
const NVIDIA: u32 = 195;
const NVIDIA_SHARED: [(&str, u32); 2] = [("/dev/nvidia-modeset", 254), ("/dev/nvidiactl", 255)];

/// All DRM cards, render nodes and connectors by name.
const DRM: &str = "/sys/class/drm";

/// All block devices by name.
pub(crate) const BLOCK: &str = "/sys/class/block";

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Node {
    /// `/dev/dri/card0`.
    pub path: PathBuf,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// The kernel's word for its kind: `drm`, `sound`, `block`.
    pub subsystem: String,
}

/// The nodes of all that is below the function's folder, but not below further PCI functions.
pub(super) fn below(root: &Root, folder: &str) -> Vec<Node> {
    let (mut nodes, mut elsewhere) = (Vec::new(), Vec::new());
    walk(root, folder, &mut |path| {
        nodes.extend(node(root, path));
        elsewhere.extend(path.rsplit('/').next().and_then(without_path));
    });
    for name in elsewhere {
        let folder = format!("{BLOCK}/{name}");
        nodes.extend(node(root, &folder));
        walk(root, &folder, &mut |path| nodes.extend(node(root, path)));
    }
    nodes.sort();
    nodes
}

/// An NVMe disk that could have several paths shows below its controller as one of them, `nvme0c1n1`; the disk itself
/// is `nvme0n1`, and belongs to no controller (`nvme_set_disk_name()`).
pub(crate) fn without_path(name: &str) -> Option<String> {
    let (subsystem, rest) = name.strip_prefix("nvme")?.split_once('c')?;
    let (path, namespace) = rest.split_once('n')?;
    let all_numbers = [subsystem, path, namespace].iter().all(|part| part.parse::<u32>().is_ok());
    all_numbers.then(|| format!("nvme{subsystem}n{namespace}"))
}

fn node(root: &Root, path: &str) -> Option<Node> {
    let (major, minor) = numbers(&root.text_up_to(format!("{path}/dev"), 64)?)?;
    let event = root.text_up_to(format!("{path}/uevent"), 4096)?;
    let name = event.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    let subsystem = root.link(format!("{path}/subsystem")).unwrap_or_default();
    Some(Node { path: PathBuf::from("/dev").join(name), major, minor, subsystem })
}

/// The nodes that a program with a screen has open: each DRM card's, and those that NVIDIA's cards share.
pub(super) fn of_screens(root: &Root) -> Vec<Node> {
    let is_card = |name: &String| name.strip_prefix("card").is_some_and(|number| number.parse::<u32>().is_ok());
    let cards = root.names(DRM).into_iter().filter(is_card);
    let mut nodes: Vec<Node> = cards.filter_map(|card| node(root, &format!("{DRM}/{card}"))).collect();
    nodes.extend(NVIDIA_SHARED.map(|(path, minor)| Node {
        path: path.into(),
        major: NVIDIA,
        minor,
        subsystem: "nvidia".to_owned(),
    }));
    nodes
}

/// `226:0`.
pub(super) fn numbers(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The driver of a function, as far as nodes depend on it.
pub(super) struct Driver<'a> {
    /// `nvidia`; `None`: the function has no driver.
    pub name: Option<&'a str>,
    /// The function's IOMMU group.
    pub group: Option<u32>,
    /// The function.
    pub address: PciAddress,
    /// No other card of NVIDIA's uses that driver.
    pub alone: bool,
}

/// Adds the nodes that the kernel does not show below the function: VFIO's group, and those of NVIDIA's driver.
pub(super) fn of_driver(root: &Root, driver: &Driver, nodes: &mut Vec<Node>) {
    let registered = |name: &str| -> Option<u32> {
        let devices = root.text_up_to("/proc/devices", 64 << 10).unwrap_or_default();
        devices.lines().find_map(|line| line.trim().strip_suffix(name)?.trim().parse().ok())
    };
    let mut add = |path: &str, major: u32, minor: u32, subsystem: &str| {
        nodes.push(Node { path: path.into(), major, minor, subsystem: subsystem.to_owned() });
    };
    match (driver.name, driver.group) {
        (Some("vfio-pci"), Some(group)) => {
            let path = format!("/sys/class/vfio/{group}/dev");
            if let Some((major, minor)) = root.text_up_to(path, 64).and_then(|text| numbers(&text)) {
                add(&format!("/dev/vfio/{group}"), major, minor, "vfio");
            }
        }
        (Some("nvidia"), _) => {
            let about = root.text_up_to(format!("/proc/driver/nvidia/gpus/{}/information", driver.address), 4096);
            let minor = about
                .unwrap_or_default()
                .lines()
                .find_map(|line| line.strip_prefix("Device Minor:").and_then(|minor| minor.trim().parse().ok()));
            if let Some(minor) = minor {
                add(&format!("/dev/nvidia{minor}"), NVIDIA, minor, "nvidia");
            }
            if driver.alone {
                for (path, minor) in NVIDIA_SHARED {
                    add(path, NVIDIA, minor, "nvidia");
                }
                if let Some(major) = registered("nvidia-uvm") {
                    add("/dev/nvidia-uvm", major, 0, "nvidia");
                }
            }
        }
        _ => {}
    }
}
