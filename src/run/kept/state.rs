//! What is made once for a machine and kept between runs: its variable store, the folder of its TPM.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};

use super::folders::{chown_to, private_folder};
use crate::plan::{Account, Keep, Paths};

/// Makes what is made once for the machine; what is there already is left as it is.
pub fn keep(paths: &Paths, items: &[Keep], account: Option<&Account>) -> Result<()> {
    // QEMU's account must be able to enter; others see nothing but the names of three files.
    let state = &paths.state;
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(state)
        .with_context(|| format!("cannot make the folder {}", state.display()))?;
    for item in items {
        match item {
            Keep::Folder(path) => {
                chown_all(path, account)?;
                private_folder(path, account)?;
            }
            Keep::Copy { from, to } => copy_once(from, to, account)?,
        }
    }
    Ok(())
}

/// Copies a file that is not there yet, so that a crash leaves either no copy or a whole one.
fn copy_once(from: &Path, to: &Path, account: Option<&Account>) -> Result<()> {
    if to.exists() {
        if let Some(account) = account {
            chown_to(to, account)?;
        }
        return Ok(());
    }
    let copied = || -> Result<()> {
        let part = to.with_extension("part");
        let mut source = File::open(from)?;
        let mut target = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        std::io::copy(&mut source, &mut target)?;
        target.sync_all()?;
        if let Some(account) = account {
            chown_to(&part, account)?;
        }
        std::fs::rename(&part, to)?;
        Ok(())
    };
    copied().with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

/// Changes the owner of a folder, if it is there, and of the files in it: the account may be another than last time. Of
/// symbolic links it changes the links themselves.
fn chown_all(folder: &Path, account: Option<&Account>) -> Result<()> {
    let Some(Account { uid, gid, .. }) = account else { return Ok(()) };
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for path in entries.flatten().map(|entry| entry.path()).chain([folder.to_owned()]) {
        std::os::unix::fs::lchown(&path, Some(*uid), Some(*gid))
            .with_context(|| format!("cannot change the owner of {} to user {uid}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_made_once_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to.fd"));
        std::fs::write(&from, "template").unwrap();
        copy_once(&from, &to, None).unwrap();
        std::fs::write(&to, "the guest's").unwrap();
        copy_once(&from, &to, None).unwrap();
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "the guest's");
    }
}
