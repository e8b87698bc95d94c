//! Make QEMU's account the owner of a device node for the run. Versions before this one gave images away too; what their
//! journals say is undone.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::fcntl::AtFlags;
use nix::unistd::{Gid, Uid, fchownat};
use serde::{Deserialize, Serialize};

use crate::change::error::{ChangeError, FileError};
use crate::change::program;
use crate::change::record::Undone;
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::child::Command;
use crate::host::Root;
use crate::trusted;

/// Longer than `udevadm` itself waits.
const SETTLE_LIMIT: Duration = Duration::from_secs(8);

/// Make QEMU's account the owner of a device node for the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// The node; links are followed, but for those by which another user leads root to what is not his.
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
        if self.path.starts_with("/dev/vfio") {
            settle(root);
        }
        let (file, meta) = open(root, &self.path)?;
        if !is_same(&meta, &before.owner) {
            return Err(FileError::Exchanged { path: self.path.clone() }.into());
        }
        Ok(chown(&file, &self.path, self.uid, self.gid)?)
    }

    /// Changes the owner back if it is the same file, and user and group each if it is still what the change gave: a rule of
    /// udev's may have set one of them since.
    fn undo(&self, root: &Root, Owned { owner: old }: &Owned) -> Result<Undone, ChangeError> {
        // A link that was made since leads to another file than the one that was given away.
        let found = trusted::find(&root.path(&self.path)).and_then(|found| Ok((found.file.metadata()?, found.file)));
        let (meta, file) = match found.map_err(FileError::io("read", &self.path)) {
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
        let back = |found, ours, old| if found == ours { old } else { found };
        let wanted = (back(found.0, self.uid, old.uid), back(found.1, self.gid, old.gid));
        if wanted == found {
            return Ok(Undone::NotOurs { found: format!("user {}, group {}", found.0, found.1) });
        }
        chown(&file, &self.path, wanted.0, wanted.1)?;
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

/// Waits until udev has done what its rules say about a node that has just come to be: it would take it back from QEMU's
/// account. Without udev there is nothing to wait for.
fn settle(root: &Root) {
    let program = ["/usr/bin/udevadm", "/bin/udevadm", "/sbin/udevadm"].map(|path| root.path(path));
    let Some(program) = program.into_iter().find(|path| path.exists()) else { return };
    let mut command = Command::new(program);
    command.args(["settle", "--timeout=5"]).stdout(Stdio::null());
    if let Err(why) = program::run(command, "udevadm settle", SETTLE_LIMIT) {
        tracing::debug!("udev: {why}");
    }
}

fn is_same(meta: &std::fs::Metadata, owner: &Owner) -> bool {
    (meta.dev(), meta.ino()) == (owner.device, owner.inode)
}

/// Opens the file without the right to read it, so that what is looked at and what is changed are the same file.
fn open(root: &Root, path: &Path) -> Result<(File, std::fs::Metadata), FileError> {
    let failed = FileError::io("read", path);
    let file = trusted::find_own(&root.path(path)).map_err(&failed)?;
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::change::step::unattended;

    #[test]
    fn udev_has_done_its_work_before_a_group_is_given_away() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        for path in ["/dev/vfio/7", "/usr/bin/udevadm", "/disk"] {
            std::fs::create_dir_all(root.path(path).parent().unwrap()).unwrap();
            std::fs::write(root.path(path), "#!/bin/sh\necho $* >${0%/*}/../../settled\n").unwrap();
        }
        std::fs::set_permissions(root.path("/usr/bin/udevadm"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let give = |path: &str| {
            let own = Own { path: path.into(), uid, gid };
            own.apply(&root, &own.capture(&root).unwrap(), &unattended).unwrap();
        };
        give("/disk");
        assert!(!root.path("/settled").exists());
        give("/dev/vfio/7");
        assert_eq!(root.text("/settled").unwrap(), "settle --timeout=5");
    }

    #[test]
    fn user_and_group_are_each_put_back_if_they_are_still_what_was_given() {
        // Only one's own ids can be given without root: the group is another one's in the record.
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        std::fs::write(root.path("/disk"), "").unwrap();
        let meta = std::fs::metadata(root.path("/disk")).unwrap();
        let own = |uid, gid| Own { path: "/disk".into(), uid, gid };
        let owner = |uid, gid| Owned { owner: Owner { uid, gid, device: meta.dev(), inode: meta.ino() } };
        let (uid, gid) = (meta.uid(), meta.gid());
        // The user is ours and was this one before; the group is a third one's.
        let kept = own(uid, gid + 1).undo(&root, &owner(uid, gid + 2)).unwrap();
        assert_eq!(kept, Undone::NotOurs { found: format!("user {uid}, group {gid}") });
        if nix::unistd::geteuid().is_root() {
            let half = own(uid, gid + 1).undo(&root, &owner(uid + 5, gid + 2)).unwrap();
            let now = std::fs::metadata(root.path("/disk")).unwrap();
            assert_eq!((half, now.uid(), now.gid()), (Undone::Restored, uid + 5, gid));
        }
    }
}
