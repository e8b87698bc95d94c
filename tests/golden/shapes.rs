//! Hosts that differ in their CPUs and memory alone, in few words each: what a placement is tried on.

use vfio_run::host::{Cache, CacheKind, CoreKind, Cpu, Cpus, Host, Memory, Node};
use vfio_run::units::{CpuSet, Size};

use super::input;

/// Cores of one kind below one last-level cache, in one node.
#[derive(Clone, Copy)]
pub struct Block {
    /// Their CPUs.
    pub cpus: &'static str,
    /// Threads of a core.
    pub threads: usize,
    /// Whether siblings have adjacent numbers; else each thread of all cores follows the one before.
    pub adjacent: bool,
    /// Size of the level 3 cache in MiB; 0: there is none. Blocks of the same package, and of the same number here, share it.
    pub l3: (u64, u32),
    /// How many cores share a level 2 cache.
    pub per_l2: usize,
    pub node: u32,
    pub package: u32,
    pub die: u32,
    pub kind: CoreKind,
    /// How fast it can be.
    pub speed: Option<u32>,
}

/// Cores of two threads in package 0 and node 0.
pub const BLOCK: Block = Block {
    cpus: "",
    threads: 2,
    adjacent: false,
    l3: (32, 0),
    per_l2: 1,
    node: 0,
    package: 0,
    die: 0,
    kind: CoreKind::Uniform,
    speed: None,
};

impl Block {
    fn cores(&self) -> Vec<CpuSet> {
        let cpus: Vec<u32> = self.cpus.parse::<CpuSet>().unwrap().iter().collect();
        let cores = cpus.len() / self.threads;
        let thread = |core: usize, thread: usize| match self.adjacent {
            true => cpus[core * self.threads + thread],
            false => cpus[thread * cores + core],
        };
        (0..cores).map(|core| (0..self.threads).map(|n| thread(core, n)).collect()).collect()
    }
}

/// A host of these blocks. Its nodes have so many GiB each, and these distances.
pub fn host(blocks: &[Block], nodes: &[u64], distances: &[&[u32]]) -> Host {
    let mut list = Vec::new();
    let mut caches: Vec<Cache> = Vec::new();
    let mut shared: std::collections::BTreeMap<(u32, u32), (u64, CpuSet)> = Default::default();
    for block in blocks {
        let cores = block.cores();
        for module in cores.chunks(block.per_l2) {
            let cpus = module.iter().flat_map(CpuSet::iter).collect();
            caches.push(Cache { level: 2, kind: CacheKind::Unified, size: Some(Size::bytes(1 << 20)), cpus });
        }
        if block.l3.0 > 0 {
            let (size, cpus) = shared.entry((block.package, block.l3.1)).or_default();
            *size = block.l3.0;
            *cpus = cpus.union(&block.cpus.parse().unwrap());
        }
        for core in cores {
            list.extend(core.iter().map(|id| Cpu {
                id,
                package: block.package,
                die: block.die,
                core: core.iter().next().unwrap(),
                node: Some(block.node),
                siblings: core.clone(),
                kind: block.kind,
                capacity: block.speed,
            }));
        }
    }
    list.sort_by_key(|cpu| cpu.id);
    let level3 = |(size, cpus)| Cache { level: 3, kind: CacheKind::Unified, size: Some(Size::bytes(size << 20)), cpus };
    caches.extend(shared.into_values().map(level3));
    caches.sort_by_key(|cache| (cache.level, cache.cpus.iter().next()));
    let online: CpuSet = list.iter().map(|cpu| cpu.id).collect();
    let nodes = (0..).zip(nodes).map(|(id, gib)| Node {
        id,
        cpus: list.iter().filter(|cpu| cpu.node == Some(id)).map(|cpu| cpu.id).collect(),
        total: Some(Size::bytes(gib << 30)),
        free: Some(Size::bytes(gib << 30)),
        distances: distances.get(id as usize).map_or_else(Vec::new, |distances| distances.to_vec()),
        huge_pages: vec![],
    });
    let nodes: Vec<Node> = nodes.collect();
    let total: u64 = nodes.iter().filter_map(|node| node.total).map(|total| total.as_bytes()).sum();
    let total = Some(Size::bytes(total));
    let mut cpus = Cpus { allowed: online.clone(), online, list, caches, ..input::host("laptop-4c").cpus };
    cpus.settle_kinds();
    let memory = Memory { total, available: total, nodes, ..Memory::default() };
    Host { cpus, memory, ..input::host("laptop-4c") }
}
