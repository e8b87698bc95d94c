//! The host's CPUs as a placement sees them: cores with their usable threads, each in the domain of its last-level cache.
//! Built once per plan, so that every later question is a look-up even on a host with hundreds of CPUs.

use std::collections::{BTreeMap, BTreeSet};

use crate::host::{CoreKind, Cpus};
use crate::units::{CpuSet, Size};

/// One core.
#[derive(Debug)]
pub(super) struct Core {
    /// Its number in [`Cores::list`].
    pub number: usize,
    /// Its threads that QEMU may run on, ascending.
    pub threads: Vec<u32>,
    /// How many of its threads are online.
    pub online: usize,
    /// Number of its last-level cache.
    pub domain: usize,
    /// Number of its level 2 cache, or one of its own.
    pub module: usize,
    /// Package, and die in the package.
    pub die: (u32, u32),
    /// NUMA node; `None` if it is in none.
    pub node: Option<u32>,
    /// Which kind it is.
    pub kind: CoreKind,
    /// Whether CPU 0 is one of its threads: the kernel's own work and most interrupts are there.
    pub zero: bool,
    /// Whether all its threads are isolated from the scheduler.
    pub isolated: bool,
    /// Whether a vCPU of another machine runs on it.
    pub taken: bool,
    /// How fast it can be; 0 if that is not known.
    pub speed: u32,
}

impl Core {
    /// Whether QEMU may run on all of its threads that are online.
    pub fn whole(&self) -> bool {
        self.threads.len() >= self.online
    }

    /// Whether it is an efficiency core of either kind.
    pub fn efficient(&self) -> bool {
        matches!(self.kind, CoreKind::Efficiency | CoreKind::LowPower)
    }
}

/// A last-level cache, or what stands for it.
#[derive(Debug, Clone, Default)]
pub(super) struct Domain {
    /// Its size, if it is a cache and its size is known.
    pub size: Option<Size>,
    /// Whether it is a level 3 cache.
    pub cache: bool,
    /// The usable threads below it.
    pub threads: usize,
    /// All CPUs below it that are online.
    pub cpus: usize,
    /// How fast its fastest core can be; 0 if that is not known.
    pub speed: u32,
    /// The first of the NUMA nodes that its cores are in.
    node: Option<u32>,
}

/// The cores that QEMU may run on.
#[derive(Debug)]
pub(super) struct Cores {
    usable: CpuSet,
    isolated: CpuSet,
    list: Vec<Core>,
    /// Core of each usable CPU.
    of: BTreeMap<u32, usize>,
    domains: Vec<Domain>,
    /// CPU 0's.
    zero_domain: Option<usize>,
    /// `vendor_id` of the processor.
    vendor: Option<String>,
    /// Whether Linux takes eight APIC ids for an L3, whatever the processor says.
    l3_of_eight: bool,
    /// Whether the CPUs of a NUMA node follow each other whatever their caches are.
    by_node: bool,
}

