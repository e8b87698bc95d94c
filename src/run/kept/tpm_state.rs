//! The state of a TPM, copied for a machine that has none yet.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use nix::unistd::{Gid, Uid, fchown};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, openat, renameat_with, unlinkat};

use crate::host::Root;
use crate::host::tpm_state;
use crate::plan::Account;

/// A copy that is not whole yet.
const PART: &str = ".state.part";

/// Copies the state in the folder `from` to the file `to`, whole or not at all; whether it did. A state that is there is left as
/// it is. The copy is the account's: the folder that it is in belongs to it, so nothing there is followed.
pub fn copy_once(from: &Path, to: &Path, account: Option<&Account>) -> Result<bool> {
    let (parent, name) = (to.parent().context("it is in no folder")?, to.file_name().context("it has no name")?);
    if std::fs::symlink_metadata(to).is_ok() {
        return Ok(false);
    }
    let read = tpm_state::read(&Root::new("/"), from);
    let bytes = read.map_err(|why| anyhow!("cannot copy the TPM's state in {}: {why}", from.display()))?;
    let copied = || -> io::Result<bool> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = openat(CWD, parent, flags, Mode::empty())?;
        match unlinkat(&folder, PART, AtFlags::empty()) {
            Err(error) if error != rustix::io::Errno::NOENT => return Err(error.into()),
            _ => {}
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(&folder, PART, flags, Mode::RUSR | Mode::WUSR)?);
        file.write_all(&bytes)?;
        if let Some(account) = account {
            fchown(&file, Some(Uid::from_raw(account.uid)), Some(Gid::from_raw(account.gid)))?;
        }
        file.sync_all()?;
        let renamed = renameat_with(&folder, PART, &folder, name, RenameFlags::NOREPLACE);
        if renamed.is_err() {
            unlinkat(&folder, PART, AtFlags::empty()).ok();
        }
        match renamed {
            Err(rustix::io::Errno::EXIST) => return Ok(false),
            renamed => renamed?,
        }
        rustix::fs::fsync(&folder)?;
        Ok(true)
    };
    copied().with_context(|| format!("cannot copy the TPM's state to {}", to.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_tpms_state_is_copied_once_and_never_over_the_machines_own() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let state = b"\x02\x01\x00\x0a\x00\x00\x00\x00\x00\x0cek";
        for folder in ["libvirt", "own"] {
            std::fs::create_dir(at(folder)).unwrap();
        }
        std::fs::write(at("libvirt").join(tpm_state::FILE), state).unwrap();
        // As a launcher left it that died, and where somebody else's file would be.
        std::fs::write(at("secret"), "secret").unwrap();
        std::os::unix::fs::symlink(at("secret"), at("own").join(PART)).unwrap();
        let to = at("own").join(tpm_state::FILE);
        assert!(copy_once(&at("libvirt"), &to, None).unwrap());
        assert_eq!(std::fs::read(&to).unwrap(), state);
        assert_eq!(std::fs::metadata(&to).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(std::fs::read_to_string(at("secret")).unwrap(), "secret");
        std::fs::write(&to, "the guest's").unwrap();
        assert!(!copy_once(&at("libvirt"), &to, None).unwrap());
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "the guest's");
        assert_eq!(std::fs::read_dir(at("own")).unwrap().count(), 1);
        // Without a state of its own, and without one to copy, there is none.
        std::fs::remove_file(&to).unwrap();
        let words = copy_once(&at("missing"), &to, None).unwrap_err().to_string();
        assert!(words.ends_with("missing: it does not exist") && !to.exists(), "{words}");
    }

    #[test]
    #[ignore = "changes owners, so it needs root: scripts/test runs it"]
    fn the_copy_of_a_tpms_state_is_the_accounts_and_the_original_stays_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (folder, owner) in [("libvirt", 1001), ("own", 61500)] {
            std::fs::create_dir(at(folder)).unwrap();
            std::os::unix::fs::chown(at(folder), Some(owner), Some(owner)).unwrap();
        }
        let from = at("libvirt").join(tpm_state::FILE);
        std::fs::write(&from, b"\x02\x01\x00\x0a\x00\x00\x00\x00\x00\x0cek").unwrap();
        std::os::unix::fs::chown(&from, Some(1001), Some(1001)).unwrap();
        let to = at("own").join(tpm_state::FILE);
        let account = Account { uid: 61500, gid: 61500, groups: vec![] };
        assert!(copy_once(&at("libvirt"), &to, Some(&account)).unwrap());
        let owner = |path: &Path| std::fs::metadata(path).unwrap().uid();
        assert_eq!([owner(&to), owner(&from)], [61500, 1001]);
        // A file of somebody else's that its owner put there by a second name, or a link, is not given away.
        std::fs::remove_file(&to).unwrap();
        std::fs::remove_file(&from).unwrap();
        std::fs::write(at("secret"), b"\x02\x01\x00\x0a\x00\x00\x00\x00\x00\x0cek").unwrap();
        std::fs::hard_link(at("secret"), &from).unwrap();
        assert!(copy_once(&at("libvirt"), &to, Some(&account)).is_err());
        std::fs::remove_file(&from).unwrap();
        std::os::unix::fs::symlink(at("secret"), &from).unwrap();
        assert!(copy_once(&at("libvirt"), &to, Some(&account)).is_err());
        assert!(!to.exists());
    }
}
