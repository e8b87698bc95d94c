//! Places every thread of QEMU.

use super::super::draft::Draft;
use super::cores::Cores;
use super::found::Found;
use super::placed::Placement;
use super::wish::Wish;
use super::{checks, choose};
use crate::machine::Topology;
use crate::units::CpuSet;

/// Places all threads and says what is not ideal about it. With emulation (not `kvm`) the guest is shown cores only: TCG's
/// CPU has no SMT to show. The second value tells whether the guest's topology is that of
/// the CPUs below it: each vCPU pinned and each guest core one whole host core.
pub(in super::super) fn place(draft: &mut Draft, kvm: bool, iothreads: &[String]) -> (Placement, bool) {
    let (cpu, host) = (&draft.machine.cpu, draft.host);
    let taken = host.machines.values().flat_map(CpuSet::iter).collect();
    let cores = Cores::new(&host.cpus, &taken);
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
    let chosen = match pin {
        Some(pin) => {
            let usable = pin.intersection(cores.usable());
            let ordered = cores.ordered(&usable);
            (ordered.len() >= count).then(|| ordered[..count].to_vec())
        }
        None => own.as_ref().map(|own| own.cpus.clone()),
    };
    let pinned = chosen.is_some();
    let vcpus: Vec<CpuSet> = match &chosen {
        Some(cpus) => cpus.iter().map(|cpu| CpuSet::from_iter([*cpu])).collect(),
        None => vec![cores.shared(); count],
    };
    let used: CpuSet = chosen.iter().flatten().copied().collect();
    let asked =
        |set: &Option<CpuSet>| set.as_ref().map(|set| set.intersection(cores.usable())).filter(|s| !s.is_empty());
    let emulator = asked(&cpu.emulator).unwrap_or_else(|| cores.closest(&used));
    let io = asked(&cpu.iothreads).unwrap_or_else(|| emulator.clone());
    let derived = match &chosen {
        Some(cpus) if kvm => cores.topology(cpus),
        _ => {
            let cores = u32::try_from(count).unwrap_or(u32::MAX);
            (Topology { sockets: 1, dies: 1, cores, threads: 1 }, false)
        }
    };
    let placement = Placement {
        vcpus,
        pinned,
        emulator,
        iothreads: iothreads.iter().map(|id| (id.clone(), io.clone())).collect(),
        topology: cpu.topology.unwrap_or(derived.0),
        why: own.as_ref().filter(|_| pin.is_none()).map(|own| own.why.clone()),
    };
    let faithful = pinned && derived.1 && placement.topology == derived.0;
    let found = Found { cores: &cores, wish: &wish, own: own.as_ref(), keeps, placement: &placement };
    checks::check(draft, &found);
    (placement, faithful)
}
