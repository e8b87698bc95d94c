//! The folder of the network that machines share: who uses it, and what was there before.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::guest::NatGuest;
use crate::change::error::{ChangeError, FileError, NetworkError};
use crate::change::lock_file;
use crate::change::wait::wait_for;
use crate::host::{Root, lease};
use crate::trusted;
use crate::units::Subnet;

/// The folder's name beside the run directories.
const FOLDER: &str = ".nat";
/// How long another launcher may take to make or remove the network.
const LIMIT: Duration = Duration::from_secs(60);

/// What the network is, and what was there before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// Its addresses.
    pub subnet: Subnet,
    /// Interfaces, and what their `forwarding` said before.
    pub forwarding: Vec<(String, String)>,
}

/// The folder, locked for this process.
pub(super) struct Shared {
    folder: PathBuf,
    _lock: File,
}

impl Shared {
    /// Whether there is one, seen from a machine's run directory.
    pub fn exists(root: &Root, run: &Path) -> bool {
        root.path(at(run)).exists()
    }

    /// Makes the folder if there is none, and waits until nobody else makes or removes the network.
    pub fn lock(root: &Root, run: &Path) -> Result<Self, ChangeError> {
        let folder = root.path(at(run));
        let path = folder.join("lock");
        let mut result = Err(ErrorKind::WouldBlock.into());
        wait_for(root, LIMIT, || {
            result = take(&folder, &path);
            !matches!(&result, Err(error) if error.kind() == ErrorKind::WouldBlock)
        });
        match result {
            Ok(lock) => Ok(Self { folder, _lock: lock }),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(NetworkError::Busy.into()),
            Err(error) => Err(FileError::io("make", &path)(error).into()),
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is kept of the network; `None`: there is none yet.
    pub fn state(&self) -> Result<Option<State>, ChangeError> {
        let path = self.folder.join("state");
        let failed = FileError::io("read", &path);
        match std::fs::read(&path) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text).map_err(|error| failed(error.into()))?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error).into()),
        }
    }

    /// Keeps it, whole or not at all.
    pub fn keep(&self, state: &State) -> Result<(), ChangeError> {
        let (path, part) = (self.folder.join("state"), self.folder.join("state.part"));
        let write = || -> std::io::Result<()> {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
            file.write_all(&serde_json::to_vec(state)?)?;
            file.sync_all()?;
            std::fs::rename(&part, &path)
        };
        Ok(write().map_err(FileError::io("write", &path))?)
    }

    /// The machine uses the network from now on; ports may lead to its guest.
    pub fn join(&self, machine: &str, guest: Option<&NatGuest>) -> Result<(), ChangeError> {
        let path = self.user(machine);
        let written =
            serde_json::to_vec(&guest).map_err(std::io::Error::from).and_then(|text| std::fs::write(&path, text));
        Ok(written.map_err(FileError::io("write", &path))?)
    }

    /// The machine uses it no more.
    pub fn leave(&self, machine: &str) -> Result<(), ChangeError> {
        drop(std::fs::remove_file(self.folder.join("hosts").join(machine)));
        let path = self.user(machine);
        Ok(std::fs::remove_file(&path).map_err(FileError::io("remove", &path))?)
    }

    /// Whether the machine uses it.
    pub fn has(&self, machine: &str) -> bool {
        self.user(machine).exists()
    }

    /// The other machines that use it, with the guests to which ports lead. One without a journal has nothing on the host any
    /// more.
    pub fn others(&self, machine: &str) -> impl Iterator<Item = (String, Option<NatGuest>)> {
        let entries = std::fs::read_dir(self.folder.join("users")).into_iter().flatten().flatten();
        let others =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(move |name| name != machine);
        let leases = lease::folder(self.folder.parent().unwrap_or(Path::new("/")));
        others.filter(move |name| lease::has_journal(&leases, name)).map(|name| {
            // A death while it was written leaves it cut; then the other machine's start has not come as far as its ports.
            let guest = std::fs::read(self.user(&name)).ok().and_then(|text| serde_json::from_slice(&text).ok());
            (name, guest.flatten())
        })
    }

    /// Whether another machine uses it.
    pub fn has_others(&self, machine: &str) -> bool {
        self.others(machine).next().is_some()
    }

    /// Removes the folder.
    pub fn remove(self) -> Result<(), ChangeError> {
        Ok(std::fs::remove_dir_all(&self.folder).map_err(FileError::io("remove", &self.folder))?)
    }

    fn user(&self, machine: &str) -> PathBuf {
        self.folder.join("users").join(machine)
    }
}

/// The folder beside a run directory.
fn at(run: &Path) -> PathBuf {
    run.with_file_name(FOLDER)
}

/// Takes the lock. The folder may be removed by its last user meanwhile; then the lock is none.
fn take(folder: &Path, path: &Path) -> std::io::Result<File> {
    // dnsmasq, which reads in it, has an account of its own.
    trusted::folder(&folder.join("users"), 0o755, None)?;
    trusted::folder(&folder.join("hosts"), 0o755, None)?;
    lock_file::take(path)
}
