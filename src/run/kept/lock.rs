//! The lock of a machine: the launcher holds it for as long as it lives.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::folders::{ATTEMPTS, private_folder, remove_empty_parent};
use crate::units::run_files;
use crate::{streams, trusted};

/// The lock that the launcher of a machine holds for as long as it lives.
#[derive(Debug)]
pub struct Lock {
    /// Locked for as long as it is open.
    _file: File,
    path: PathBuf,
}

impl Lock {
    /// Its name in the run directory.
    pub const FILE: &str = run_files::LOCK;

    /// Takes the machine's lock, or says who has it. Makes the run directory if it is missing.
    pub fn take(run: &Path) -> Result<Result<Self, Owner>> {
        let path = run.join(Self::FILE);
        // A launcher that ends removes the folder; a launcher that opened the lock just before holds a file without a name.
        for attempt in 0..ATTEMPTS {
            match private_folder(run, None) {
                // Launchers that end removed it again and again.
                Err(error) if is_missing(&error) => continue,
                other => other?,
            }
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
                // A process that asks whether the lock is held holds it for a moment.
                Err(TryLockError::WouldBlock) if attempt < 5 => {
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                }
                Err(TryLockError::WouldBlock) => return Ok(Err(Owner::of(&path))),
                Err(TryLockError::Error(e)) => {
                    return Err(e).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
            if is_at(&file, &path) {
                file.set_len(0)?;
                write!(file, "{}", std::process::id())?;
                // From here on the host depends on us, and never on somebody who reads our messages.
                streams::lose_messages_rather_than_wait();
                return Ok(Ok(Self { _file: file, path }));
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
        trusted::empty(run, Self::FILE).with_context(|| format!("cannot remove {}", run.display()))?;
        match std::fs::remove_dir(run) {
            Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
                return Err(e).with_context(|| format!("cannot remove {}", run.display()));
            }
            _ => {}
        }
        remove_empty_parent(run);
        Ok(())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        streams::wait_for_readers_shortly();
    }
}

fn is_missing(error: &anyhow::Error) -> bool {
    error.root_cause().downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::NotFound)
}

/// Who holds a machine's lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The launcher's process id, if the lock names it.
    pub pid: Option<i32>,
}

impl Owner {
    fn of(path: &Path) -> Self {
        Self { pid: std::fs::read_to_string(path).ok().and_then(|t| t.trim().parse().ok()) }
    }
}

/// Whether this open file is the one at the path: it may have been removed, and another made there, since it was opened.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    let (there, open) = (std::fs::symlink_metadata(path), file.metadata());
    there.is_ok_and(|there| open.is_ok_and(|open| (open.dev(), open.ino()) == (there.dev(), there.ino())))
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
    fn a_launcher_that_ends_takes_nothing_of_the_next_ones() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("machines/a");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut runs = 0;
                    while runs < 50 {
                        let Ok(lock) = Lock::take(&run).unwrap() else { continue };
                        for name in ["journal", "plan.json"] {
                            let path = run.join(name);
                            assert!(!path.exists());
                            std::fs::write(path, "").unwrap();
                        }
                        std::fs::create_dir(run.join("folder")).unwrap();
                        assert!(run.join("journal").exists() && Lock::owner(&run).is_some());
                        lock.remove_folder().unwrap();
                        runs += 1;
                    }
                });
            }
        });
        assert!(!run.exists());
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
}
