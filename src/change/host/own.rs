//! Make QEMU's account the owner of a file or device node for the run.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::AtFlags;
use nix::unistd::{Gid, Uid, fchownat};
use serde::{Deserialize, Serialize};

use crate::change::error::{ChangeError, FileError};
use crate::change::record::Undone;
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::host::Root;

/// Make QEMU's account the owner of a file or device node for the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// The file or node; links are followed.
    pub path: PathBuf,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// The owner of a file, and which file it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Device that holds the file.
    pub device: u64,
    /// Its inode there.
    pub inode: u64,
}

/// The owner that was found: `{"owner": {…}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owned {
    /// The owner.
    pub owner: Owner,
}

impl Step for Own {
    type Before = Owned;

    fn nature(&self) -> Nature {
        Nature::PREPARES
    }

    fn capture(&self, root: &Root) -> Result<Owned, ChangeError> {
        let (_, meta) = open(root, &self.path)?;
        Ok(Owned { owner: Owner { uid: meta.uid(), gid: meta.gid(), device: meta.dev(), inode: meta.ino() } })
    }

    /// Changes the owner of the very file that was looked at: a program that can write to its folder may have put another
    /// file there since, or a link to one.
    fn apply(&self, root: &Root, before: &Owned, _: Progress<'_>) -> Result<(), ChangeError> {
        let (file, meta) = open(root, &self.path)?;
        if !is_same(&meta, &before.owner) {
            return Err(FileError::Exchanged { path: self.path.clone() }.into());
        }
        Ok(chown(&file, &self.path, self.uid, self.gid)?)
    }

    /// Changes the owner back if it is the same file and still has the owner that the change gave it.
    fn undo(&self, root: &Root, Owned { owner: old }: &Owned) -> Result<Undone, ChangeError> {
        let (file, meta) = match open(root, &self.path) {
            // A device node that vanished took its owner with it; the kernel makes the next one anew.
            Err(error) if error.errno() == Some(libc::ENOENT) => {
                return Ok(Undone::NotOurs { found: "no such file".to_owned() });
            }
            other => other?,
        };
        if !is_same(&meta, old) {
            return Ok(Undone::NotOurs { found: "another file of the same name".to_owned() });
        }
        let found = (meta.uid(), meta.gid());
        if found == (old.uid, old.gid) {
            return Ok(Undone::AlreadyBack);
        }
        if found != (self.uid, self.gid) {
            return Ok(Undone::NotOurs { found: format!("user {}, group {}", found.0, found.1) });
        }
        chown(&file, &self.path, old.uid, old.gid)?;
        Ok(Undone::Restored)
    }

    fn lock_files(&self, _: &Owned) -> Vec<PathBuf> {
        Vec::new()
    }

    fn observe(&self, root: &Root) -> Vec<Observed> {
        let meta = std::fs::metadata(root.path(&self.path));
        let owner = |meta: std::fs::Metadata| {
            Observed::new(format!("owner of {}", self.path.display()), format!("{}:{}", meta.uid(), meta.gid()))
        };
        meta.ok().map(owner).into_iter().collect()
    }
}

impl fmt::Display for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "give {} to user {}, group {}", self.path.display(), self.uid, self.gid)
    }
}

fn is_same(meta: &std::fs::Metadata, owner: &Owner) -> bool {
    (meta.dev(), meta.ino()) == (owner.device, owner.inode)
}

/// Opens the file without the right to read it, so that what is looked at and what is changed are the same file.
fn open(root: &Root, path: &Path) -> Result<(File, std::fs::Metadata), FileError> {
    let failed = FileError::io("read", path);
    let mut options = std::fs::OpenOptions::new();
    let file = options.read(true).custom_flags(libc::O_PATH).open(root.path(path)).map_err(&failed)?;
    let meta = file.metadata().map_err(&failed)?;
    Ok((file, meta))
}

/// Changes the owner and reads it back: some file systems (vfat, NFS with squashed ids) accept another owner and keep the
/// old one.
fn chown(file: &File, path: &Path, uid: u32, gid: u32) -> Result<(), FileError> {
    let failed = FileError::io("change the owner of", path);
    fchownat(file, "", Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::AT_EMPTY_PATH)
        .map_err(|error| failed(error.into()))?;
    let found = file.metadata().map_err(failed)?;
    match (found.uid(), found.gid()) == (uid, gid) {
        true => Ok(()),
        false => Err(FileError::NotTaken {
            path: path.to_owned(),
            wanted: format!("user {uid}, group {gid}"),
            found: format!("user {}, group {}", found.uid(), found.gid()),
        }),
    }
}
