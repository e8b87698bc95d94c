//! What a machine wants of the host's CPUs.

use super::super::draft::Draft;
use super::cores::{Core, Cores};
use crate::host::{CoreKind, Memory};
use crate::machine::{CoreWish, Pin, Prefer};
use crate::units::Size;

/// What a machine wants of the host's CPUs.
pub(super) struct Wish<'a> {
    /// How many vCPUs.
    pub count: usize,
    /// The guest's memory.
    pub size: Size,
    /// The host's memory.
    pub memory: &'a Memory,
    /// Whether the vCPUs are to be on efficiency cores.
    pub efficient: bool,
    /// What is worth more where caches and clocks differ.
    pub prefer: Prefer,
    /// How many cores of the vCPUs' kind the host keeps.
    pub leave: usize,
    /// The NUMA nodes of the devices that the guest is given.
    pub devices: Vec<u32>,
}

/// vCPUs of a machine that says nothing of CPUs and has no devices.
const DEFAULT_VCPUS: usize = 2;
/// Nobody gets more vCPUs without asking for them.
const MOST_UNASKED: usize = 64;

impl<'a> Wish<'a> {
    /// Reads it off the machine.
    pub fn of(draft: &Draft<'a>, cores: &Cores) -> Self {
        let (machine, cpu) = (draft.machine, &draft.machine.cpu);
        let mut wish = Self {
            count: DEFAULT_VCPUS,
            size: machine.memory.size,
            memory: &draft.host.memory,
            efficient: cpu.cores == Some(CoreWish::Efficiency) && cores.list().iter().any(Core::efficient),
            prefer: cpu.prefer.unwrap_or(Prefer::Cache),
            leave: cpu.leave.map_or(0, |leave| leave as usize),
            devices: device_nodes(draft),
        };
        let pins = cpu.pin.as_ref().map(Pin::len).filter(|pins| *pins > 0);
        wish.count = match (cpu.vcpus, pins) {
            (Some(vcpus), _) => vcpus.max(1) as usize,
            (None, Some(pins)) => pins,
            (None, None) if cpu.leave.is_some() || cpu.cores.is_some() => {
                wish.most(cores, cpu.leave.map_or(1, |leave| leave as usize)).unwrap_or(DEFAULT_VCPUS)
            }
            (None, None) if !machine.pci.is_empty() => {
                wish.most(cores, 1).map_or(DEFAULT_VCPUS, |n| n.min(MOST_UNASKED))
            }
            (None, None) => DEFAULT_VCPUS,
        };
        wish
    }

    /// How far from the wanted kind a core is: 0 is that kind.
    pub fn rank(&self, core: &Core) -> u8 {
        match (core.kind, self.efficient) {
            (CoreKind::LowPower, _) => 2,
            (CoreKind::Efficiency, efficient) => u8::from(!efficient),
            (_, efficient) => u8::from(efficient),
        }
    }

    /// The threads of all cores of the wanted kind in one NUMA node but those that are left to the host. The node is that of
    /// the devices, else the one with the most.
    fn most(&self, cores: &Cores, leave: usize) -> Option<usize> {
        let mut nodes: std::collections::BTreeMap<Option<u32>, Vec<&Core>> = std::collections::BTreeMap::new();
        for core in cores.list().iter().filter(|core| self.rank(core) == 0 && !core.taken) {
            nodes.entry(core.node).or_default().push(core);
        }
        let near = |node: &Option<u32>| node.is_some_and(|node| self.devices.contains(&node));
        let (_, mut members) = nodes.into_iter().max_by_key(|(node, members)| (near(node), members.len()))?;
        members.sort_by_key(|core| core.zero);
        members.truncate(members.len().saturating_sub(leave));
        Some(members.iter().map(|core| core.threads.len()).sum()).filter(|threads| *threads > 0)
    }
}

/// The NUMA nodes of the guest's graphics cards, else of all its devices.
fn device_nodes(draft: &Draft) -> Vec<u32> {
    let functions = draft.host.pci.iter().flat_map(|pci| &pci.functions);
    let given =
        functions.filter(|function| draft.machine.pci.iter().any(|entry| entry.address.contains(function.address)));
    let nodes = given.filter_map(|function| Some((function.is_gpu(), function.details.as_ref()?.numa_node?)));
    let (cards, others): (Vec<_>, Vec<_>) = nodes.partition(|(is_gpu, _)| *is_gpu);
    let mut nodes: Vec<u32> = if cards.is_empty() { others } else { cards }.into_iter().map(|(_, node)| node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}
