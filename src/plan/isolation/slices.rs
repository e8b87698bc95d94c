//! systemd's slices at the top leave the vCPUs' CPUs, and the machine is in a slice of its own, which does not. Threads of the
//! kernel's may come. Source: systemd.resource-control(5), `AllowedCPUs=`.

use std::path::Path;

use super::super::draft::Draft;
use super::super::process::unit_group::own_slice;
use super::super::{Cgroup, Move};
use super::in_the_way::InTheWay;
use super::partition::{Isolation, planned};
use crate::change::NarrowSlices;
use crate::host::Cpusets;
use crate::units::{CGROUPS, CpuSet};

/// The slices that leave the CPUs.
pub(super) fn make(
    draft: &Draft,
    cpusets: &Cpusets,
    cgroup: &Cgroup,
    moves: Option<&Move>,
    cpus: CpuSet,
) -> Result<Isolation, InTheWay> {
    let process = &draft.host.process;
    let is_old = !cpusets.exclusive;
    if !process.systemd {
        let detail = "without systemd nobody keeps the host's programs in groups that can leave the vCPUs' CPUs";
        let remedy = if is_old {
            "use a newer kernel (Linux 6.7) with `isolate: Partition`"
        } else {
            "write `isolate: Partition`"
        };
        return Err(InTheWay::new(detail, remedy));
    }
    let own = own_slice(&draft.machine.name);
    match cgroup {
        Cgroup::Scope(_) => {}
        // The launcher looks again when it has moved there.
        Cgroup::Made(_) if moves.is_some() => {}
        Cgroup::Made(group) if group.starts_with(Path::new(CGROUPS).join(&own)) && !cpusets.delegated => {}
        Cgroup::Made(group) => {
            let unit = group.parent().and_then(Path::file_name).unwrap_or_default().display();
            let detail = format!("{unit} is not in a slice of its own ({own}) that could keep the vCPUs' CPUs");
            return Err(InTheWay::new(detail, "write the unit anew with `vfio-run unit --install`"));
        }
        Cgroup::Ours => return Err(InTheWay::of_foreign_unit(process)),
    }
    let all = &draft.host.cpus.online;
    let taken = all.difference(&cpusets.effective);
    if is_old && !taken.is_empty() {
        let detail = format!(
            "another cpuset partition has {}, as that of another machine, and this kernel ends it when slices get CPUs",
            taken.numbered()
        );
        return Err(InTheWay::new(detail, "end what has them, or have that machine isolated by `Slices` too"));
    }
    let units: Vec<String> = units(cpusets).cloned().collect();
    if units.is_empty() {
        return Err(InTheWay::new("systemd has no slices here that could leave the vCPUs' CPUs", "mount cgroup v2"));
    }
    let (machine, run) = (draft.machine.name.clone(), draft.paths.run.clone());
    let narrow = NarrowSlices { machine, run, own: own.clone(), units, cpus: cpus.clone(), all: all.clone() };
    let changes = planned(draft, [narrow.into()]);
    Ok(Isolation { cpus, threads: None, slice: Some(own), required: true, changes })
}

/// The units at the top that are no machine's own.
pub(super) fn units(cpusets: &Cpusets) -> impl Iterator<Item = &String> {
    cpusets.groups.iter().filter(|name| can_leave_cpus(name))
}

/// The groups at the top that systemd does not manage.
pub(super) fn others(cpusets: &Cpusets) -> Vec<&str> {
    let groups = cpusets.groups.iter().map(String::as_str);
    groups.filter(|name| !Cpusets::is_unit(name) && *name != "vfio-run" && !is_below_systemd(name)).collect()
}

/// Mounts, sockets and the like are units of systemd's too, with helpers that end at once.
fn is_below_systemd(group: &str) -> bool {
    matches!(group.rsplit_once('.'), Some((_, "mount" | "socket" | "swap")))
}

/// Whether a group at the top is a unit of systemd's for the host's programs, and no machine's own slice.
pub fn can_leave_cpus(group: &str) -> bool {
    Cpusets::is_unit(group) && !group.starts_with("vfiorun")
}
