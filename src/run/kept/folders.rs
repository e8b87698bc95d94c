//! The folders of a machine.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::plan::Account;
use crate::trusted;
use crate::units::run_files;

/// How often a launcher tries to take what launchers that end keep removing.
pub(super) const ATTEMPTS: u32 = 8;

/// Makes a folder that everybody may read. The caller must then check that it is there: a launcher that ends removes it
/// while it is empty, so it may vanish again at once.
pub(in crate::run) fn shared_folder(path: &Path) -> std::io::Result<()> {
    match trusted::folder(path, 0o755, None) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes a folder of one machine that only `owner` (else we) may enter, or takes the one that is there if it is just that.
pub fn private_folder(path: &Path, owner: Option<&Account>) -> Result<()> {
    made(path, 0o700, owner)
}

/// Makes a folder of one machine that others may pass through and not list.
pub(super) fn passable_folder(path: &Path) -> Result<()> {
    made(path, 0o711, None)
}

fn made(path: &Path, mode: u32, owner: Option<&Account>) -> Result<()> {
    let owner = owner.map(|account| (account.uid, account.gid));
    let parent = path.parent().unwrap_or(Path::new("/"));
    // The folder of all machines, through which QEMU's account must pass.
    shared_folder(parent)
        .and_then(|()| trusted::folder(path, mode, owner))
        .with_context(|| format!("cannot make the folder {}", path.display()))
}

/// Removes the folder of the sockets that QEMU made itself, which it leaves there when it is killed.
pub fn remove_display(path: &Path) {
    match remove_tree(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => tracing::warn!("cannot remove {}: {e}", path.display()),
        Err(_) => {}
        Ok(()) => remove_empty_parent(path),
    }
}

/// Removes a folder with all that is in it, however deep it is: each level below the first is moved up first, so that this
/// needs no descriptor, and no part of a path, for each. Follows no links.
fn remove_tree(path: &Path) -> std::io::Result<()> {
    let mut moved = 0_u64;
    loop {
        let mut empty = true;
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            empty = false;
            if !entry.file_type()?.is_dir() {
                std::fs::remove_file(entry.path())?;
                continue;
            }
            for inner in std::fs::read_dir(entry.path())? {
                let inner = inner?;
                if inner.file_type()?.is_dir() {
                    // QEMU is gone, so nobody makes this name meanwhile; one that it made is passed over.
                    let up = loop {
                        moved += 1;
                        let up = path.join(format!(".removed-{moved}"));
                        if std::fs::symlink_metadata(&up).is_err() {
                            break up;
                        }
                    };
                    std::fs::rename(inner.path(), up)?;
                } else {
                    std::fs::remove_file(inner.path())?;
                }
            }
            std::fs::remove_dir(entry.path())?;
        }
        if empty {
            return std::fs::remove_dir(path);
        }
    }
}

/// Removes the folder of all machines' folders after the last of them: the kernel refuses it while there is another.
pub(in crate::run) fn remove_empty_parent(path: &Path) {
    if let Some(parent) = path.parent() {
        drop(std::fs::remove_dir(parent));
    }
}

/// Whether this folder is a machine's run directory: a launcher has locked it, or left a journal in it.
pub fn is_run_dir(folder: &Path) -> bool {
    [run_files::LOCK, run_files::JOURNAL].iter().any(|name| folder.join(name).symlink_metadata().is_ok())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

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
    fn a_folder_of_any_depth_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, other) = (dir.path().join("display"), dir.path().join("other"));
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join("kept"), "").unwrap();
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink(&other, folder.join("link")).unwrap();
        // Deeper than a path is long, and than there are descriptors.
        let mut at = rustix::fs::open(&folder, rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
        for _ in 0..5000 {
            rustix::fs::mkdirat(&at, "d", rustix::fs::Mode::RWXU).unwrap();
            rustix::fs::symlinkat(&other, &at, "link2").unwrap();
            at = rustix::fs::openat(&at, "d", rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
        }
        drop(at);
        std::fs::create_dir(folder.join(".removed-1")).unwrap();
        remove_display(&folder);
        assert!(!folder.exists() && other.join("kept").exists());
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
