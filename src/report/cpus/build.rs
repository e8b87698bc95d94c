//! From facts to the map. Nothing of them is believed: a captured host may say what no host can be.

use std::collections::{BTreeMap, BTreeSet};

use super::map::{Core, Device, Group, GroupKind, Map, MemoryNode, Module, Shown, Thread, Use};
use crate::host::{Cpu, Cpus, Memory};
use crate::units::{CpuSet, Size};

/// A vCPU that may run on more CPUs is drawn on none of them, but told in words.
const MOST_CPUS: usize = 8;

/// The map of these CPUs with these machines and devices.
pub fn map(cpus: &Cpus, memory: &Memory, machines: Vec<Shown>, devices: Vec<Device>) -> Map {
    let list: BTreeMap<u32, &Cpu> = cpus.list.iter().map(|cpu| (cpu.id, cpu)).collect();
    let all: CpuSet = list.keys().copied().collect();
    let forbidden = if cpus.allowed.is_empty() { CpuSet::new() } else { all.difference(&cpus.allowed) };
    let isolated = all.intersection(&cpus.isolated);
    let mut uses = uses(&machines);
    let mut host = Group { size: memory.total, ..group(GroupKind::Host, None, None, all.clone()) };
    for group in groups(cpus, memory, &list, &all) {
        insert(&mut host, group);
    }
    let mut l2 = BTreeMap::new();
    for (number, cache) in cpus.caches.iter().enumerate().filter(|(_, cache)| cache.level == 2) {
        l2.extend(cache.cpus.iter().map(|cpu| (cpu, (number, cache.size))));
    }
    let cores = cores(&list, |cpu| Thread {
        cpu,
        isolated: isolated.contains(cpu),
        forbidden: forbidden.contains(cpu),
        uses: uses.remove(&cpu).unwrap_or_default(),
    });
    place(&mut host, cores, &l2);
    for device in devices {
        attach(&mut host, device);
    }
    let has_memory = |size: Option<Size>| size.is_some_and(|size| size.as_bytes() > 0);
    let memory_only = memory.nodes.iter().filter(|node| node.cpus.is_empty() && has_memory(node.total));
    Map {
        model: cpus.model.clone(),
        isolated,
        forbidden,
        host,
        memory_only: memory_only.map(|node| MemoryNode { node: node.id, size: node.total }).collect(),
        machines,
    }
}

fn group(kind: GroupKind, number: Option<u32>, size: Option<Size>, cpus: CpuSet) -> Group {
    Group { kind, number, size, cpus, devices: Vec::new(), groups: Vec::new(), modules: Vec::new() }
}

/// Packages, dies, nodes and level 3 caches; the larger first, and of equal ones the outer.
fn groups(cpus: &Cpus, memory: &Memory, list: &BTreeMap<u32, &Cpu>, all: &CpuSet) -> Vec<Group> {
    let mut packages: BTreeMap<u32, CpuSet> = BTreeMap::new();
    let mut dies: BTreeMap<(u32, u32), CpuSet> = BTreeMap::new();
    let mut nodes: BTreeMap<u32, CpuSet> = BTreeMap::new();
    for (id, cpu) in list {
        packages.entry(cpu.package).or_default().insert(*id);
        dies.entry((cpu.package, cpu.die)).or_default().insert(*id);
        if let Some(node) = cpu.node {
            nodes.entry(node).or_default().insert(*id);
        }
    }
    let memory_of = |node: u32| memory.nodes.iter().find(|known| known.id == node).and_then(|node| node.total);
    let caches = cpus.caches.iter().filter(|cache| cache.level == 3);
    let caches = caches.map(|cache| group(GroupKind::L3, None, cache.size, cache.cpus.intersection(all)));
    let mut groups: Vec<Group> = caches.filter(|cache| !cache.cpus.is_empty()).collect();
    groups.extend(nodes.into_iter().map(|(id, cpus)| group(GroupKind::Node, Some(id), memory_of(id), cpus)));
    // One that is a package, a node or a cache says nothing more.
    let known: BTreeSet<CpuSet> = groups.iter().map(|group| group.cpus.clone()).collect();
    let dies =
        dies.into_iter().filter(|((package, _), die)| packages.get(package) != Some(die) && !known.contains(die));
    groups.extend(dies.map(|((_, id), cpus)| group(GroupKind::Die, Some(id), None, cpus)));
    groups.extend(packages.into_iter().map(|(id, cpus)| group(GroupKind::Package, Some(id), None, cpus)));
    groups.sort_by_key(|group| (std::cmp::Reverse(group.cpus.len()), group.kind, group.cpus.iter().next()));
    groups
}

