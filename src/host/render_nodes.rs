//! The nodes by which programs have a GPU of the host render for them.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Root;
use crate::units::PciAddress;

/// A node that renders (the kernel's `Documentation/gpu/drm-uapi.rst`, "Render nodes").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenderNode {
    /// `/dev/dri/renderD128`.
    pub path: PathBuf,
    /// The GPU; `None` if it is no PCI device.
    pub address: Option<PciAddress>,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group: `render` on most hosts.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

/// All that there are, in the order of their numbers.
pub(super) fn read(root: &Root) -> Vec<RenderNode> {
    let class = Path::new("/sys/class/drm");
    let names = root.names(class).into_iter().filter(|name| name.starts_with("renderD"));
    let nodes = names.filter_map(|name| {
        let path = Path::new("/dev/dri").join(&name);
        let meta = std::fs::metadata(root.path(&path)).ok()?;
        let address = root.link(class.join(&name).join("device")).and_then(|device| device.parse().ok());
        Some(RenderNode { path, address, uid: meta.uid(), gid: meta.gid(), mode: meta.mode() & 0o7777 })
    });
    nodes.collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nodes_are_read_with_their_gpu() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["sys/devices/pci0000:00/0000:01:00.0", "sys/class/drm/card0", "dev/dri"] {
            std::fs::create_dir_all(folder.path().join(path)).unwrap();
        }
        for name in ["renderD128", "renderD129", "renderD130"] {
            std::fs::create_dir_all(folder.path().join("sys/class/drm").join(name)).unwrap();
        }
        symlink("../../../devices/pci0000:00/0000:01:00.0", folder.path().join("sys/class/drm/renderD128/device"))
            .unwrap();
        for name in ["renderD128", "renderD129"] {
            std::fs::write(folder.path().join("dev/dri").join(name), "").unwrap();
        }
        let nodes = read(&Root::new(folder.path()));
        let found: Vec<_> = nodes.iter().map(|node| (node.path.to_str().unwrap(), node.address)).collect();
        let gpu = "0000:01:00.0".parse().ok();
        assert_eq!(found, [("/dev/dri/renderD128", gpu), ("/dev/dri/renderD129", None)]);
    }
}
