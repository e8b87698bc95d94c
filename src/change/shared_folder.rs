//! A folder beside the run directories for a change that machines share: which of them have made it, and what was there before
//! the first. So any machine's undo can be the last, after any crash.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Result, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::FileError;
use super::lock_file;
use super::wait::wait_for;
use crate::host::{Root, lease};
use crate::trusted;

/// How long another launcher may take to make or undo its part.
const LIMIT: Duration = Duration::from_secs(60);

/// The lock's name in the folder.
const LOCK: &str = "lock";

/// The folder, locked for this process.
pub(super) struct SharedFolder {
    path: PathBuf,
    _lock: File,
}

impl SharedFolder {
    /// Whether there is one of this name beside a machine's run directory.
    pub fn exists(root: &Root, run: &Path, name: &str) -> bool {
        root.path(run.with_file_name(name)).exists()
    }

    /// Makes the folder if there is none, and waits until no other launcher has it locked.
    ///
    /// # Errors
    /// If it cannot be made; [`ErrorKind::WouldBlock`] if another launcher takes too long.
    pub fn lock(root: &Root, run: &Path, name: &str) -> Result<Self> {
        let path = root.path(run.with_file_name(name));
        let mut result = Err(ErrorKind::WouldBlock.into());
        wait_for(root, LIMIT, || {
            result = take(&path);
            !matches!(&result, Err(error) if error.kind() == ErrorKind::WouldBlock)
        });
        Ok(Self { _lock: result?, path })
    }

    /// As [`Self::lock`], for a change that has no words of its own for a launcher that takes too long.
    ///
    /// # Errors
    /// As there, with the folder.
    pub fn lock_named(root: &Root, run: &Path, name: &str) -> std::result::Result<Self, FileError> {
        Self::lock(root, run, name).map_err(|error| FileError::io("lock", &run.with_file_name(name))(error))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is kept; `None`: nothing yet.
    pub fn state<T: DeserializeOwned>(&self) -> std::result::Result<Option<T>, FileError> {
        let path = self.path.join("state");
        let failed = FileError::io("read", &path);
        match std::fs::read(&path) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text).map_err(|error| failed(error.into()))?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Keeps it, whole or not at all.
    pub fn keep(&self, state: &impl Serialize) -> std::result::Result<(), FileError> {
        let (path, part) = (self.path.join("state"), self.path.join("state.part"));
        let write = || -> Result<()> {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
            file.write_all(&serde_json::to_vec(state)?)?;
            file.sync_all()?;
            std::fs::rename(&part, &path)
        };
        write().map_err(FileError::io("write", &path))
    }

    /// The machine has made the change from now on, with this as its part.
    pub fn join(&self, machine: &str, part: &impl Serialize) -> std::result::Result<(), FileError> {
        let path = self.user(machine);
        let written =
            serde_json::to_vec(part).map_err(std::io::Error::from).and_then(|text| std::fs::write(&path, text));
        written.map_err(FileError::io("write", &path))
    }

    /// The machine has undone it.
    pub fn leave(&self, machine: &str) -> std::result::Result<(), FileError> {
        let path = self.user(machine);
        std::fs::remove_file(&path).map_err(FileError::io("remove", &path))
    }

    /// Whether the machine has made it.
    pub fn has(&self, machine: &str) -> bool {
        self.user(machine).exists()
    }

    /// The other machines that have made it, with their parts. One without a journal has nothing on the host any more.
    pub fn others<T: DeserializeOwned>(&self, machine: &str) -> impl Iterator<Item = (String, Option<T>)> {
        let entries = std::fs::read_dir(self.path.join("users")).into_iter().flatten().flatten();
        let others =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(move |name| name != machine);
        let leases = lease::folder(self.path.parent().unwrap_or(Path::new("/")));
        others.filter(move |name| lease::has_journal(&leases, name)).map(|name| {
            // A death while it was written leaves it cut; then the other machine's start has come no further.
            let part = std::fs::read(self.user(&name)).ok().and_then(|text| serde_json::from_slice(&text).ok());
            (name, part)
        })
    }

    /// Removes the folder; one that another launcher locks meanwhile stays, and is empty.
    pub fn remove(self) -> std::result::Result<(), FileError> {
        let is_anothers = || self.path.join(LOCK).exists();
        let remove = || -> Result<()> {
            trusted::empty(&self.path, LOCK)?;
            match std::fs::remove_dir(&self.path) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty && is_anothers() => Ok(()),
                done => done,
            }
        };
        remove().map_err(FileError::io("remove", &self.path))
    }

    fn user(&self, machine: &str) -> PathBuf {
        self.path.join("users").join(machine)
    }
}

/// Takes the lock. The folder may be removed by its last user meanwhile; then the lock is none.
fn take(folder: &Path) -> Result<File> {
    // Others than root may read it: dnsmasq, in that of the network.
    trusted::folder(folder, 0o755, None)?;
    let lock = lock_file::take(&folder.join(LOCK)).map_err(|error| match error.kind() {
        ErrorKind::NotFound => ErrorKind::WouldBlock.into(),
        _ => error,
    })?;
    trusted::folder(&folder.join("users"), 0o755, None)?;
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_last_user_removes_is_never_the_next_ones() {
        let folder = tempfile::tempdir().unwrap();
        let run = Path::new("/run/vfio-run/machine");
        let users = ["first", "second", "third", "fourth"];
        std::thread::scope(|scope| {
            for user in users {
                let root = Root::new(folder.path());
                scope.spawn(move || {
                    for _ in 0..50 {
                        let shared = SharedFolder::lock(&root, run, ".shared").unwrap();
                        assert_eq!(shared.state::<String>().unwrap(), None);
                        shared.join(user, &()).unwrap();
                        shared.keep(&user).unwrap();
                        assert!(shared.has(user) && shared.state::<String>().unwrap().as_deref() == Some(user));
                        shared.remove().unwrap();
                    }
                });
            }
        });
        assert!(!folder.path().join("run/vfio-run/.shared").exists());
    }
}
