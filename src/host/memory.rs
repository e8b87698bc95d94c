//! Memory and huge pages by NUMA node.
//! Source: `Documentation/admin-guide/mm/hugetlbpage.rst`, `Documentation/ABI/stable/sysfs-devices-node`.

use serde::{Deserialize, Serialize};

use super::Root;
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
    /// The nodes that this process may have memory of, if its cpuset leaves out some that have memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<CpuSet>,
    /// Of which shared memory the kernel makes transparent huge pages, in its word: `never`, `advise`, ….
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub huge_shared: Option<String>,
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

/// Where NUMA nodes live in sysfs.
const NODES: &str = "/sys/devices/system/node";
/// Where the pools of a host without NUMA live.
const POOLS: &str = "/sys/kernel/mm/hugepages";
/// The kernel has at most 1024 nodes on x86 (`CONFIG_NODES_SHIFT` 10).
const MAX_NODES: u32 = 1024;
/// A node that can't be reached, in the ACPI SLIT.
const UNREACHABLE: u32 = 255;

impl Memory {
    /// Where the kernel says, and is told, of which shared memory it makes transparent huge pages.
    pub const HUGE_SHARED: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";

    /// Reads memory and pools; `cpuset` are the nodes of this process's cpuset.
    pub(super) fn read(root: &Root, cpuset: Option<&CpuSet>) -> Self {
        let info = root.text_up_to("/proc/meminfo", 16 << 10).unwrap_or_default();
        let (total, available) = (amount(&info, "MemTotal"), amount(&info, "MemAvailable"));
        let ids: Vec<u32> = node_ids(root);
        let nodes = if ids.is_empty() {
            // A kernel without CONFIG_NUMA.
            vec![Node {
                id: 0,
                cpus: root.list("/sys/devices/system/cpu/online").unwrap_or_default(),
                total,
                free: amount(&info, "MemFree"),
                distances: vec![10],
                huge_pages: read_pools(root, POOLS),
            }]
        } else {
            ids.iter().map(|&id| read_node(root, id, &ids)).collect()
        };
        let choices = root.text(Self::HUGE_SHARED).unwrap_or_default();
        let huge_shared = choices.split_ascii_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
        // The kernel leaves nodes without memory out of every cpuset.
        let closed = |allowed: &CpuSet| nodes.iter().any(|node: &Node| node.has_memory() && !allowed.contains(node.id));
        let allowed = cpuset.filter(|allowed| closed(allowed)).cloned();
        Self { total, available, nodes, allowed, huge_shared: huge_shared.map(str::to_owned) }
    }

    /// How far a node is from another; 10 is itself. If the firmware does not say, others are 20, as the kernel has it.
    pub fn distance(&self, from: u32, to: u32) -> u32 {
        let listed = self.nodes.iter().find(|node| node.id == from).and_then(|node| node.distances.get(to as usize));
        listed.copied().unwrap_or(if from == to { 10 } else { 20 })
    }

    /// Whether a guest of this process can have memory of the node.
    pub fn gives(&self, node: &Node) -> bool {
        node.has_memory() && self.allowed.as_ref().is_none_or(|allowed| allowed.contains(node.id))
    }

    /// How much these nodes have together, by an amount that each has; `None` if one of them does not say.
    pub fn of_nodes(&self, nodes: &CpuSet, amount: impl Fn(&Node) -> Option<Size>) -> Option<Size> {
        let mut these = self.nodes.iter().filter(|node| nodes.contains(node.id));
        these.try_fold(0u64, |sum, node| Some(sum.saturating_add(amount(node)?.as_bytes()))).map(Size::bytes)
    }

    /// Where memory for this node's CPUs comes from: the node itself, else the nearest that gives some.
    pub fn home(&self, node: u32) -> Option<u32> {
        let givers = self.nodes.iter().filter(|other| self.gives(other));
        givers.map(|other| other.id).min_by_key(|id| (*id != node, self.distance(node, *id), *id))
    }
}

impl Node {
    /// Whether it has memory, as far as is known. Some nodes are CPUs alone.
    pub fn has_memory(&self) -> bool {
        self.total.is_none_or(|total| total > Size::bytes(0))
    }
}

/// The nodes that are online, ascending.
fn node_ids(root: &Root) -> Vec<u32> {
    let online = root.list(format!("{NODES}/online")).unwrap_or_else(|| {
        root.names(NODES).iter().filter_map(|name| name.strip_prefix("node")?.parse().ok()).collect()
    });
    online.iter().filter(|id| *id < MAX_NODES).collect()
}

