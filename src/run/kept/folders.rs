//! The machine's folders, its lock, and what is made once and kept.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::unistd::{Gid, Uid, chown};

use crate::plan::{Account, Keep, Paths};

/// How often a folder is asked for that launchers which end keep removing.
const ATTEMPTS: u32 = 8;

/// The lock that the launcher of a machine holds for as long as it lives.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Its name in the run directory.
    pub const FILE: &str = "lock";

    /// Takes the machine's lock, or says who has it. Makes the run directory where it is missing.
    pub fn take(run: &Path) -> Result<Result<Self, Owner>> {
        let path = run.join(Self::FILE);
        // A launcher that ends removes the folder; whoever opened the lock just before holds a file without a name.
        for attempt in 0..ATTEMPTS {
            private_folder(run, None)?;
            let opened = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(nix::libc::O_NOFOLLOW)
                .open(&path);
            let mut file = match opened {
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                other => other.with_context(|| format!("cannot open {}", path.display()))?,
            };
            match file.try_lock() {
                Ok(()) => {}
                // Whoever asks whether the lock is held holds it for a moment.
                Err(TryLockError::WouldBlock) if attempt < 5 => {
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                }
                Err(TryLockError::WouldBlock) => return Ok(Err(Owner::of(&path))),
                Err(TryLockError::Error(e)) => {
                    return Err(e).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
            if std::fs::metadata(&path).is_ok_and(|m| same(&m, &file)) {
                file.set_len(0)?;
                write!(file, "{}", std::process::id())?;
                return Ok(Ok(Self { file, path }));
            }
        }
        bail!("{} keeps vanishing; another vfio-run is cleaning up there", path.display())
    }

    /// Whether somebody holds the lock of this run directory.
    pub fn owner(run: &Path) -> Option<Owner> {
        let path = run.join(Self::FILE);
        let file = File::open(&path).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(Owner::of(&path)),
            _ => None,
        }
    }

    /// Removes the run directory with all that is in it, then lets the lock go.
    pub fn remove_folder(self) -> Result<()> {
        let run = self.path.parent().context("a lock lies in a folder")?;
        std::fs::remove_dir_all(run).with_context(|| format!("cannot remove {}", run.display()))?;
        remove_empty_parent(run);
        drop(self.file);
        Ok(())
    }
}

pub(in crate::run) fn same(meta: &std::fs::Metadata, file: &File) -> bool {
    file.metadata().is_ok_and(|m| (m.dev(), m.ino()) == (meta.dev(), meta.ino()))
}

/// Who holds a machine's lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The launcher's process id, where the lock names it.
    pub pid: Option<i32>,
}

impl Owner {
    fn of(path: &Path) -> Self {
        Self { pid: std::fs::read_to_string(path).ok().and_then(|t| t.trim().parse().ok()) }
    }
}

/// Makes a folder that all may look into, and those that it lies in, for whoever then asks whether it is there: a launcher
/// that ends removes it while it is empty, so that it is there, or that one it lies in is missing, can be untrue again when
/// we are told.
pub(in crate::run) fn make_shared_folder(path: &Path) -> std::io::Result<()> {
    match DirBuilder::new().recursive(true).mode(0o755).create(path) {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists) => Ok(()),
        other => other,
    }
}

/// Makes a folder of ours, and those that it lies in where they are missing.
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
                give(path, account)?;
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
        let _ = std::fs::remove_dir(parent);
    }
}

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
                give_all(path, account)?;
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
            give(to, account)?;
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
            give(&part, account)?;
        }
        std::fs::rename(&part, to)?;
        Ok(())
    };
    copied().with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

/// Gives a folder that is there, and the files in it, to an account that may be another than last time. Links are given
/// themselves, not what they lead to.
fn give_all(folder: &Path, account: Option<&Account>) -> Result<()> {
    let Some(Account { uid, gid, .. }) = account else { return Ok(()) };
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for path in entries.flatten().map(|entry| entry.path()).chain([folder.to_owned()]) {
        std::os::unix::fs::lchown(&path, Some(*uid), Some(*gid))
            .with_context(|| format!("cannot give {} to user {uid}", path.display()))?;
    }
    Ok(())
}

fn give(path: &Path, account: &Account) -> Result<()> {
    chown(path, Some(Uid::from_raw(account.uid)), Some(Gid::from_raw(account.gid)))
        .with_context(|| format!("cannot give {} to user {}", path.display(), account.uid))
}

/// Opens the machine's log for appending, mode 0600.
pub fn open_log(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
        .with_context(|| format!("cannot open the log {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_launcher_a_machine_and_the_other_learns_who() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("machines/a");
        let lock = Lock::take(&run).unwrap().unwrap();
        let pid = std::process::id() as i32;
        assert_eq!(Lock::take(&run).unwrap().unwrap_err(), Owner { pid: Some(pid) });
        assert_eq!(Lock::owner(&run), Some(Owner { pid: Some(pid) }));
        lock.remove_folder().unwrap();
        assert!(!run.exists());
        assert_eq!(Lock::owner(&run), None);
        Lock::take(&run).unwrap().unwrap();
    }

    #[test]
    fn launchers_that_end_take_no_folder_from_under_those_that_begin() {
        let dir = tempfile::tempdir().unwrap();
        let runs = dir.path().join("machines");
        std::thread::scope(|scope| {
            for name in ["a", "b", "c", "d"] {
                let run = runs.join(name);
                scope.spawn(move || {
                    for _ in 0..100 {
                        Lock::take(&run).unwrap().unwrap().remove_folder().unwrap();
                    }
                });
            }
        });
        assert!(!runs.exists());
    }

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
