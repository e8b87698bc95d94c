//! What the guest is told of the CPUs below it: its topology, and whose caches it sees.
//!
//! QEMU either makes caches up, which follow `-smp`, or copies the host's (`host-cache-info`) with the number of APIC ids that
//! share each. A guest works out what its vCPUs share from these numbers and from its own APIC ids, in which each level of the
//! topology has as many bits as it needs. So both are worked out here as a guest does, and compared with the host. Sources:
//! QEMU's `include/hw/i386/topology.h` and `cpu_x86_cpuid()` in its `target/i386/cpu.c`; Linux's
//! `arch/x86/kernel/cpu/cacheinfo.c`.

use std::collections::{BTreeMap, BTreeSet};

use super::cores::{Core, Cores};
use crate::host::CoreKind;
use crate::machine::Topology;

/// What the guest is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct Told {
    /// Its topology (QEMU: `-smp`).
    pub topology: Topology,
    /// Whether it is given the host's caches. Else QEMU makes some up: an L3 for each die.
    pub host_caches: bool,
    /// Whether the made-up L2 is that of a module and not that of a core (QEMU: `smp-cache`).
    pub l2_of_module: bool,
    /// Whether all of that is the truth: each vCPU has a CPU of its own, all are on cores of one kind, guest cores are whole
    /// cores of the host, and share the caches that those do.
    pub faithful: bool,
}

/// What the guest can be told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Can {
    /// Whether a guest is able to see the host's caches: KVM, and a CPU model that is the host's.
    pub host_caches: bool,
    /// Whether QEMU has modules, and an L2 for each.
    pub modules: bool,
    /// The most sockets that the guest makes use of.
    pub sockets: usize,
}

impl Told {
    /// If nothing is known of the CPUs below the vCPUs, or they are many: so many cores, without a word about SMT.
    pub(super) fn nothing(count: usize, asked: Option<Topology>) -> Self {
        let cores = Topology { sockets: 1, dies: 1, modules: 1, cores: number(count), threads: 1 };
        let topology = asked.unwrap_or(cores);
        Self { topology, host_caches: false, l2_of_module: topology.modules > 1, faithful: false }
    }

    /// For a guest whose vCPUs are on these CPUs, in [`Cores::ordered`]'s order.
    pub(super) fn of(cores: &Cores, cpus: &[u32], can: Can, asked: Option<Topology>) -> Self {
        let below: Vec<&Core> = cpus.iter().filter_map(|cpu| cores.core(*cpu)).collect();
        let topology = asked.unwrap_or_else(|| derived(&below, can));
        let fits = topology.vcpus().is_some_and(|vcpus| vcpus as usize == below.len()) && below.len() == cpus.len();
        if !fits {
            return Self::nothing(cpus.len(), Some(topology));
        }
        let guest = Guest::of(topology);
        let (core, l2) = (shared(&below, |core| core.number), shared(&below, |core| core.module));
        let (l3, package) = (shared(&below, |core| core.domain), shared(&below, |core| core.die.0 as usize));
        let known = below.iter().all(|core| cores.domains().get(core.domain).is_some_and(|domain| domain.cache));
        let mut given = vec![0; cores.list().len()];
        below.iter().for_each(|core| given[core.number] += 1);
        let whole = same(&guest.by_bits(guest.core), &core)
            && below.iter().all(|core| core.whole() && given[core.number] == core.threads.len());
        let part = |parts: u32, bits: u32, truth: &[usize]| parts == 1 || same(&guest.by_bits(bits), truth);
        let sockets = part(topology.sockets, guest.socket, &package);
        let in_order = part(topology.threads, guest.core, &core)
            && part(topology.modules, guest.module, &l2)
            && part(topology.dies, guest.die, &l3);
        // CPUs that the user gave in another order than that of their cores.
        if asked.is_none() && !(in_order && sockets) {
            return Self::nothing(cpus.len(), None);
        }
        let l3_of_die = !known || same(&guest.by_bits(guest.die), &l3);
        let host_caches = can.host_caches && whole && {
            let all = [Level::L1, Level::L2, Level::L3].into_iter().filter(|level| *level != Level::L3 || known);
            let eight = known && cores.l3_of_eight();
            (!eight || same(&guest.by_ids(8, false), &l3))
                && all.into_iter().all(|level| {
                    let truth = [&core, &l2, &l3][level as usize];
                    ids(cores, &below, level).is_some_and(|ids| same(&guest.by_ids(ids, cores.intel()), truth))
                })
        };
        let [of_core, of_module] = [guest.core, guest.module].map(|bits| same(&guest.by_bits(bits), &l2));
        let l2_of_module = !host_caches && (topology.modules > 1 || can.modules && of_module && !of_core);
        let l2_fits = if l2_of_module { of_module } else { of_core };
        let kinds: BTreeSet<CoreKind> = below.iter().map(|core| core.kind).collect();
        let faithful = kinds.len() == 1 && whole && sockets && (host_caches || l2_fits && l3_of_die);
        Self { topology, host_caches, l2_of_module, faithful }
    }
}

