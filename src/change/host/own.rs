//! Make a file or device node QEMU's own for the run.

use std::fs::File;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::AtFlags;
use nix::unistd::{Gid, Uid, fchownat};

use crate::change::{Before, ChangeError, Undone};
use crate::host::Root;

/// Its owner, and which file it is.
pub(in crate::change) fn capture(root: &Root, path: &Path) -> Result<Before, ChangeError> {
    let (_, meta) = open(root, path)?;
    Ok(Before::Owner { uid: meta.uid(), gid: meta.gid(), device: meta.dev(), inode: meta.ino() })
}

/// Gives away the very file that was looked at: whoever can write to its folder may have put another there since, or a
/// link to one.
pub(in crate::change) fn apply(root: &Root, path: &Path, ours: (u32, u32), before: &Before) -> Result<(), ChangeError> {
    let Before::Owner { device, inode, .. } = *before else {
        return Err(ChangeError::WrongRecord { before: before.clone() });
    };
    let (file, meta) = open(root, path)?;
    if (meta.dev(), meta.ino()) != (device, inode) {
        return Err(ChangeError::Exchanged { path: path.to_owned() });
    }
    give(&file, path, ours.0, ours.1)
}

/// Gives it back, where it is the same file and still has the owner that we gave it.
pub(in crate::change) fn undo(
    root: &Root,
    path: &Path,
    ours: (u32, u32),
    before: &Before,
) -> Result<Undone, ChangeError> {
    let Before::Owner { uid, gid, device, inode } = *before else {
        return Err(ChangeError::WrongRecord { before: before.clone() });
    };
    let (file, meta) = match open(root, path) {
        // A device node that vanished took its owner with it; the kernel makes the next one anew.
        Err(ChangeError::Io { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Undone::NotOurs { found: "no such file".to_owned() });
        }
        other => other?,
    };
    if (meta.dev(), meta.ino()) != (device, inode) {
        return Ok(Undone::NotOurs { found: "another file of the same name".to_owned() });
    }
    let found = (meta.uid(), meta.gid());
    if found == (uid, gid) {
        return Ok(Undone::AlreadyBack);
    }
    if found != ours {
        return Ok(Undone::NotOurs { found: format!("user {}, group {}", found.0, found.1) });
    }
    give(&file, path, uid, gid)?;
    Ok(Undone::Restored)
}

/// Opens the file without reading rights, so that what is looked at and what is given away are the same file.
fn open(root: &Root, path: &Path) -> Result<(File, std::fs::Metadata), ChangeError> {
    let failed = |error| ChangeError::Io { action: "read", path: path.to_owned(), error };
    let file =
        std::fs::OpenOptions::new().read(true).custom_flags(nix::libc::O_PATH).open(root.path(path)).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    Ok((file, meta))
}

/// Some file systems (vfat, NFS with squashed ids) take another owner and keep the old one.
fn give(file: &File, path: &Path, uid: u32, gid: u32) -> Result<(), ChangeError> {
    let failed = |error| ChangeError::Io { action: "give away", path: path.to_owned(), error };
    fchownat(file, "", Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::AT_EMPTY_PATH)
        .map_err(|e| failed(e.into()))?;
    let found = file.metadata().map_err(failed)?;
    match (found.uid(), found.gid()) == (uid, gid) {
        true => Ok(()),
        false => Err(ChangeError::NotTaken {
            path: path.to_owned(),
            wanted: format!("user {uid}, group {gid}"),
            found: format!("user {}, group {}", found.uid(), found.gid()),
        }),
    }
}
