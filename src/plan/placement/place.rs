//! Places every thread of QEMU.

use super::super::draft::Draft;
use super::cores::Cores;
use super::placed::Placement;
use super::{checks, choose};
use crate::machine::Topology;
use crate::units::CpuSet;

/// vCPUs of a machine that names neither their number nor their CPUs.
const DEFAULT_VCPUS: u32 = 2;

/// Places all threads and says what is not ideal about it. With emulation (not `kvm`) the guest is shown cores only: TCG's
/// CPU has no SMT to show. The second value tells whether the guest's topology is that of
/// the CPUs below it: each vCPU pinned and each guest core one whole host core.
pub(in super::super) fn place(draft: &mut Draft, kvm: bool, iothreads: &[String]) -> (Placement, bool) {
    let cpu = &draft.machine.cpu;
    let cores = Cores::new(&draft.host.cpus);
    // An empty list pins nothing.
    let pin = cpu.pin.as_ref().filter(|pin| !pin.is_empty());
    let wanted = cpu.vcpus.or_else(|| u32::try_from(pin?.len()).ok()).unwrap_or(DEFAULT_VCPUS);
    let count = wanted.max(1) as usize;
    let chosen = match pin {
        Some(pin) => {
            let usable = pin.intersection(cores.usable());
            let ordered = cores.ordered(&usable);
            (ordered.len() >= count).then(|| ordered[..count].to_vec())
        }
        None => choose::choose(&cores, count),
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
        _ => (Topology { sockets: 1, dies: 1, cores: wanted.max(1), threads: 1 }, false),
    };
    let placement = Placement {
        vcpus,
        pinned,
        emulator,
        iothreads: iothreads.iter().map(|id| (id.clone(), io.clone())).collect(),
        topology: cpu.topology.unwrap_or(derived.0),
    };
    let faithful = pinned && derived.1 && placement.topology == derived.0;
    checks::check(draft, &cores, &placement, count);
    (placement, faithful)
}
