//! The host's CPUs as groups in groups, with what runs on them: what both pictures and `--json` show.

use serde::Serialize;

use crate::host::CoreKind;
use crate::plan::Placement;
use crate::units::{CpuSet, Size};

/// The host's CPUs, and the machines that are drawn into them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Map {
    /// The processor's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// CPUs that the scheduler leaves alone.
    #[serde(skip_serializing_if = "CpuSet::is_empty")]
    pub isolated: CpuSet,
    /// CPUs that are online and that this process may not run on.
    #[serde(skip_serializing_if = "CpuSet::is_empty")]
    pub forbidden: CpuSet,
    /// All of them; its size is the host's memory.
    pub host: Group,
    /// NUMA nodes that have memory and no CPUs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub memory_only: Vec<MemoryNode>,
    /// The machines, in the order that they are told in.
    pub machines: Vec<Shown>,
}

/// A NUMA node without CPUs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemoryNode {
    /// Its number.
    pub node: u32,
    /// Its memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
}

/// What a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupKind {
    /// All CPUs.
    Host,
    /// A package (socket).
    Package,
    /// A die that neither a node nor a level 3 cache tells.
    Die,
    /// A NUMA node.
    Node,
    /// A level 3 cache.
    L3,
}

/// CPUs that are or have something together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// What it is.
    pub kind: GroupKind,
    /// Its number, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// How much memory or cache it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// Its CPUs.
    pub cpus: CpuSet,
    /// The devices that are attached to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Groups in it, by their first CPU.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
    /// Cores that are in none of these groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<Module>,
}

/// Cores that share a level 2 cache; mostly one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Module {
    /// The size of that cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l2: Option<Size>,
    /// The cores, by their first CPU.
    pub cores: Vec<Core>,
}

/// One core.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Core {
    /// The kernel's `core_id`.
    pub number: u32,
    /// Which kind it is.
    pub kind: CoreKind,
    /// Its threads, by CPU.
    pub threads: Vec<Thread>,
}

/// One CPU.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Thread {
    /// Its number.
    pub cpu: u32,
    /// Whether the scheduler leaves it alone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub isolated: bool,
    /// Whether this process may not run on it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub forbidden: bool,
    /// Which threads of machines run on it, by machine.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uses: Vec<Use>,
}

/// What of one machine runs on a CPU.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Use {
    /// Its place among the machines.
    #[serde(skip)]
    pub index: usize,
    /// The machine's name.
    pub machine: String,
    /// The numbers of the vCPUs; empty if it is known only that some run here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<CpuSet>,
    /// Whether QEMU's main thread, its workers and the helpers run here.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub emulator: bool,
    /// Whether I/O threads run here.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub iothreads: bool,
}

/// A device at its node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Device {
    /// Its address: `0000:01:00.0`, or `0000:01:00.*` for several functions of it.
    pub address: String,
    /// What it is called.
    pub name: String,
    /// Its NUMA node, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<u32>,
    /// The machine that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
}

/// A machine that is drawn.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shown {
    /// Its name.
    pub name: String,
    /// Whether it runs; else a start would place it like this.
    pub runs: bool,
    /// Whether each vCPU has a CPU of its own.
    pub pinned: bool,
    /// Whether `vcpus` is in the order of the vCPUs' numbers.
    #[serde(skip)]
    pub numbered: bool,
    /// The CPUs of each vCPU.
    pub vcpus: Vec<CpuSet>,
    /// The CPUs of QEMU's main thread, its workers and the helpers, if they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emulator: Option<CpuSet>,
    /// The CPUs of the I/O threads, by their ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub iothreads: Vec<(String, CpuSet)>,
    /// Why the vCPUs have these CPUs, if the program chose them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Shown {
    /// A machine whose placement is known.
    pub fn of(name: &str, runs: bool, placement: &Placement) -> Self {
        Self {
            name: name.to_owned(),
            runs,
            pinned: placement.pinned,
            numbered: true,
            vcpus: placement.vcpus.clone(),
            emulator: Some(placement.emulator.clone()),
            iothreads: placement.iothreads.clone(),
            why: placement.why.as_ref().map(ToString::to_string),
        }
    }

    /// A machine that runs, of which only the CPUs of its pinned vCPUs are known.
    pub fn unnumbered(name: &str, cpus: &CpuSet) -> Self {
        Self {
            name: name.to_owned(),
            runs: true,
            pinned: true,
            numbered: false,
            vcpus: cpus.iter().map(|cpu| CpuSet::from_iter([cpu])).collect(),
            emulator: None,
            iothreads: Vec::new(),
            why: None,
        }
    }

    /// The CPUs of its I/O threads.
    pub fn io_cpus(&self) -> CpuSet {
        self.iothreads.iter().flat_map(|(_, cpus)| cpus.iter()).collect()
    }
}

impl Thread {
    /// Whether more vCPUs than one run here, and wait for each other.
    pub fn is_shared(&self) -> bool {
        let vcpus = self.uses.iter().filter_map(|one| one.vcpus.as_ref());
        vcpus.map(|vcpus| vcpus.len().max(1)).sum::<usize>() > 1
    }
}

impl Group {
    /// All cores in it.
    pub fn cores(&self) -> Vec<&Core> {
        let below = self.groups.iter().flat_map(Group::cores);
        below.chain(self.modules.iter().flat_map(|module| &module.cores)).collect()
    }

    /// How many groups of a kind are in it.
    pub fn count(&self, kind: GroupKind) -> usize {
        self.groups.iter().map(|group| usize::from(group.kind == kind) + group.count(kind)).sum()
    }
}

impl Map {
    /// Whether a core is of another kind than others.
    pub fn is_mixed(&self) -> bool {
        self.host.cores().iter().any(|core| core.kind != CoreKind::Uniform)
    }
}
