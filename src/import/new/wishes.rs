//! What somebody wants who has no machine file yet, and what comes of it.

use std::path::{Path, PathBuf};

use crate::machine::{Display, Guest};
use crate::units::{PciAddress, Size};

/// What the machine is to be.
#[derive(Debug, Clone)]
pub struct Wishes {
    /// Its name.
    pub name: String,
    /// Its family.
    pub guest: Guest,
    /// The graphics card that the guest gets, by its first function; `None`: an emulated screen.
    pub card: Option<PciAddress>,
    /// Its disk.
    pub disk: NewDisk,
    /// The CD of the installation.
    pub setup: Option<PathBuf>,
    /// The CD with virtio's drivers for Windows.
    pub drivers: Option<PathBuf>,
    /// How an emulated screen is shown.
    pub display: Display,
}

/// The disk of a new machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewDisk {
    /// An image of this size, which is made at the first start.
    Create(Size),
    /// An image or a block device that is there.
    There(PathBuf),
}

/// The files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposed {
    /// The machine file.
    pub machine: String,
    /// The variation of it that the guest is installed with.
    pub installation: Option<String>,
}

/// Where the file for the installation is: beside the machine's.
pub fn installation_beside(path: &Path) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{stem}-install.ron"))
}
