//! Which CPUs each of QEMU's threads runs on.
//!
//! vCPU threads one to a CPU, SMT siblings adjacent, in one L3 domain where they fit, on performance cores; the emulator
//! and I/O threads on the host's CPUs closest to them. The topology that the guest sees is derived from it, so that the
//! guest's scheduler knows the truth.

mod checks;
mod choose;
mod cores;

use serde::{Deserialize, Serialize};

use super::draft::Draft;
use crate::machine::Topology;
use crate::units::CpuSet;
use cores::Cores;

/// vCPUs of a machine that names neither their number nor their CPUs.
const DEFAULT_VCPUS: u32 = 2;

/// The placement of every thread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Placement {
    /// The host CPU set of each vCPU thread, by `cpu-index`. One CPU each where pinned; all allowed CPUs where the host
    /// has too few to pin.
    pub vcpus: Vec<CpuSet>,
    /// Whether each vCPU has a CPU of its own.
    pub pinned: bool,
    /// The CPUs of QEMU's main thread, its worker threads and the helpers.
    pub emulator: CpuSet,
    /// The CPUs of each I/O thread, by id.
    pub iothreads: Vec<(String, CpuSet)>,
    /// The topology that the guest is shown.
    pub topology: Topology,
}

impl Placement {
    /// All CPUs that vCPU threads may run on.
    pub fn vcpu_set(&self) -> CpuSet {
        self.vcpus.iter().flat_map(CpuSet::iter).collect()
    }
}

/// Places all threads and says what is not ideal about it. With emulation (not `kvm`) the guest is shown cores only: TCG's
/// CPU has no SMT to show. The second value tells whether the guest's topology is that of
/// the CPUs below it: each vCPU pinned and each guest core one whole host core.
pub(super) fn place(draft: &mut Draft, kvm: bool, iothreads: &[String]) -> (Placement, bool) {
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

#[cfg(test)]
mod tests;
