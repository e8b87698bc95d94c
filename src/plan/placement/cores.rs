//! The host's CPUs as a placement sees them: cores with their usable threads, each in the domain of its last-level cache.
//! Built once per plan, so that every later question is a look-up even on a host with hundreds of CPUs.

use std::collections::BTreeMap;

use crate::host::{CoreKind, Cpus};
use crate::machine::Topology;
use crate::units::CpuSet;

/// One core.
#[derive(Debug)]
pub(super) struct Core {
    /// Its threads that QEMU may run on, ascending.
    pub threads: Vec<u32>,
    /// Whether these are all of its threads that are online.
    pub whole: bool,
    /// Number of its last-level cache.
    pub domain: usize,
    /// NUMA node.
    pub node: u32,
    /// Whether it is an efficiency core.
    pub efficient: bool,
    /// Whether CPU 0 is one of its threads: the kernel's own work and most interrupts are there.
    pub zero: bool,
    /// Whether all its threads are isolated from the scheduler.
    pub isolated: bool,
}

/// The cores that QEMU may run on.
#[derive(Debug)]
pub(super) struct Cores {
    usable: CpuSet,
    isolated: CpuSet,
    list: Vec<Core>,
    /// Core of each usable CPU.
    of: BTreeMap<u32, usize>,
    /// Size in bytes of each last-level cache; 0 if it is not known.
    domains: Vec<u64>,
}

impl Cores {
    /// Reads them off the host's facts. CPUs that are online and allowed count; if it is not known which are allowed, all
    /// that are online do.
    pub fn new(cpus: &Cpus) -> Self {
        let usable = match cpus.allowed.is_empty() {
            true => cpus.online.clone(),
            false => cpus.online.intersection(&cpus.allowed),
        };
        let (domain_of, domains) = domains(cpus);
        let mut list: Vec<Core> = Vec::new();
        let mut of = BTreeMap::new();
        for cpu in &cpus.list {
            if !usable.contains(cpu.id) || of.contains_key(&cpu.id) {
                continue;
            }
            let mut threads: Vec<u32> = cpu.siblings.iter().filter(|id| usable.contains(*id)).collect();
            if !threads.contains(&cpu.id) {
                // The kernel says nothing of siblings: the CPU is a core of its own.
                threads = vec![cpu.id];
            }
            of.extend(threads.iter().map(|id| (*id, list.len())));
            let online_siblings = cpu.siblings.iter().filter(|id| cpus.online.contains(*id)).count();
            list.push(Core {
                whole: threads.len() >= online_siblings,
                domain: domain_of.get(&cpu.id).copied().unwrap_or(0),
                node: cpu.node,
                efficient: cpu.kind == CoreKind::Efficiency,
                zero: cpu.siblings.contains(0) || cpu.id == 0,
                isolated: threads.iter().all(|id| cpus.isolated.contains(*id)),
                threads,
            });
        }
        Self { usable, isolated: cpus.isolated.clone(), list, of, domains }
    }

    /// The CPUs that QEMU may run on.
    pub fn usable(&self) -> &CpuSet {
        &self.usable
    }

    /// The cores, in the order of their first thread.
    pub fn list(&self) -> &[Core] {
        &self.list
    }

    /// The core that a usable CPU is a thread of.
    pub fn core(&self, cpu: u32) -> Option<&Core> {
        self.of.get(&cpu).map(|i| &self.list[*i])
    }

    /// Size in bytes of a domain's cache.
    pub fn cache_size(&self, domain: usize) -> u64 {
        self.domains.get(domain).copied().unwrap_or(0)
    }

    /// The CPUs for threads that have none of their own: all but the isolated ones, which nobody balances.
    pub fn shared(&self) -> CpuSet {
        let shared = self.usable.difference(&self.isolated);
        if shared.is_empty() { self.usable.clone() } else { shared }
    }

    /// The CPUs in the order that vCPUs take them: domain by domain, core by core, siblings adjacent.
    pub fn ordered(&self, cpus: &CpuSet) -> Vec<u32> {
        let mut ordered: Vec<u32> = cpus.iter().filter(|cpu| self.of.contains_key(cpu)).collect();
        ordered.sort_by_key(|cpu| {
            let core = self.of[cpu];
            (self.list[core].node, self.list[core].domain, core, *cpu)
        });
        ordered
    }

