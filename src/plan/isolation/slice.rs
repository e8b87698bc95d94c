//! A slice at the top that is a machine's own, as one partition of the CPUs of all of QEMU's threads. Kernels before 6.7
//! make no partition below a group that is none, so this is what they can do; the CPUs of the emulator's threads are
//! lost to the host too. Source: `Documentation/admin-guide/cgroup-v2.rst`, "Cpuset Interface Files".

use std::path::Path;

use super::super::draft::Draft;
use super::super::process::unit_group::own_slice;
use super::super::{Cgroup, Placement};
use super::in_the_way::InTheWay;
use super::partition::{Isolation, planned};
use crate::change::{AllowedCpus, Change, Partition};
use crate::host::Cpusets;
use crate::units::{CGROUPS, CpuSet};

/// The slice of the machine. The emulator's threads get CPUs in it.
pub(super) fn make(
    draft: &Draft,
    cpusets: &Cpusets,
    cgroup: &Cgroup,
    placement: &mut Placement,
    guest: CpuSet,
) -> Result<Isolation, InTheWay> {
    let process = &draft.host.process;
    if !process.systemd {
        let detail = "this kernel makes no cpuset partition below a group that is none, which Linux 6.7 and later do";
        return Err(InTheWay::new(detail, "use a newer kernel"));
    }
    let slice = own_slice(&draft.machine.name);
    let group = Path::new(CGROUPS).join(&slice);
    match cgroup {
        Cgroup::Scope(_) => {}
        // Tried with 6.1: when the unit's slice goes, after its launcher, the kernel forgets what the undo has put back.
        Cgroup::Made(_) => {
            let detail = "before Linux 6.7 a machine that is a unit cannot have one";
            let in_the_way = InTheWay::new(detail, "use a newer kernel, or start the machine outside of a unit");
            return Err(InTheWay { beyond_reach: true, ..in_the_way });
        }
        Cgroup::Ours => return Err(InTheWay::of_foreign_unit(process)),
    }
    let rest = draft.host.cpus.online.difference(&guest);
    let emulator = emulator(draft, placement, &rest);
    if rest.difference(&emulator).is_empty() {
        let detail =
            "with the emulator's threads the guest has all CPUs of the host, so none is left for everything else";
        return Err(InTheWay::new(
            detail,
            "use fewer vCPUs, or a newer kernel (Linux 6.7), which isolates the vCPUs alone",
        ));
    }
    let cpus = guest.union(&emulator);
    let taken = cpus.difference(&cpusets.effective);
    if !taken.is_empty() {
        let detail = format!("another cpuset partition has {}, as that of another machine", taken.numbered());
        return Err(InTheWay::new(detail, "choose others in `cpu.pin` and `cpu.emulator`, or end what has them"));
    }
    let overlaps = |(name, list): &(&String, &CpuSet)| **name != slice && !list.intersection(&cpus).is_empty();
    if let Some((name, list)) = cpusets.lists.iter().find(overlaps) {
        let detail =
            format!("{name} was given {}, and this kernel makes no partition of what is in it", list.numbered());
        return Err(InTheWay::new(detail, "take `AllowedCPUs=` off it, or choose other CPUs in `cpu.pin`"));
    }
    placement.emulator = emulator.clone();
    placement.iothreads.iter_mut().for_each(|(_, cpus)| *cpus = emulator.clone());
    let changes: [Change; 2] = [
        AllowedCpus { slice: slice.clone(), cpus: cpus.clone() }.into(),
        Partition { group, cpus: cpus.clone() }.into(),
    ];
    let changes = planned(draft, changes);
    Ok(Isolation { cpus, threads: None, slice: Some(slice), required: true, changes })
}

/// The CPUs for all threads that are no vCPU: those that the machine file names, else one.
fn emulator(draft: &Draft, placement: &Placement, rest: &CpuSet) -> CpuSet {
    let cpu = &draft.machine.cpu;
    let named = [&cpu.emulator, &cpu.iothreads].into_iter().flatten().fold(CpuSet::new(), |all, set| all.union(set));
    let named = named.intersection(rest);
    if !named.is_empty() {
        return named;
    }
    let own = placement.emulator.intersection(rest);
    // The last one: much of what cannot move is on the host's first.
    own.iter().next_back().or_else(|| rest.iter().next_back()).into_iter().collect()
}
