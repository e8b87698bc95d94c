//! Places every thread of QEMU.

use std::collections::{BTreeMap, BTreeSet};

use super::super::draft::Draft;
use super::cores::Cores;
use super::found::Found;
use super::placed::Placement;
use super::told::{Can, Told};
use super::wish::Wish;
use super::{checks, choose};
use crate::host::Host;
use crate::machine::{Numa, Pin, VcpuCpus};
use crate::units::CpuSet;

/// Places all threads, says what is not ideal about it, and what the guest is told. With emulation (not `kvm`) that is cores
/// only: TCG's CPU has no SMT to show.
pub(in super::super) fn place(draft: &mut Draft, kvm: bool, iothreads: &[String]) -> (Placement, Told) {
    let (cpu, host) = (&draft.machine.cpu, draft.host);
    let taken = host.machines.values().flat_map(CpuSet::iter).collect();
    let cores = Cores::new(&host.cpus, &taken).by_node(draft.machine.memory.numa == Some(Numa::Guest));
    let mut wish = Wish::of(draft, &cores);
    let count = wish.count;
    let limited = cores.usable().len() < host.cpus.online.len();
    let mut own = choose::choose(&cores, &wish, limited);
    // Cores that the host cannot keep are a finding, and what can be had is shown beside it.
    let keeps = own.is_some() || wish.leave == 0 || !choose::enough(&cores, &wish, limited);
    if !keeps {
        wish.leave = 0;
        own = choose::choose(&cores, &wish, limited);
    }
    // An empty list pins nothing.
    let pin = cpu.pin.as_ref().filter(|pin| !pin.is_empty());
    let each = pin.and_then(|pin| each(pin, &cores, count));
    let chosen = match (&each, pin) {
        (Some(each), _) => each.iter().map(|cpus| cpus.iter().next().filter(|_| cpus.len() == 1)).collect(),
        (None, Some(pin)) => {
            let ordered = cores.ordered(&pin.cpus().intersection(cores.usable()));
            (ordered.len() >= count).then(|| ordered[..count].to_vec())
        }
        (None, None) => own.as_ref().map(|own| own.cpus.clone()),
    };
    let chosen: Option<Vec<u32>> = chosen.filter(|cpus| cpus.iter().collect::<BTreeSet<_>>().len() == count);
    let pinned = chosen.is_some();
    let vcpus: Vec<CpuSet> = match (&chosen, each) {
        (Some(cpus), _) => cpus.iter().map(|cpu| CpuSet::from_iter([*cpu])).collect(),
        (None, Some(each)) => each,
        (None, None) => vec![cores.shared(); count],
    };
    let used: CpuSet = match (&chosen, pin) {
        (Some(cpus), _) => cpus.iter().copied().collect(),
        (None, Some(pin @ Pin::Each(_))) => pin.cpus().intersection(cores.usable()),
        (None, _) => CpuSet::new(),
    };
    let asked =
        |set: &Option<CpuSet>| set.as_ref().map(|set| set.intersection(cores.usable())).filter(|s| !s.is_empty());
    let emulator = asked(&cpu.emulator).unwrap_or_else(|| cores.closest(&used));
    let io = asked(&cpu.iothreads).unwrap_or_else(|| emulator.clone());
    let can = Can {
        host_caches: kvm && matches!(cpu.model.as_deref(), None | Some("host" | "max")),
        modules: draft.machine_property("smp-cache") && draft.option_has("smp-opts", "modules"),
        // Windows for clients uses two at most; that of servers has no guest family of its own.
        sockets: if draft.machine.guest.is_windows() { 2 } else { usize::MAX },
    };
    let told = match &chosen {
        Some(cpus) if kvm => Told::of(&cores, cpus, can, cpu.topology),
        _ => Told::nothing(count, cpu.topology),
    };
    // A vCPU is told of the caches of the CPU on which its thread is made.
    let born = chosen
        .iter()
        .flatten()
        .copied()
        .next()
        .filter(|_| kvm)
        .and_then(|first| born(draft.host, &cores, first, &used, &emulator));
    let placement = Placement {
        vcpus,
        pinned,
        emulator,
        iothreads: iothreads.iter().map(|id| (id.clone(), io.clone())).collect(),
        scheduler: cpu.scheduler.filter(|scheduler| scheduler.priority().is_some()),
        born,
        topology: told.topology,
        why: own.as_ref().filter(|_| pin.is_none()).map(|own| own.why.clone()),
    };
    let written = chosen.as_ref().filter(|_| matches!(pin, Some(Pin::Each(_))));
    let ordered = written.map(|_| cores.ordered(&used)).filter(|ordered| {
        kvm && cpu.topology.is_none() && Told::of(&cores, ordered, can, None).topology != told.topology
    });
    let found = Found { cores: &cores, wish: &wish, own: own.as_ref(), keeps, ordered, placement: &placement };
    checks::check(draft, &found);
    (placement, told)
}

/// The CPUs of each vCPU, if the user says what each has.
fn each(pin: &Pin, cores: &Cores, count: usize) -> Option<Vec<CpuSet>> {
    let Pin::Each(list) = pin else { return None };
    let alone: CpuSet =
        list.iter().filter_map(VcpuCpus::named).filter(|cpus| cpus.len() == 1).flat_map(CpuSet::iter).collect();
    let usable = |set: CpuSet| Some(set).filter(|set| !set.is_empty());
    let any = usable(cores.shared().difference(&alone)).unwrap_or_else(|| cores.shared());
    // One that is out of reach, or missing, is a hard finding.
    let cpus = |vcpu: usize| usable(list.get(vcpu)?.named()?.intersection(cores.usable()));
    Some((0..count).map(|vcpu| cpus(vcpu).unwrap_or_else(|| any.clone())).collect())
}

/// The CPUs that QEMU is started on, if the emulator's have other caches than the vCPUs', of which `first` is one: free ones
/// that are alike, else those of the vCPUs.
fn born(host: &Host, cores: &Cores, first: u32, vcpus: &CpuSet, emulator: &CpuSet) -> Option<CpuSet> {
    let mut caches: BTreeMap<u32, Vec<_>> = BTreeMap::new();
    for cache in &host.cpus.caches {
        for cpu in cache.cpus.iter() {
            caches.entry(cpu).or_default().push((cache.level, cache.kind, cache.size));
        }
    }
    let what = |cpu: u32| (host.cpus.get(cpu).map(|cpu| cpu.kind), caches.get(&cpu));
    let alike = |cpus: &CpuSet| cpus.iter().filter(|cpu| what(*cpu) == what(first)).collect::<CpuSet>();
    if alike(emulator) == *emulator {
        return None;
    }
    let free = alike(&cores.shared().difference(vcpus));
    Some(if free.is_empty() { alike(vcpus) } else { free })
}
