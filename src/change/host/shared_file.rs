//! Make a file of shared memory, which QEMU and a program of the desktop's user both map.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::PathBuf;

use nix::unistd::{Gid, Uid, fchown, geteuid};
use serde::{Deserialize, Serialize};

use crate::change::error::{ChangeError, FileError};
use crate::change::record::{Existed, Undone};
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::host::Root;
use crate::units::Size;

/// Make a file of shared memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedFile {
    /// The file, in a folder in which nobody but a file's owner may remove or rename it (`/dev/shm`).
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Its owner: whom QEMU runs as.
    pub uid: u32,
    /// Its group: that of the user whose program maps it too.
    pub gid: u32,
    /// Its permission bits.
    pub mode: u32,
}

impl Step for SharedFile {
    type Before = Existed;

    fn nature(&self) -> Nature {
        Nature::PREPARES
    }

    fn capture(&self, root: &Root) -> Result<Existed, ChangeError> {
        Ok(Existed { exists: root.path(&self.path).symlink_metadata().is_ok() })
    }

    /// Makes it anew; a file, or a link, that is there already is refused.
    fn apply(&self, root: &Root, _: &Existed, _: Progress<'_>) -> Result<(), ChangeError> {
        let failed = FileError::io("make", &self.path);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(root.path(&self.path)).map_err(&failed)?;
        // The owner last, so that a file that is not finished is told by its owner.
        let finish = |file: &File| -> std::io::Result<Metadata> {
            file.set_len(self.size)?;
            file.set_permissions(Permissions::from_mode(self.mode))?;
            fchown(file, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))?;
            file.metadata()
        };
        let meta = finish(&file).map_err(failed)?;
        let found = (meta.len(), meta.uid(), meta.gid(), meta.mode() & 0o7777);
        match found == (self.size, self.uid, self.gid, self.mode) {
            true => Ok(()),
            false => Err(FileError::NotTaken {
                path: self.path.clone(),
                wanted: format!("user {}, group {}, mode {:o}", self.uid, self.gid, self.mode),
                found: format!("user {}, group {}, mode {:o}", found.1, found.2, found.3),
            }
            .into()),
        }
    }

    /// Removes it, if it is the file that was made: nothing was there before, and it has the owner that QEMU has, or ours if
    /// we died over it.
    fn undo(&self, root: &Root, before: &Existed) -> Result<Undone, ChangeError> {
        let path = root.path(&self.path);
        let meta = match path.symlink_metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Undone::AlreadyBack),
            other => other.map_err(FileError::io("read", &self.path))?,
        };
        if before.exists {
            return Ok(Undone::AlreadyBack);
        }
        let finished = meta.uid() == self.uid && meta.len() == self.size;
        let begun = meta.uid() == geteuid().as_raw() && (meta.len() == 0 || meta.len() == self.size);
        if !meta.is_file() || meta.nlink() != 1 || !(finished || begun) {
            return Ok(Undone::NotOurs { found: format!("another file, of user {}", meta.uid()) });
        }
        std::fs::remove_file(path).map_err(FileError::io("remove", &self.path))?;
        Ok(Undone::Restored)
    }

    fn lock_files(&self, _: &Existed) -> Vec<PathBuf> {
        Vec::new()
    }

    fn observe(&self, root: &Root) -> Vec<Observed> {
        let is_there = if root.path(&self.path).symlink_metadata().is_ok() { "there" } else { "absent" };
        vec![Observed::new(format!("shared memory {}", self.path.display()), is_there)]
    }
}

impl fmt::Display for SharedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, size) = (self.path.display(), Size::bytes(self.size));
        write!(f, "make the shared memory {path}, {size}, for user {} and group {}", self.uid, self.gid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::unattended;

    fn shared() -> (tempfile::TempDir, Root, SharedFile) {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        std::fs::create_dir_all(root.path("/dev/shm")).unwrap();
        let (uid, gid) = (geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let file = SharedFile { path: "/dev/shm/looking-glass".into(), size: 1 << 20, uid, gid, mode: 0o660 };
        (folder, root, file)
    }

    #[test]
    fn it_has_its_size_and_mode_and_goes_again() {
        let (_folder, root, file) = shared();
        let before = file.capture(&root).unwrap();
        file.apply(&root, &before, &unattended).unwrap();
        let meta = root.path(&file.path).metadata().unwrap();
        assert_eq!((meta.len(), meta.mode() & 0o7777), (1 << 20, 0o660));
        assert_eq!(file.undo(&root, &before).unwrap(), Undone::Restored);
        assert_eq!(file.undo(&root, &before).unwrap(), Undone::AlreadyBack);
        assert!(!root.path(&file.path).exists());
    }

    #[test]
    fn what_is_there_already_is_neither_taken_nor_removed() {
        let (_folder, root, file) = shared();
        std::os::unix::fs::symlink("/etc/passwd", root.path(&file.path)).unwrap();
        let before = file.capture(&root).unwrap();
        assert!(before.exists);
        assert!(file.apply(&root, &before, &unattended).is_err());
        assert_eq!(file.undo(&root, &before).unwrap(), Undone::AlreadyBack);
        // Put there after ours was made, or in its place.
        let undone = file.undo(&root, &Existed { exists: false }).unwrap();
        assert!(matches!(undone, Undone::NotOurs { .. }), "{undone:?}");
        std::fs::remove_file(root.path(&file.path)).unwrap();
        std::fs::write(root.path(&file.path), "somebody's").unwrap();
        let undone = file.undo(&root, &Existed { exists: false }).unwrap();
        assert!(matches!(undone, Undone::NotOurs { .. }), "{undone:?}");
    }

    #[test]
    fn one_that_was_only_begun_goes_too() {
        let (_folder, root, file) = shared();
        File::create(root.path(&file.path)).unwrap();
        assert_eq!(file.undo(&root, &Existed { exists: false }).unwrap(), Undone::Restored);
    }
}