/// Puts a group into the innermost that has all of it. One that lies across another is left out.
fn insert(into: &mut Group, group: Group) {
    let within = into.groups.iter_mut().find(|one| one.kind != group.kind && group.cpus.is_subset(&one.cpus));
    if let Some(one) = within {
        return insert(one, group);
    }
    if into.groups.iter().all(|one| one.cpus.intersection(&group.cpus).is_empty()) {
        into.groups.push(group);
    }
}

/// Each core once: no CPU is a thread of two.
fn cores(list: &BTreeMap<u32, &Cpu>, mut thread: impl FnMut(u32) -> Thread) -> Vec<Core> {
    let mut known = CpuSet::new();
    let mut cores = Vec::new();
    for (id, cpu) in list {
        if known.contains(*id) {
            continue;
        }
        let is_free = |cpu: &u32| list.contains_key(cpu) && !known.contains(*cpu);
        let mut threads: CpuSet = cpu.siblings.iter().filter(is_free).collect();
        threads.insert(*id);
        threads.iter().for_each(|cpu| known.insert(cpu));
        cores.push(Core { number: cpu.core, kind: cpu.kind, threads: threads.iter().map(&mut thread).collect() });
    }
    cores
}

/// Puts cores into the innermost groups that have all their threads, and there with those of the same level 2 cache.
fn place(group: &mut Group, cores: Vec<Core>, l2: &BTreeMap<u32, (usize, Option<Size>)>) {
    let mut of_groups: Vec<Vec<Core>> = group.groups.iter().map(|_| Vec::new()).collect();
    let mut module_of: BTreeMap<usize, usize> = BTreeMap::new();
    for core in cores {
        let has = |one: &Group| core.threads.iter().all(|thread| one.cpus.contains(thread.cpu));
        if let Some(at) = group.groups.iter().position(has) {
            of_groups[at].push(core);
            continue;
        }
        let cache = core.threads.first().and_then(|thread| l2.get(&thread.cpu));
        let next = group.modules.len();
        let at = cache.map_or(next, |(cache, _)| *module_of.entry(*cache).or_insert(next));
        match group.modules.get_mut(at) {
            Some(module) => module.cores.push(core),
            None => group.modules.push(Module { l2: cache.and_then(|(_, size)| *size), cores: vec![core] }),
        }
    }
    for (one, cores) in group.groups.iter_mut().zip(of_groups) {
        place(one, cores, l2);
    }
    group.groups.retain(|one| !one.modules.is_empty() || !one.groups.is_empty());
    group.groups.sort_by_key(|one| one.cpus.iter().next());
}

/// Puts a device to its node, or to the host if no CPU is in that node, or all are.
fn attach(host: &mut Group, device: Device) {
    let node = device.node.filter(|_| host.count(GroupKind::Node) > 1);
    let left = match node {
        Some(node) => give(host, node, device),
        None => Some(device),
    };
    host.devices.extend(left);
}

/// Gives a device to the node of this number; the device if there is none.
fn give(group: &mut Group, node: u32, mut device: Device) -> Option<Device> {
    if group.kind == GroupKind::Node && group.number == Some(node) {
        group.devices.push(device);
        return None;
    }
    for one in &mut group.groups {
        device = give(one, node, device)?;
    }
    Some(device)
}

/// What runs on each CPU.
fn uses(machines: &[Shown]) -> BTreeMap<u32, Vec<Use>> {
    let mut uses: BTreeMap<u32, Vec<Use>> = BTreeMap::new();
    for (index, machine) in machines.iter().enumerate() {
        let mut of: BTreeMap<u32, Use> = BTreeMap::new();
        let fresh = || Use { index, machine: machine.name.clone(), vcpus: None, emulator: false, iothreads: false };
        for (number, cpus) in (0..).zip(&machine.vcpus).filter(|(_, cpus)| machine.pinned || cpus.len() <= MOST_CPUS) {
            for cpu in cpus.iter() {
                let vcpus = of.entry(cpu).or_insert_with(fresh).vcpus.get_or_insert_default();
                if machine.numbered {
                    vcpus.insert(number);
                }
            }
        }
        // Without CPUs of their own for the vCPUs, all threads may run wherever the host lets them.
        if machine.pinned {
            for cpu in machine.emulator.iter().flat_map(CpuSet::iter) {
                of.entry(cpu).or_insert_with(fresh).emulator = true;
            }
            for cpu in machine.io_cpus().iter() {
                of.entry(cpu).or_insert_with(fresh).iothreads = true;
            }
        }
        for (cpu, one) in of {
            uses.entry(cpu).or_default().push(one);
        }
    }
    uses
}