/// The topology of a guest whose vCPUs are on these cores. Each level is there if the host's parts are of one size, since QEMU
/// has no others.
fn derived(below: &[&Core], can: Can) -> Topology {
    let mut by_core: BTreeMap<usize, usize> = BTreeMap::new();
    for core in below {
        *by_core.entry(core.number).or_default() += 1;
    }
    let threads = by_core.values().copied().next().unwrap_or(1);
    let even = by_core.values().all(|n| *n == threads);
    // A core that the guest has only half of is shown as a core of one thread: the other half is not the guest's.
    let threads = if even { threads } else { 1 };
    let parts = |of: &dyn Fn(&Core) -> usize| if even { equal_parts(below.iter().map(|core| of(core))) } else { 1 };
    let sockets = Some(parts(&|core| core.die.0 as usize)).filter(|sockets| *sockets <= can.sockets).unwrap_or(1);
    let within = |all: usize, above: usize| if all.is_multiple_of(above) { all / above } else { 1 };
    // QEMU's dies share one L3 each.
    let dies = within(parts(&|core| core.domain), sockets);
    let cores = below.len() / threads;
    let modules = Some(parts(&|core| core.module)).filter(|modules| can.modules && *modules < cores);
    let modules = modules.map_or(1, |modules| within(modules, sockets * dies));
    Topology {
        sockets: number(sockets),
        dies: number(dies),
        modules: number(modules),
        cores: number(cores / (sockets * dies * modules)),
        threads: number(threads),
    }
}

/// How many parts these keys make, if all are of one size; else one.
fn equal_parts(keys: impl Iterator<Item = usize>) -> usize {
    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    keys.for_each(|key| *sizes.entry(key).or_default() += 1);
    let first = sizes.values().next().copied();
    if sizes.values().all(|size| Some(*size) == first) { sizes.len().max(1) } else { 1 }
}

/// A cache that CPUs share.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Level {
    L1,
    L2,
    L3,
}

/// How many APIC ids the host keeps for each cache of a level, if that is one number for all of these cores and known: a power
/// of two, often more than there are CPUs.
fn ids(cores: &Cores, below: &[&Core], level: Level) -> Option<usize> {
    // A processor that could have SMT, or has it switched off, keeps the ids of the second threads (an i5-8400's leaf 4 begins
    // with 0x1c004121, two ids for an L1 of one thread). Intel's P cores have eight ids for an L2 (0xfc01c143 on Alder Lake).
    let uncertain = |core: &&Core| core.online < 2 || !cores.amd() && core.kind != CoreKind::Uniform;
    if below.iter().any(uncertain) {
        return None;
    }
    let domain = |core: &Core| cores.domains().get(core.domain);
    let sizes: BTreeSet<_> = below.iter().map(|core| domain(core).and_then(|domain| domain.size)).collect();
    // What QEMU copies comes from one CPU, so all vCPUs would have that one's L3.
    if sizes.len() > 1 {
        return None;
    }
    let mut modules: BTreeMap<usize, usize> = BTreeMap::new();
    cores.list().iter().for_each(|core| *modules.entry(core.module).or_default() += core.online);
    let cpus = below.iter().map(|core| match level {
        Level::L1 => core.online,
        Level::L2 => modules[&core.module],
        Level::L3 => domain(core).map_or(1, |domain| domain.cpus),
    });
    let cpus: BTreeSet<usize> = cpus.map(usize::next_power_of_two).collect();
    cpus.first().copied().filter(|_| cpus.len() == 1)
}

/// A guest's vCPUs as it tells them apart.
struct Guest {
    apic: Vec<u64>,
    /// The bits of an APIC id below those of the core, module, die and socket.
    core: u32,
    module: u32,
    die: u32,
    socket: u32,
    per_socket: usize,
}

impl Guest {
    fn of(topology: Topology) -> Self {
        let Topology { sockets, dies, modules, cores, threads } = topology;
        let bits = |n: u32| u64::from(n).next_power_of_two().trailing_zeros();
        let core = bits(threads);
        let module = core + bits(cores);
        let die = module + bits(modules);
        let socket = die + bits(dies);
        let mut apic = Vec::new();
        for s in 0..u64::from(sockets) {
            for d in 0..u64::from(dies) {
                for m in 0..u64::from(modules) {
                    for c in 0..u64::from(cores) {
                        apic.extend(
                            (0..u64::from(threads)).map(|t| s << socket | d << die | m << module | c << core | t),
                        );
                    }
                }
            }
        }
        Self { per_socket: apic.len() / (sockets.max(1) as usize), apic, core, module, die, socket }
    }

    /// What vCPUs are together if these bits of their APIC ids do not count.
    fn by_bits(&self, bits: u32) -> Vec<usize> {
        self.apic.iter().map(|id| usize::try_from(id >> bits).unwrap_or(usize::MAX)).collect()
    }

    /// The same for a cache of so many ids, copied from the host. With Intel's leaf 4, QEMU has none reach beyond a socket.
    fn by_ids(&self, ids: usize, intel: bool) -> Vec<usize> {
        let ids = if intel && ids > self.per_socket { self.per_socket.next_power_of_two() } else { ids };
        self.by_bits(ids.trailing_zeros())
    }
}

/// What each vCPU's core is a part of.
fn shared(below: &[&Core], of: impl Fn(&Core) -> usize) -> Vec<usize> {
    below.iter().map(|core| of(core)).collect()
}

/// Whether the vCPUs that have a number in common in the one list are those that have in the other.
fn same(a: &[usize], b: &[usize]) -> bool {
    let mut pairs: Vec<(usize, usize)> = a.iter().copied().zip(b.iter().copied()).collect();
    pairs.sort_unstable();
    pairs.dedup();
    let mut seconds: Vec<usize> = pairs.iter().map(|(_, second)| *second).collect();
    seconds.sort_unstable();
    a.len() == b.len()
        && pairs.windows(2).all(|pair| pair[0].0 != pair[1].0)
        && seconds.windows(2).all(|pair| pair[0] != pair[1])
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
