//! Have compositors close a graphics card that they do not show on: they are told that it was unplugged.
//!
//! They listen to udev, and the kernel sends an event of a device again when its action is written to the device's
//! `uevent`; `udevadm trigger --action=remove` does just that. The card itself stays as it is.
//! Source: `Documentation/ABI/testing/sysfs-uevent`.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::change::error::{ChangeError, FileError};
use crate::change::file::write;
use crate::change::pci::function;
use crate::change::record::Undone;
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::change::wait::wait_for_processes;
use crate::host::Root;
use crate::host::pci::{Node, holders_of};
use crate::units::PciAddress;

/// How long compositors may take to close it. Some never do; a later change names the programs that still hold it.
const LIMIT: Duration = Duration::from_secs(5);

/// Tell compositors that a graphics card is unplugged, so that they close it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HideCard {
    /// The card.
    pub address: PciAddress,
    /// Its node: `/dev/dri/card1`.
    pub node: Node,
}

/// Which of the devices that have had this name it was: its number in the kernel's file system, `{"inode": 4711}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inode {
    /// The number.
    pub inode: u64,
}

impl Step for HideCard {
    type Before = Inode;

    fn nature(&self) -> Nature {
        Nature::takes(true)
    }

    /// A card that comes back after its driver was unbound is another device, also under the same name.
    fn capture(&self, root: &Root) -> Result<Inode, ChangeError> {
        let path = self.folder();
        let meta = std::fs::metadata(root.path(&path)).map_err(FileError::io("read", &path))?;
        Ok(Inode { inode: meta.ino() })
    }

    /// Announces that the card is unplugged, and gives compositors time to close it.
    fn apply(&self, root: &Root, _: &Inode, _: Progress<'_>) -> Result<(), ChangeError> {
        write(root, &self.folder().join("uevent"), "remove")?;
        wait_for_processes(root, LIMIT, || holders_of(root, std::slice::from_ref(&self.node)).is_empty());
        Ok(())
    }

    /// Announces the card again if it is still the one that was hidden. The kernel has announced one that its driver made
    /// anew since.
    fn undo(&self, root: &Root, before: &Inode) -> Result<Undone, ChangeError> {
        let folder = self.folder();
        match std::fs::metadata(root.path(&folder)) {
            Ok(meta) if meta.ino() == before.inode => {
                write(root, &folder.join("uevent"), "add")?;
                Ok(Undone::Restored)
            }
            _ => Ok(Undone::AlreadyBack),
        }
    }

    fn lock_files(&self, _: &Inode) -> Vec<PathBuf> {
        Vec::new()
    }

    /// What it tells compositors cannot be read anywhere.
    fn observe(&self, _: &Root) -> Vec<Observed> {
        Vec::new()
    }
}

impl fmt::Display for HideCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "have compositors close {} ({})", self.node.path.display(), self.address)
    }
}

impl HideCard {
    fn folder(&self) -> PathBuf {
        let name = self.node.path.file_name().unwrap_or_default();
        function::folder(self.address).join("drm").join(name)
    }
}
