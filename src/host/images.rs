//! The files that a machine names: do they exist, what are they, who may open them.

use serde::{Deserialize, Serialize};

use crate::machine::DiskFormat;

/// One file as it is on the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileFact {
    /// What it is; `None` where it does not exist.
    pub kind: Option<FileKind>,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Permission bits, `0o644`.
    pub mode: u32,
    /// Size in bytes; of a block device, its capacity.
    pub size: u64,
    /// Image format read from the header: qcow2 by its magic, else raw. `None` where it could not be read.
    pub format: Option<DiskFormat>,
    /// Whether O_DIRECT works there (tmpfs before Linux 6.6 refuses it). `None` where it could not be tried.
    pub direct_io: Option<bool>,
    /// Where a block device, or a partition of it, is mounted or used as swap.
    pub mounted: Vec<String>,
    /// The folder on the way to the file that others may not enter (no `x` for others), with its owner's uid.
    pub closed_folder: Option<(std::path::PathBuf, u32)>,
}

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A block device.
    Block,
    /// A character device.
    Character,
    /// A folder, socket or anything else that is no image.
    Other,
}
