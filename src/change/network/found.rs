//! A network interface as a change finds it: what sysfs says of it, and its removal.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::change::error::FileError;
use crate::change::step::Observed;
use crate::host::Root;
use crate::netlink::Netlink;

/// Whether an interface of the name was there before: `{"index": 7}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Its number; `None`: there was none.
    pub index: Option<u32>,
}

impl Found {
    /// The interface of this name.
    pub(super) fn of(root: &Root, name: &str) -> Self {
        Self { index: Link::read(root, name).map(|link| link.index) }
    }
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// Its number.
    pub index: u32,
    /// Its MAC address.
    pub address: String,
    /// The number of the interface that it is made on.
    pub parent: Option<u32>,
}

impl Link {
    /// Its folder in sysfs.
    pub fn folder(name: &str) -> PathBuf {
        Path::new("/sys/class/net").join(name)
    }

    /// What is there under this name.
    pub fn read(root: &Root, name: &str) -> Option<Self> {
        let folder = Self::folder(name);
        let index = root.parse(folder.join("ifindex"))?;
        let address = root.text_up_to(folder.join("address"), 64).unwrap_or_default();
        let parent = root.parse(folder.join("iflink")).filter(|parent| *parent != index);
        Some(Self { index, address, parent })
    }

    /// Removes this very interface, by its number.
    pub fn remove(&self, root: &Root, name: &str) -> Result<(), FileError> {
        let folder = Self::folder(name);
        let failed = FileError::io("remove", &folder);
        match root.is_real() {
            true => Netlink::open().and_then(|mut kernel| kernel.remove(self.index)).map_err(failed),
            false => std::fs::remove_dir_all(root.path(&folder)).map_err(failed),
        }
    }

    /// Makes one below a root where no kernel does.
    pub fn make_fake(root: &Root, name: &str, address: &str, parent: Option<u32>) -> Result<(), FileError> {
        let folder = Self::folder(name);
        let others = root.names("/sys/class/net");
        let highest = others.iter().filter_map(|other| Some(Self::read(root, other)?.index)).max();
        let index = highest.unwrap_or_default() + 1;
        let write = |file: &str, text: String| std::fs::write(root.path(folder.join(file)), text);
        std::fs::create_dir_all(root.path(&folder))
            .and_then(|()| write("ifindex", index.to_string()))
            .and_then(|()| write("address", address.to_owned()))
            .and_then(|()| write("iflink", parent.unwrap_or(index).to_string()))
            .map_err(FileError::io("make", &folder))
    }

    /// Whether one is there, for a rehearsal.
    pub fn observe(root: &Root, name: &str) -> Observed {
        let is_there = if Self::read(root, name).is_some() { "there" } else { "absent" };
        Observed::new(format!("network interface {name}"), is_there)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "another network interface, of the address {}", self.address)
    }
}