    /// The topology that a guest on these CPUs has, which are in [`Self::ordered`]'s order; and whether it is the truth,
    /// each guest core one whole core of the host.
    pub fn topology(&self, cpus: &[u32]) -> (Topology, bool) {
        let mut by_core: BTreeMap<usize, usize> = BTreeMap::new();
        for cpu in cpus {
            *by_core.entry(self.of[cpu]).or_default() += 1;
        }
        let threads = by_core.values().copied().next().unwrap_or(1);
        let even = by_core.values().all(|n| *n == threads);
        let whole = by_core.iter().all(|(core, n)| self.list[*core].whole && self.list[*core].threads.len() == *n);
        // A core that the guest has only half of is shown as a core of one thread: the other half is not the guest's.
        let threads = if even { threads } else { 1 };
        let cores = cpus.len() / threads;
        let mut by_domain: BTreeMap<usize, usize> = BTreeMap::new();
        for core in by_core.keys() {
            *by_domain.entry(self.list[*core].domain).or_default() += 1;
        }
        // QEMU's dies share one L3 each, so domains of equal size are dies; unequal ones can't be expressed.
        let dies = by_domain.len();
        let equal = even && by_domain.values().all(|n| n * dies == cores);
        let dies = if equal { dies } else { 1 };
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let topology =
            Topology { sockets: 1, dies: number(dies), cores: number(cores / dies), threads: number(threads) };
        (topology, even && whole)
    }

    /// The host's CPUs closest to these that are not among them: the same L3 first, then the same node; not their SMT
    /// siblings, not isolated CPUs, and not CPU 0's core, as long as there are others. At least two, if there are.
    pub fn closest(&self, vcpus: &CpuSet) -> CpuSet {
        if vcpus.is_empty() {
            return self.shared();
        }
        let mut free = self.shared().difference(vcpus);
        if free.is_empty() {
            free = self.usable.difference(vcpus);
        }
        if free.is_empty() {
            return self.shared();
        }
        let busy: std::collections::BTreeSet<usize> =
            vcpus.iter().filter_map(|cpu| self.of.get(&cpu).copied()).collect();
        let domains: CpuSet = busy.iter().map(|i| self.list[*i].domain as u32).collect();
        let nodes: CpuSet = busy.iter().map(|i| self.list[*i].node).collect();
        let mut rings: BTreeMap<(bool, bool, bool, bool), Vec<u32>> = BTreeMap::new();
        for cpu in free.iter() {
            let Some(index) = self.of.get(&cpu) else { continue };
            let core = &self.list[*index];
            let rank =
                (busy.contains(index), !nodes.contains(core.node), !domains.contains(core.domain as u32), core.zero);
            rings.entry(rank).or_default().push(cpu);
        }
        let mut closest = CpuSet::new();
        for ((sibling, ..), ring) in rings {
            if closest.len() >= 2 || (sibling && !closest.is_empty()) {
                break;
            }
            ring.into_iter().for_each(|cpu| closest.insert(cpu));
        }
        closest
    }
}

/// The number of each CPU's last-level cache (level 3, else 2, else its package), and each cache's size.
fn domains(cpus: &Cpus) -> (BTreeMap<u32, usize>, Vec<u64>) {
    let mut of = BTreeMap::new();
    let mut sizes = Vec::new();
    for level in [3, 2] {
        for cache in cpus.caches.iter().filter(|cache| cache.level == level) {
            let members: Vec<u32> = cache.cpus.iter().filter(|cpu| !of.contains_key(cpu)).collect();
            if !members.is_empty() {
                of.extend(members.into_iter().map(|cpu| (cpu, sizes.len())));
                sizes.push(cache.size.as_bytes());
            }
        }
    }
    let mut packages: BTreeMap<u32, usize> = BTreeMap::new();
    for cpu in &cpus.list {
        of.entry(cpu.id).or_insert_with(|| {
            *packages.entry(cpu.package).or_insert_with(|| {
                sizes.push(0);
                sizes.len() - 1
            })
        });
    }
    (of, sizes)
}
