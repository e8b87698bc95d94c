//! The guest's memory as a file that the launcher makes and fills, before anything is taken from the host: once the screen is
//! gone nobody waits for the kernel to clear pages, and a shortage shows while the screen is still there.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::units::{CpuSet, Size};

/// A file in memory that is the guest's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestMemory {
    /// The size of its huge pages; `None`: normal pages, which the kernel makes into transparent huge pages if it can.
    pub pages: Option<Size>,
    /// Whether normal pages will do if huge ones are short.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub or_normal: bool,
    /// Its parts, in the order of the guest's addresses.
    pub parts: Vec<MemoryPart>,
}

/// A part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPart {
    /// Its size.
    pub size: Size,
    /// The host's NUMA nodes that it comes from; empty: any.
    pub nodes: CpuSet,
}

impl GuestMemory {
    /// The size of all of it, in bytes.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.size.as_bytes()).sum()
    }
}

impl fmt::Display for MemoryPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.nodes.is_empty() {
            true => write!(f, "{}", self.size),
            false => write!(f, "{} on NUMA node {}", self.size, self.nodes),
        }
    }
}

impl fmt::Display for GuestMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.parts.iter().map(MemoryPart::to_string).collect();
        write!(f, "{}", parts.join(", "))?;
        match self.pages {
            Some(size) if self.or_normal => write!(f, ", in pages of {size} if there are enough"),
            Some(size) => write!(f, ", in pages of {size}"),
            None => Ok(()),
        }
    }
}
