//! Make a macvtap device: a network interface on another, with an address and a tap device of its own. It stays when its last
//! descriptor closes, so it is a change.
//! Source: the kernel's `drivers/net/macvlan.c` and `drivers/net/macvtap.c`.

use std::fmt;
use std::io::{Error, ErrorKind};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::found::{Found, Link};
use crate::change::error::{ChangeError, FileError};
use crate::change::record::Undone;
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::host::Root;
use crate::netlink::{self, Netlink};

/// Make a macvtap device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Macvtap {
    /// Its name.
    pub name: String,
    /// The interface that it is made on.
    pub parent: String,
    /// How it passes packets on.
    pub mode: MacvtapMode,
    /// Its MAC address, which is the guest's too.
    pub address: String,
}

/// How a macvtap device passes packets on (`linux/if_link.h`, `enum macvlan_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MacvtapMode {
    /// To the devices on the same interface directly.
    Bridge,
    /// Always to the switch outside.
    Vepa,
    /// Never to the devices on the same interface.
    Private,
    /// It is the only device on the interface, and has its address.
    Passthru,
}

impl MacvtapMode {
    fn number(self) -> u32 {
        match self {
            Self::Private => 1,
            Self::Vepa => 2,
            Self::Bridge => 4,
            Self::Passthru => 8,
        }
    }
}

impl Step for Macvtap {
    type Before = Found;

    fn nature(&self) -> Nature {
        Nature::PREPARES
    }

    fn capture(&self, root: &Root) -> Result<Found, ChangeError> {
        Ok(Found::of(root, &self.name))
    }

    fn apply(&self, root: &Root, before: &Found, _: Progress<'_>) -> Result<(), ChangeError> {
        let folder = Link::folder(&self.name);
        let failed = FileError::io("make", &folder);
        if before.index.is_some() {
            return Err(failed(ErrorKind::AlreadyExists.into()).into());
        }
        let Some(parent) = Link::read(root, &self.parent) else {
            return Err(FileError::io("read", &Link::folder(&self.parent))(ErrorKind::NotFound.into()).into());
        };
        let address = netlink::mac(&self.address).ok_or_else(|| failed(ErrorKind::InvalidInput.into()))?;
        if !root.is_real() {
            return Ok(Link::make_fake(root, &self.name, &self.address, Some(parent.index))?);
        }
        let link = netlink::Link::default().name(&self.name).address(address).up();
        Netlink::open()
            .and_then(|mut kernel| kernel.make(link.macvtap(parent.index, self.mode.number())))
            .map_err(&failed)?;
        match Link::read(root, &self.name) {
            Some(made) if self.is_ours(root, &made) => Ok(()),
            _ => Err(failed(Error::other("it is not there as it was made")).into()),
        }
    }

    /// Removes it if it is the one that was made: a device that was there before, or that has another address or is on
    /// another interface, is somebody else's.
    fn undo(&self, root: &Root, before: &Found) -> Result<Undone, ChangeError> {
        let Some(link) = Link::read(root, &self.name).filter(|link| before.index != Some(link.index)) else {
            return Ok(Undone::AlreadyBack);
        };
        if !self.is_ours(root, &link) {
            return Ok(Undone::NotOurs { found: link.to_string() });
        }
        link.remove(root, &self.name)?;
        Ok(Undone::Restored)
    }

    fn lock_files(&self, _: &Found) -> Vec<PathBuf> {
        Vec::new()
    }

    fn observe(&self, root: &Root) -> Vec<Observed> {
        vec![Link::observe(root, &self.name)]
    }
}

impl Macvtap {
    /// Whether this is the device that the change makes. In the mode `Passthru` the kernel gives it its parent's address.
    fn is_ours(&self, root: &Root, link: &Link) -> bool {
        // An interface on nothing has its own number there; the parent may be gone, and the device with it.
        let parent = Link::read(root, &self.parent).map(|parent| parent.index);
        link.address.eq_ignore_ascii_case(&self.address) && link.parent.is_some() && link.parent == parent
    }
}

impl fmt::Display for Macvtap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "make the macvtap device {} on {}", self.name, self.parent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::unattended;

    #[test]
    fn a_device_that_somebody_else_made_meanwhile_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        Link::make_fake(&root, "eth0", "52:54:00:00:00:01", None).unwrap();
        let address = "52:54:00:00:00:02".to_owned();
        let change =
            Macvtap { name: "vfio-0-0".to_owned(), parent: "eth0".to_owned(), mode: MacvtapMode::Bridge, address };
        let before = change.capture(&root).unwrap();
        assert_eq!(before, Found { index: None });
        change.apply(&root, &before, &unattended).unwrap();
        assert_eq!(change.undo(&root, &before).unwrap(), Undone::Restored);
        assert_eq!(change.undo(&root, &before).unwrap(), Undone::AlreadyBack);

        // The name is another's now.
        Link::make_fake(&root, "vfio-0-0", "52:54:00:00:00:03", Some(2)).unwrap();
        let undone = change.undo(&root, &before).unwrap();
        assert!(matches!(&undone, Undone::NotOurs { found } if found.contains("52:54:00:00:00:03")), "{undone:?}");
        // One that was there before is never ours, whatever it looks like.
        let there = change.capture(&root).unwrap();
        assert!(there.index.is_some());
        assert!(change.apply(&root, &there, &unattended).is_err());
        assert_eq!(change.undo(&root, &there).unwrap(), Undone::AlreadyBack);
    }
}