impl Cores {
    /// Reads them off the host's facts; `taken` are the CPUs of other machines. CPUs that are online and allowed count; if it
    /// is not known which are allowed, all that are online do.
    pub fn new(cpus: &Cpus, taken: &CpuSet) -> Self {
        let usable = match cpus.allowed.is_empty() {
            true => cpus.online.clone(),
            false => cpus.online.intersection(&cpus.allowed),
        };
        let (domain_of, mut domains) = domains(cpus);
        let modules: BTreeMap<u32, usize> = (0..)
            .zip(cpus.caches.iter().filter(|cache| cache.level == 2))
            .flat_map(|(module, cache)| cache.cpus.iter().map(move |cpu| (cpu, module)))
            .collect();
        let mut list: Vec<Core> = Vec::new();
        let mut of = BTreeMap::new();
        for cpu in &cpus.list {
            if !usable.contains(cpu.id) || of.contains_key(&cpu.id) {
                continue;
            }
            // No CPU is a thread of two cores, whatever a captured host says.
            let mut threads: Vec<u32> =
                cpu.siblings.iter().filter(|id| usable.contains(*id) && !of.contains_key(id)).collect();
            if !threads.contains(&cpu.id) {
                // The kernel says nothing of siblings: the CPU is a core of its own.
                threads = vec![cpu.id];
            }
            of.extend(threads.iter().map(|id| (*id, list.len())));
            let domain = domain_of.get(&cpu.id).copied().unwrap_or(0);
            let speed = cpu.capacity.unwrap_or(0);
            if let Some(domain) = domains.get_mut(domain) {
                domain.threads += threads.len();
                domain.speed = domain.speed.max(speed);
                domain.node = match (domain.node, cpu.node) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
            list.push(Core {
                number: list.len(),
                online: cpu.siblings.iter().filter(|id| cpus.online.contains(*id)).count().max(threads.len()),
                domain,
                module: modules.get(&cpu.id).copied().unwrap_or(cpus.caches.len() + list.len()),
                die: (cpu.package, cpu.die),
                node: cpu.node,
                kind: cpu.kind,
                zero: cpu.siblings.contains(0) || cpu.id == 0,
                isolated: threads.iter().all(|id| cpus.isolated.contains(*id)),
                taken: cpu.siblings.iter().chain([cpu.id]).any(|id| taken.contains(id)),
                speed,
                threads,
            });
        }
        let zero_domain = domain_of.get(&0).copied();
        let vendor = cpus.vendor.clone();
        let (l3_of_eight, isolated) = (l3_of_eight(cpus), cpus.isolated.clone());
        Self { usable, isolated, list, of, domains, zero_domain, vendor, l3_of_eight, by_node: false }
    }

    /// The CPUs that QEMU may run on.
    pub fn usable(&self) -> &CpuSet {
        &self.usable
    }

    /// The usable CPUs that the scheduler leaves alone.
    pub fn isolated(&self) -> CpuSet {
        self.isolated.intersection(&self.usable)
    }

    /// The cores, in the order of their first thread.
    pub fn list(&self) -> &[Core] {
        &self.list
    }

    /// The core that a usable CPU is a thread of.
    pub fn core(&self, cpu: u32) -> Option<&Core> {
        self.index(cpu).map(|i| &self.list[i])
    }

    /// The number, in [`Self::list`], of the core that a usable CPU is a thread of.
    pub fn index(&self, cpu: u32) -> Option<usize> {
        self.of.get(&cpu).copied()
    }

    /// The last-level caches by their numbers.
    pub fn domains(&self) -> &[Domain] {
        &self.domains
    }

    /// The number of CPU 0's last-level cache.
    pub fn zero_domain(&self) -> Option<usize> {
        self.zero_domain
    }

    /// The same for a guest with NUMA nodes of its own.
    pub fn by_node(self, by_node: bool) -> Self {
        Self { by_node, ..self }
    }

    /// Whether Intel made the processor.
    pub fn intel(&self) -> bool {
        self.vendor.as_deref() == Some("GenuineIntel")
    }

    /// Whether it is one of AMD's, or of their kind.
    pub fn amd(&self) -> bool {
        is_amd(self.vendor.as_deref())
    }

    /// Whether Linux, in a guest too, takes eight APIC ids for an L3, whatever the processor says.
    pub fn l3_of_eight(&self) -> bool {
        self.l3_of_eight
    }

    /// The CPUs for threads that have none of their own: all but the isolated ones, which nobody balances.
    pub fn shared(&self) -> CpuSet {
        let shared = self.usable.difference(&self.isolated);
        if shared.is_empty() { self.usable.clone() } else { shared }
    }

    /// The CPUs in the order that vCPUs take them: package by package, cache by cache, core by core, siblings adjacent. A
    /// cache over several NUMA nodes is gone through node by node. Caches that are had whole come first, so that the ones behind
    /// them begin at an APIC id at which a cache can begin.
    pub fn ordered(&self, cpus: &CpuSet) -> Vec<u32> {
        let mut had: BTreeMap<usize, usize> = BTreeMap::new();
        for core in cpus.iter().filter_map(|cpu| self.core(cpu)) {
            *had.entry(core.domain).or_default() += 1;
        }
        let in_part = |domain: usize| {
            self.domains.get(domain).is_some_and(|all| had.get(&domain).is_some_and(|had| *had < all.cpus))
        };
        let mut ordered: Vec<(u32, &Core, usize)> =
            cpus.iter().filter_map(|cpu| self.index(cpu).map(|index| (cpu, &self.list[index], index))).collect();
        ordered.sort_by_key(|(cpu, core, index)| {
            let first_node = self.domains.get(core.domain).and_then(|domain| domain.node);
            (
                core.die.0,
                core.node.filter(|_| self.by_node),
                in_part(core.domain),
                first_node,
                core.domain,
                core.node,
                *index,
                *cpu,
            )
        });
        ordered.into_iter().map(|(cpu, ..)| cpu).collect()
    }

    /// The host's CPUs closest to these that are not among them: the same node first, then the same L3; not their SMT
    /// siblings, not other machines' CPUs, not low-power or isolated ones, and not CPU 0's core, as long as there are others.
    /// At least two, if there are.
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
        let busy: BTreeSet<usize> = vcpus.iter().filter_map(|cpu| self.index(cpu)).collect();
        let domains: BTreeSet<usize> = busy.iter().map(|i| self.list[*i].domain).collect();
        let nodes: BTreeSet<Option<u32>> = busy.iter().map(|i| self.list[*i].node).collect();
        let mut rings: BTreeMap<_, Vec<u32>> = BTreeMap::new();
        for cpu in free.iter() {
            let Some(index) = self.index(cpu) else { continue };
            let core = &self.list[index];
            // What slows the guest, or another one, is worse than what is far away.
            let poor = [busy.contains(&index), core.taken, core.kind == CoreKind::LowPower];
            let rank = (poor, !nodes.contains(&core.node), !domains.contains(&core.domain), core.zero);
            rings.entry(rank).or_default().push(cpu);
        }
        let mut closest = CpuSet::new();
        for ((poor, ..), ring) in rings {
            if closest.len() >= 2 || (poor.contains(&true) && !closest.is_empty()) {
                break;
            }
            ring.into_iter().for_each(|cpu| closest.insert(cpu));
        }
        closest
    }
}

