//! The folder of the network that machines share: who uses it, and what was there before.

use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::guest::NatGuest;
use crate::change::error::{ChangeError, FileError, NetworkError};
use crate::change::shared_folder::SharedFolder;
use crate::host::Root;
use crate::trusted;
use crate::units::Subnet;

/// The folder's name beside the run directories.
const FOLDER: &str = ".nat";

/// What the network is, and what was there before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// Its addresses.
    pub subnet: Subnet,
    /// Interfaces, and what their `forwarding` said before.
    pub forwarding: Vec<(String, String)>,
}

/// The folder, locked for this process.
pub(super) struct Shared(SharedFolder);

impl Shared {
    /// Whether there is one, seen from a machine's run directory.
    pub fn exists(root: &Root, run: &Path) -> bool {
        SharedFolder::exists(root, run, FOLDER)
    }

    /// Makes the folder if there is none, and waits until nobody else makes or removes the network.
    pub fn lock(root: &Root, run: &Path) -> Result<Self, ChangeError> {
        let lock = || {
            let folder = SharedFolder::lock(root, run, FOLDER)?;
            // dnsmasq, which reads in it, has an account of its own.
            trusted::folder(&folder.path().join("hosts"), 0o755, None)?;
            Ok(Self(folder))
        };
        lock().map_err(|error: std::io::Error| match error.kind() {
            ErrorKind::WouldBlock => NetworkError::Busy.into(),
            _ => FileError::io("make", &run.with_file_name(FOLDER))(error).into(),
        })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    /// What is kept of the network; `None`: there is none yet.
    pub fn state(&self) -> Result<Option<State>, ChangeError> {
        Ok(self.0.state()?)
    }

    /// Keeps it, whole or not at all.
    pub fn keep(&self, state: &State) -> Result<(), ChangeError> {
        Ok(self.0.keep(state)?)
    }

    /// The machine uses the network from now on; ports may lead to its guest.
    pub fn join(&self, machine: &str, guest: Option<&NatGuest>) -> Result<(), ChangeError> {
        Ok(self.0.join(machine, &guest)?)
    }

    /// The machine uses it no more.
    pub fn leave(&self, machine: &str) -> Result<(), ChangeError> {
        drop(std::fs::remove_file(self.folder().join("hosts").join(machine)));
        Ok(self.0.leave(machine)?)
    }

    /// Whether the machine uses it.
    pub fn has(&self, machine: &str) -> bool {
        self.0.has(machine)
    }

    /// The other machines that use it, with the guests to which ports lead.
    pub fn others(&self, machine: &str) -> impl Iterator<Item = (String, Option<NatGuest>)> {
        self.0.others::<Option<NatGuest>>(machine).map(|(name, guest)| (name, guest.flatten()))
    }

    /// Whether another machine uses it.
    pub fn has_others(&self, machine: &str) -> bool {
        self.others(machine).next().is_some()
    }

    /// Removes the folder.
    pub fn remove(self) -> Result<(), ChangeError> {
        Ok(self.0.remove()?)
    }
}