/// One node; `ids` are all nodes that are online, in which order the kernel lists distances.
fn read_node(root: &Root, id: u32, ids: &[u32]) -> Node {
    let folder = format!("{NODES}/node{id}");
    let info = root.text_up_to(format!("{folder}/meminfo"), 16 << 10).unwrap_or_default();
    let listed: Option<Vec<u32>> = root
        .text_up_to(format!("{folder}/distance"), 16 << 10)
        .unwrap_or_default()
        .split_ascii_whitespace()
        .map(|distance| distance.parse().ok())
        .collect();
    let mut distances = Vec::new();
    if let Some(listed) = listed.filter(|listed| listed.len() == ids.len()) {
        distances = vec![UNREACHABLE; ids.last().map_or(0, |last| *last as usize + 1)];
        for (id, distance) in ids.iter().zip(listed) {
            distances[*id as usize] = distance;
        }
    }
    Node {
        id,
        cpus: root.list(format!("{folder}/cpulist")).unwrap_or_default(),
        total: amount(&info, "MemTotal"),
        free: amount(&info, "MemFree"),
        distances,
        huge_pages: read_pools(root, &format!("{folder}/hugepages")),
    }
}

/// The pools below a folder, by ascending page size.
fn read_pools(root: &Root, folder: &str) -> Vec<HugePages> {
    let mut pools: Vec<_> = root
        .names(folder)
        .iter()
        .take(16)
        .filter_map(|name| {
            let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let pages = |what: &str| root.parse::<u64>(format!("{folder}/{name}/{what}_hugepages"));
            Some(HugePages {
                size: Size::bytes(kib.checked_mul(Size::KIB)?),
                total: pages("nr")?,
                free: pages("free")?,
                surplus: pages("surplus").unwrap_or(0),
            })
        })
        .collect();
    pools.sort_by_key(|pool| pool.size);
    pools
}

/// What a line such as `MemTotal: 24684096 kB` says, or the same with `Node 0 ` before it.
pub(super) fn amount(info: &str, name: &str) -> Option<Size> {
    let value = info.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.rsplit(' ').next() == Some(name)).then_some(value)
    })?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(Size::bytes(kib.checked_mul(Size::KIB)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::sample_tree;

    #[test]
    fn nodes_with_holes_keep_their_distances_by_number() {
        let folder = sample_tree::tree(&[
            ("proc/meminfo", "MemTotal:       16 kB\nMemFree: 1 kB\nMemAvailable:    8 kB\n"),
            ("sys/devices/system/node/online", "0,2\n"),
            ("sys/devices/system/node/node0/cpulist", "0-3\n"),
            ("sys/devices/system/node/node0/distance", "10 21\n"),
            ("sys/devices/system/node/node0/meminfo", "Node 0 MemTotal:  8 kB\nNode 0 MemFree: 4 kB\n"),
            ("sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", "5\n"),
            ("sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages", "2\n"),
            ("sys/devices/system/node/node0/hugepages/hugepages-1048576kB/nr_hugepages", "1\n"),
            ("sys/devices/system/node/node2/cpulist", "\n"),
            ("sys/devices/system/node/node2/distance", "21 10\n"),
        ]);
        let memory = Memory::read(&Root::new(folder.path()), None);
        assert_eq!(memory.available, Some(Size::bytes(8 << 10)));
        assert_eq!(memory.nodes[0].distances, [10, 255, 21]);
        assert_eq!(memory.nodes[0].free, Some(Size::bytes(4 << 10)));
        assert_eq!(
            memory.nodes[0].huge_pages,
            [HugePages { size: Size::bytes(2 << 20), total: 5, free: 2, surplus: 0 }]
        );
        assert_eq!((memory.nodes[1].id, memory.nodes[1].total), (2, None));
        let allowed = |nodes: &str| Memory::read(&Root::new(folder.path()), Some(&nodes.parse().unwrap())).allowed;
        assert_eq!(allowed("2").unwrap().to_string(), "2");
        assert_eq!(allowed("0,2"), None);
    }

    #[test]
    fn a_host_without_numa_has_node_0() {
        let folder = sample_tree::tree(&[
            ("proc/meminfo", "MemTotal: 16 kB\nMemFree: 8 kB\n"),
            ("sys/devices/system/cpu/online", "0-3\n"),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "0\n"),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "0\n"),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/surplus_hugepages", "0\n"),
        ]);
        let memory = Memory::read(&Root::new(folder.path()), None);
        assert_eq!(memory.nodes.len(), 1);
        assert_eq!(memory.nodes[0].cpus.to_string(), "0-3");
        assert_eq!(memory.nodes[0].huge_pages.len(), 1);
    }

    #[test]
    fn nonsense_is_unknown() {
        let folder = sample_tree::tree(&[
            ("proc/meminfo", "MemTotal: 18446744073709551615 kB\nMemAvailable: -1 kB\n\u{0}:\u{0}"),
            ("sys/devices/system/node/online", "0,8000\n"),
            ("sys/devices/system/node/node0/distance", "10 x 30"),
            ("sys/devices/system/node/node0/hugepages/hugepages-99999999999999999999kB/nr_hugepages", "1"),
            ("sys/devices/system/node/node0/hugepages/junk/nr_hugepages", "1"),
        ]);
        let memory = Memory::read(&Root::new(folder.path()), None);
        assert_eq!((memory.total, memory.available, memory.nodes.len()), (None, None, 1));
        assert_eq!((&memory.nodes[0].distances, &memory.nodes[0].huge_pages), (&vec![], &vec![]));
    }
}