/// Whether a processor of this `vendor_id` is one of AMD's, or of their kind.
pub(in super::super) fn is_amd(vendor: Option<&str>) -> bool {
    matches!(vendor, Some("AuthenticAMD" | "HygonGenuine"))
}

/// Zen and Zen+, and Hygon's (`cacheinfo_amd_init_llc_id()` in Linux's `arch/x86/kernel/cpu/cacheinfo.c`).
fn l3_of_eight(cpus: &Cpus) -> bool {
    match cpus.vendor.as_deref() {
        Some("HygonGenuine") => true,
        Some("AuthenticAMD") => cpus.family == Some(0x17) && cpus.model_number.is_some_and(|model| model <= 0x1f),
        _ => false,
    }
}

/// The number of each CPU's level 3 cache, else of its die, and what is known of each.
fn domains(cpus: &Cpus) -> (BTreeMap<u32, usize>, Vec<Domain>) {
    let mut of = BTreeMap::new();
    let mut domains = Vec::new();
    for cache in cpus.caches.iter().filter(|cache| cache.level == 3) {
        let members: Vec<u32> = cache.cpus.iter().filter(|cpu| !of.contains_key(cpu)).collect();
        if !members.is_empty() {
            let cpus = members.len();
            of.extend(members.into_iter().map(|cpu| (cpu, domains.len())));
            domains.push(Domain { size: cache.size, cache: true, cpus, ..Domain::default() });
        }
    }
    let mut dies: BTreeMap<(u32, u32), usize> = BTreeMap::new();
    for cpu in &cpus.list {
        of.entry(cpu.id).or_insert_with(|| {
            let die = *dies.entry((cpu.package, cpu.die)).or_insert_with(|| {
                domains.push(Domain::default());
                domains.len() - 1
            });
            domains[die].cpus += 1;
            die
        });
    }
    (of, domains)
}
