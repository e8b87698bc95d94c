//! The guest's memory and the pages that back it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::machine::problems::Problems;
use crate::machine::subject::Subject;
use crate::units::{CpuSet, Size};

/// Physical addresses on x86 have at most 52 bits.
const MAX_MEMORY: u64 = 1 << 52;
/// The kernel's limit on NUMA nodes (`MAX_NUMNODES`).
const MAX_NODE: u32 = 1023;

/// The guest's memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Its size, in whole MiB: `"16 GiB"`.
    pub size: Size,
    /// The pages that back it. Default `Normal`: pages of 4 KiB and transparent huge pages.
    #[serde(default)]
    pub pages: Pages,
    /// The host's NUMA nodes that it comes from: `"0,1"`. Default: if the host has several, those of the vCPUs' CPUs, and the
    /// nearest to them if they have none or too little.
    #[serde(default)]
    pub nodes: Option<CpuSet>,
    /// Who knows of the host's NUMA nodes, if the vCPUs are on several. `Guest`: the guest has as many nodes, each with the vCPUs
    /// of one, memory for them that is near, and the host's distances; each vCPU must have a CPU of its own. Default: `Host`,
    /// the memory comes from all nodes in turn.
    #[serde(default)]
    pub numa: Option<Numa>,
    /// Whether helper processes can map it, as virtiofsd must. Default: with `shares` that need it, and with devices in
    /// `pci` if the kernel can make huge pages of shared memory too; memory of huge pages always is.
    #[serde(default)]
    pub shared: Option<bool>,
    /// Whether the guest has a memory balloon (`virtio-balloon`): it gives pages that it does not use back to the host, and
    /// `balloon` over QMP takes more from it. Default: no. A guest with devices in `pci`, or with huge pages, has none: all
    /// of its memory stays in place.
    #[serde(default)]
    pub balloon: bool,
    /// Whether the kernel may merge its pages with equal ones of other programs, if the host has KSM running. Default: yes,
    /// which is QEMU's. A guest that writes to a merged page waits for a copy.
    #[serde(default)]
    pub merge: Option<bool>,
    /// Whether all of it, and all of QEMU's own memory, is locked: nothing of it is ever swapped out. Default: no. With
    /// devices in `pci` the guest's memory stays in place anyway.
    #[serde(default)]
    pub lock: bool,
    /// Whether a core dump of QEMU holds the guest's memory. Default: no.
    #[serde(default)]
    pub dump: bool,
}

/// Who knows of the host's NUMA nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Numa {
    /// The host alone.
    Host,
    /// The guest too.
    Guest,
}

/// Which pages back the guest's memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Pages {
    /// Pages of 4 KiB, which the kernel makes into transparent huge pages when it can.
    #[default]
    Normal,
    /// Huge pages of 2 MiB if they can be had when the machine starts, else normal ones.
    Auto,
    /// Huge pages of this size, which vfio-run reserves for the run: `Huge("2 MiB")` or `Huge("1 GiB")`.
    Huge(Size),
}

impl Subject for Memory {
    fn check(&self, problems: &mut Problems) {
        let size = self.size;
        let mut refuse = |message: String, allowed: &str| {
            problems.add("memory.size", message).allowed(allowed);
        };
        if size.as_bytes() == 0 || !size.as_bytes().is_multiple_of(Size::MIB) {
            refuse(format!("`memory.size` cannot be {size}"), "whole mebibytes, at least 1 MiB");
        } else if size.as_bytes() > MAX_MEMORY {
            refuse(
                format!("`memory.size` cannot be {size}"),
                "at most 4096 TiB, the limit of x86's physical addresses",
            );
        }
        if let Pages::Huge(page) = self.pages {
            if ![2 * Size::MIB, Size::GIB].contains(&page.as_bytes()) {
                problems
                    .add("memory.pages.Huge", format!("there are no huge pages of {page}"))
                    .allowed("x86 has `Huge(\"2 MiB\")` and `Huge(\"1 GiB\")`");
            } else if !size.as_bytes().is_multiple_of(page.as_bytes()) {
                let below = Size::bytes(size.as_bytes() / page.as_bytes() * page.as_bytes());
                let above = Size::bytes(below.as_bytes() + page.as_bytes());
                let near = if below.as_bytes() == 0 { above.to_string() } else { format!("{below} or {above}") };
                problems
                    .add("memory.size", format!("`memory.size` of {size} is not a whole number of {page} pages"))
                    .allowed(format!("a multiple of {page}, such as {near}"));
            }
        }
        if self.shared == Some(false) && matches!(self.pages, Pages::Huge(_)) {
            problems
                .add("memory.shared", "memory of huge pages is always shared")
                .help("leave `shared` out, or write `pages: Normal`");
        }
        if self.nodes.is_some() && self.numa == Some(Numa::Guest) {
            problems
                .add("memory.nodes", "`memory.nodes` names nodes, but with `numa: Guest` they are those of the vCPUs")
                .help("keep one of the two");
        }
        if let Some(nodes) = &self.nodes {
            if nodes.is_empty() {
                problems
                    .add("memory.nodes", "`memory.nodes` names no node")
                    .help("leave it out to let the placement decide");
            } else if let Some(node) = nodes.iter().next_back().filter(|node| *node > MAX_NODE) {
                problems
                    .add("memory.nodes", format!("there is no NUMA node {node}"))
                    .allowed(format!("0 to {MAX_NODE}, as a list: \"0,1\""));
            }
        }
    }
}
