//! Make a folder for device nodes that QEMU's account may open: QEMU takes no descriptor of an event device, and the owner
//! of the host's own node is udev's and logind's business.

use std::fmt;
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _};
use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, statvfs};
use serde::{Deserialize, Serialize};

use crate::change::error::{ChangeError, FileError};
use crate::change::record::{Existed, Undone};
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::host::Root;

/// Make a folder for device nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFolder {
    /// The folder, in one that all machines share, below /dev.
    pub path: PathBuf,
}

impl Step for NodeFolder {
    type Before = Existed;

    fn nature(&self) -> Nature {
        Nature::PREPARES
    }

    fn capture(&self, root: &Root) -> Result<Existed, ChangeError> {
        Ok(Existed { exists: root.path(&self.path).is_dir() })
    }

    /// Makes it where device nodes work. Who may open a node is the node's own matter, so all may enter.
    fn apply(&self, root: &Root, _: &Existed, _: Progress<'_>) -> Result<(), ChangeError> {
        let path = root.path(&self.path);
        let failed = FileError::io("make", &self.path);
        DirBuilder::new().recursive(true).mode(0o755).create(&path).map_err(&failed)?;
        let flags = statvfs(&path).map_err(|error| failed(error.into()))?.flags();
        if root.is_real() && flags.contains(FsFlags::ST_NODEV) {
            return Err(failed(std::io::Error::other("the file system there is mounted with `nodev`")).into());
        }
        Ok(())
    }

    /// Removes it with the nodes in it. It is this machine's alone, so what a dead launcher left in it goes too.
    fn undo(&self, root: &Root, _: &Existed) -> Result<Undone, ChangeError> {
        let path = root.path(&self.path);
        let failed = FileError::io("remove", &self.path);
        let entries = match std::fs::read_dir(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Undone::AlreadyBack),
            other => other.map_err(&failed)?,
        };
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_char_device())) {
            std::fs::remove_file(entry.path()).map_err(&failed)?;
        }
        std::fs::remove_dir(&path).map_err(&failed)?;
        // The last machine removes the folder of all; the kernel refuses it while there is another.
        if let Some(parent) = path.parent() {
            drop(std::fs::remove_dir(parent));
        }
        Ok(Undone::Restored)
    }

    fn lock_files(&self, _: &Existed) -> Vec<PathBuf> {
        Vec::new()
    }

    fn observe(&self, root: &Root) -> Vec<Observed> {
        let is_there = if root.path(&self.path).exists() { "there" } else { "absent" };
        vec![Observed::new(format!("folder {}", self.path.display()), is_there)]
    }
}

impl NodeFolder {
    /// A machine's folder.
    pub fn of(name: &str) -> Self {
        Self { path: Path::new("/dev/vfio-run").join(name) }
    }
}

impl fmt::Display for NodeFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "make the folder {}", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::unattended;

    #[test]
    fn the_last_machine_takes_the_folder_of_all_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        std::fs::create_dir(folder.path().join("dev")).unwrap();
        let (a, b) = (NodeFolder::of("a"), NodeFolder::of("b"));
        let make = |change: &NodeFolder| {
            let before = change.capture(&root).unwrap();
            change.apply(&root, &before, &unattended).unwrap();
            before
        };
        let (before_a, before_b) = (make(&a), make(&b));
        assert_eq!(a.undo(&root, &before_a).unwrap(), Undone::Restored);
        assert!(root.path("/dev/vfio-run/b").is_dir());
        assert_eq!(a.undo(&root, &before_a).unwrap(), Undone::AlreadyBack);
        assert_eq!(b.undo(&root, &before_b).unwrap(), Undone::Restored);
        assert!(!root.path("/dev/vfio-run").exists());
        // What is no device node is not ours.
        let before = make(&a);
        std::fs::write(root.path("/dev/vfio-run/a/text"), "").unwrap();
        a.undo(&root, &before).unwrap_err();
    }
}
