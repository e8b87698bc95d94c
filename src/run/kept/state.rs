//! What is made once for a machine and kept between runs: its variable store, the folder of its TPM.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::fcntl::AtFlags;
use nix::unistd::{Gid, Uid, fchownat};

use super::folders::passable_folder;
use super::new_image;
use super::tpm_state;
use crate::plan::{Account, Keep, Paths};
use crate::trusted;

/// Makes what is made once for the machine; what is there already is left as it is.
pub fn keep(paths: &Paths, items: &[Keep], account: Option<&Account>) -> Result<()> {
    if items.iter().any(|item| !matches!(item, Keep::Image { .. })) {
        // QEMU's account must be able to enter; others see nothing but the names of three files.
        passable_folder(&paths.state)?;
    }
    for item in items {
        match item {
            Keep::Folder(path) => {
                give_all(path, account)?;
                trusted::folder(path, 0o700, account.map(|account| (account.uid, account.gid)))
                    .with_context(|| format!("cannot make the folder {}", path.display()))?;
            }
            Keep::Copy { from, to } => copy_once(from, to)?,
            Keep::TpmState { from, to } => {
                if tpm_state::copy_once(from, to, account)? {
                    tracing::info!("made {item}");
                }
            }
            Keep::Image { path, format, size } => {
                if new_image::make_once(path, *format, *size)
                    .with_context(|| format!("cannot make the image {}", path.display()))?
                {
                    tracing::info!("made {item}");
                }
            }
        }
    }
    Ok(())
}

/// Copies a file that is not there yet, so that a crash leaves either no copy or a whole one. It stays ours: QEMU has it as a
/// descriptor.
fn copy_once(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        return Ok(());
    }
    let copied = || -> Result<()> {
        let part = to.with_extension("part");
        let mut source = trusted::open_data(from)?;
        match std::fs::remove_file(&part) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
        std::io::copy(&mut source, &mut target)?;
        target.sync_all()?;
        std::fs::rename(&part, to)?;
        Ok(())
    };
    copied().with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

/// Changes the owner of the files in a folder, if it is another account's than it is to be, as after a change of the UUID.
///
/// The account before could put anything there: a hard link to a file of somebody else's above all. So only regular files
/// of one name that belong to the folder's owner are given, by a descriptor, which no exchange of names can lead elsewhere.
fn give_all(folder: &Path, account: Option<&Account>) -> Result<()> {
    let Some(Account { uid, gid, .. }) = account else { return Ok(()) };
    let open = |path: &Path| OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path);
    let Ok(whole) = open(folder) else { return Ok(()) };
    let (before, failed) = (whole.metadata()?, |path: &Path| format!("cannot change the owner of {}", path.display()));
    if !before.is_dir() || before.uid() == *uid {
        return Ok(());
    }
    let give =
        |file: &File| fchownat(file, "", Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)), AtFlags::AT_EMPTY_PATH);
    for path in std::fs::read_dir(folder)?.flatten().map(|entry| entry.path()) {
        let file = open(&path).with_context(|| failed(&path))?;
        let data = file.metadata()?;
        if data.is_file() && data.nlink() == 1 && data.uid() == before.uid() {
            give(&file).with_context(|| failed(&path))?;
        } else if data.uid() != *uid {
            tracing::warn!("{} is no file of the account that it was kept for, so it stays as it is", path.display());
        }
    }
    // Last, since its owner tells whether there is anything left to do.
    give(&whole).with_context(|| failed(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_made_once_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to.fd"));
        std::fs::write(&from, "template").unwrap();
        copy_once(&from, &to).unwrap();
        std::fs::write(&to, "the guest's").unwrap();
        copy_once(&from, &to).unwrap();
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "the guest's");
    }

    #[test]
    fn a_copy_goes_through_no_link_and_comes_from_no_fifo() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (name, text) in [("from", "template"), ("other", "somebody's")] {
            std::fs::write(at(name), text).unwrap();
        }
        std::os::unix::fs::symlink(at("other"), at("to.part")).unwrap();
        copy_once(&at("from"), &at("to.fd")).unwrap();
        assert_eq!(std::fs::read_to_string(at("to.fd")).unwrap(), "template");
        assert_eq!(std::fs::read_to_string(at("other")).unwrap(), "somebody's");
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(copy_once(&at("fifo"), &at("new.fd")).is_err());
    }

    #[test]
    fn nothing_kept_needs_no_folder() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state/a");
        let paths = Paths { run: "/r".into(), display: "/d".into(), state: state.clone(), log: "/l".into() };
        keep(&paths, &[], None).unwrap();
        assert!(!state.exists());
        keep(&paths, &[Keep::Folder(state.join("tpm"))], None).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!([mode(state.parent().unwrap()), mode(&state), mode(&state.join("tpm"))], [0o755, 0o711, 0o700]);
    }

    #[test]
    #[ignore = "changes owners, so it needs root: scripts/test runs it"]
    fn only_files_of_the_account_before_are_given_to_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, secret) = (dir.path().join("tpm"), dir.path().join("secret"));
        std::fs::create_dir(&folder).unwrap();
        let at = |name: &str| folder.join(name);
        for path in [at("state"), secret.clone()] {
            std::fs::write(path, "").unwrap();
        }
        std::fs::hard_link(&secret, at("link")).unwrap();
        std::os::unix::fs::symlink(&secret, at("symlink")).unwrap();
        for path in [at("state"), folder.clone()] {
            std::os::unix::fs::chown(path, Some(61500), Some(61500)).unwrap();
        }
        give_all(&folder, Some(&Account { uid: 61600, gid: 61600, groups: vec![] })).unwrap();
        let owner = |path: &Path| std::fs::symlink_metadata(path).unwrap().uid();
        assert_eq!([owner(&folder), owner(&at("state"))], [61600, 61600]);
        assert_eq!([owner(&secret), owner(&at("symlink"))], [0, 0]);
        // From now on it is its own, and nobody looks at what it does there.
        std::fs::write(at("new"), "").unwrap();
        give_all(&folder, Some(&Account { uid: 61600, gid: 61600, groups: vec![] })).unwrap();
        assert_eq!(owner(&at("new")), 0);
    }
}
