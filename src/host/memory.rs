//! Memory and huge pages by NUMA node.
//! Source: `Documentation/admin-guide/mm/hugetlbpage.rst`, `Documentation/ABI/stable/sysfs-devices-node`.

use serde::{Deserialize, Serialize};

use crate::units::{CpuSet, Size};

/// The host's memory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// `MemTotal`.
    pub total: Option<Size>,
    /// `MemAvailable`.
    pub available: Option<Size>,
    /// Each NUMA node; a host without NUMA has the one node 0.
    pub nodes: Vec<Node>,
}

/// One NUMA node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its number.
    pub id: u32,
    /// Its CPUs.
    pub cpus: CpuSet,
    /// Its memory.
    pub total: Option<Size>,
    /// Its free memory.
    pub free: Option<Size>,
    /// Distance to each node, by number; 10 is itself (ACPI SLIT).
    pub distances: Vec<u32>,
    /// Its pools of huge pages, one for each size that the kernel offers.
    pub huge_pages: Vec<HugePages>,
}

/// A pool of huge pages of one size on one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HugePages {
    /// Size of one page.
    pub size: Size,
    /// Pages in the pool (`nr_hugepages`).
    pub total: u64,
    /// Pages of the pool that nobody uses (`free_hugepages`).
    pub free: u64,
    /// Pages beyond the pool that go away when they are freed (`surplus_hugepages`).
    pub surplus: u64,
}
