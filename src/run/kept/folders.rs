//! The folders of a machine.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use nix::unistd::{Gid, Uid, chown};

use crate::journal::Journal;
use crate::plan::Account;

/// The name of the lock in a run directory.
pub(super) const LOCK_FILE: &str = "lock";
/// How often a launcher tries to make a folder that launchers which end keep removing.
pub(super) const ATTEMPTS: u32 = 8;

/// Makes a folder that everybody may read, and its parents. The caller must then check that it is there: a launcher that
/// ends removes it while it is empty, so it may vanish again at once.
pub(in crate::run) fn make_shared_folder(path: &Path) -> std::io::Result<()> {
    match DirBuilder::new().recursive(true).mode(0o755).create(path) {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists) => Ok(()),
        other => other,
    }
}

/// Makes a folder of ours, and its parents if they are missing.
fn make_folder(path: &Path) -> std::io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let make = || DirBuilder::new().mode(0o700).create(path);
    for _ in 0..ATTEMPTS {
        match make() {
            Err(e) if e.kind() == ErrorKind::NotFound => make_shared_folder(parent)?,
            other => return other,
        }
    }
    make()
}

/// Makes a folder that only `owner` (else we) may enter, or takes the one that is there if it is just that.
pub fn private_folder(path: &Path, owner: Option<&Account>) -> Result<()> {
    match make_folder(path) {
        Ok(()) => {
            if let Some(account) = owner {
                chown_to(path, account)?;
            }
        }
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        Err(e) => return Err(e).with_context(|| format!("cannot make the folder {}", path.display())),
    }
    let meta = std::fs::symlink_metadata(path)?;
    let uid = owner.map_or_else(|| Uid::effective().as_raw(), |a| a.uid);
    if !meta.is_dir() || meta.uid() != uid {
        // In a folder that others can write to (/tmp), somebody may have been there first.
        bail!("{} is not a folder of user {uid}; remove it", path.display());
    }
    if meta.mode() & 0o077 != 0 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Removes the folder of the sockets that QEMU made itself, which it leaves there when it is killed.
pub fn remove_display(path: &Path) {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => tracing::warn!("cannot remove {}: {e}", path.display()),
        Err(_) => {}
        Ok(()) => remove_empty_parent(path),
    }
}

/// Removes the folder of all machines' folders after the last of them: the kernel refuses it while there is another.
pub(in crate::run) fn remove_empty_parent(path: &Path) {
    if let Some(parent) = path.parent() {
        drop(std::fs::remove_dir(parent));
    }
}

/// Changes the owner of a file to this account.
pub(in crate::run) fn chown_to(path: &Path, account: &Account) -> Result<()> {
    chown(path, Some(Uid::from_raw(account.uid)), Some(Gid::from_raw(account.gid)))
        .with_context(|| format!("cannot change the owner of {} to user {}", path.display(), account.uid))
}

/// Whether this folder is a machine's run directory: a launcher has locked it, or left a journal in it.
pub fn is_run_dir(folder: &Path) -> bool {
    folder.join(LOCK_FILE).is_file() || folder.join(Journal::FILE).is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_directory_that_somebody_else_may_enter_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("a");
        std::fs::create_dir(&run).unwrap();
        private_folder(&run, None).unwrap();
        assert_eq!(std::fs::metadata(&run).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_link_in_place_of_the_run_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("real"), &link).unwrap();
        assert!(private_folder(&link, None).is_err());
    }
}
