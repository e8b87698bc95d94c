//! Each thing that can be done to a host, with its undo and its read-back. A change is data; what it found before it was
//! made is data too, so that undoing needs nothing but the journal.

mod huge_pages;
mod own;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::units::Size;

/// One thing that can be done to a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Write a value to a file under /sys or /proc.
    Write {
        /// The file.
        path: PathBuf,
        /// The value, as it reads back.
        value: String,
    },
    /// Make a file or device node QEMU's own for the run.
    Own {
        /// The file or node.
        path: PathBuf,
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
    /// Reserve huge pages on a NUMA node, so that so many are free.
    HugePages {
        /// NUMA node.
        node: u32,
        /// Size of one page.
        size: Size,
        /// How many must be free.
        pages: u64,
    },
}
