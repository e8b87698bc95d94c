//! A partition of just the vCPUs' CPUs, in a threaded group below QEMU's. Of the host only one list in each group above
//! is written. Sources: `Documentation/admin-guide/cgroup-v2.rst`, "Cpuset Interface Files", for partitions whose parent
//! is none ("remote"); <https://systemd.io/CGROUP_DELEGATION/>.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::draft::Draft;
use super::super::{Cgroup, Move, PlannedChange};
use super::in_the_way::InTheWay;
use crate::change::{Affinities, Change, CpusetController, ExclusiveCpus, Partition, VcpuGroup};
use crate::host::Cpusets;
use crate::units::{CGROUPS, CpuSet, Origin};

/// How everything else of the host is kept off the vCPUs' CPUs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Isolation {
    /// The CPUs that nothing else runs on.
    pub cpus: CpuSet,
    /// The threaded group that the vCPUs' threads move to; `None`: they stay in QEMU's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<PathBuf>,
    /// The slice of the machine's own that QEMU's scope is in; `None`: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<String>,
    /// Whether the machine file asks for it: then the guest does not start without.
    #[serde(default)]
    pub required: bool,
    /// What is done once QEMU waits in its group, before its threads are placed; undone in reverse.
    pub changes: Vec<PlannedChange>,
}

impl Isolation {
    /// The units of the host's that leave the CPUs; `None`: there is a partition instead.
    pub fn of_slices(&self) -> Option<&[String]> {
        self.changes.iter().find_map(|planned| match &planned.change {
            Change::NarrowSlices(change) => Some(change.units.as_slice()),
            _ => None,
        })
    }

    /// The group that is the partition.
    pub fn partition(&self) -> Option<&Path> {
        self.changes.iter().find_map(|planned| match &planned.change {
            Change::Partition(partition) => Some(partition.group.as_path()),
            _ => None,
        })
    }
}

/// The partition below QEMU's group.
pub(super) fn make(
    draft: &Draft,
    cpusets: &Cpusets,
    cgroup: &Cgroup,
    moves: Option<&Move>,
    cpus: CpuSet,
) -> Result<Isolation, InTheWay> {
    let (mount, systemd) = (Path::new(CGROUPS), draft.host.process.systemd);
    let clears = |group: &Path| CpusetController { group: group.to_owned(), clears: true };
    let switches = |group: &Path| CpusetController { group: group.to_owned(), clears: false };
    let Some(group) = cgroup.folder() else { return Err(InTheWay::of_foreign_unit(&draft.host.process)) };
    let controllers = match cgroup {
        Cgroup::Made(_) => match group.parent() {
            Some(unit) if systemd => {
                // The launcher looks again when it has moved there.
                if moves.is_none() && !cpusets.delegated {
                    let name = unit.file_name().unwrap_or_default().display();
                    let detail = format!("{name} may not divide its CPUs (`Delegate=` is without cpuset)");
                    return Err(InTheWay::new(detail, "write the unit anew with `vfio-run unit --install`"));
                }
                vec![clears(unit), switches(&group)]
            }
            above => {
                let above = above.filter(|above| *above != mount);
                [Some(mount), above, Some(&*group)].into_iter().flatten().map(switches).collect()
            }
        },
        _ => vec![switches(&group)],
    };
    let threads = group.join("vcpus");
    let levels: Vec<&Path> = threads.ancestors().take_while(|level| *level != mount).collect();
    let mut changes: Vec<Change> = controllers.into_iter().map(Change::from).collect();
    changes.push(VcpuGroup { path: threads.clone(), cpus: cpus.clone() }.into());
    // From the top: the kernel lets a group have no more than the one above.
    let exclusive = |level: &Path| ExclusiveCpus { group: level.to_owned(), cpus: cpus.clone() }.into();
    changes.extend(levels.into_iter().rev().map(exclusive));
    changes.push(Partition { group: threads.clone(), cpus: cpus.clone() }.into());
    let changes = planned(draft, changes);
    Ok(Isolation { cpus, threads: Some(threads), slice: None, required: true, changes })
}

/// The changes of any way to isolate, behind the one that each begins with: the kernel forgets which threads are kept.
pub(super) fn planned(draft: &Draft, changes: impl IntoIterator<Item = Change>) -> Vec<PlannedChange> {
    let origin = match draft.machine.host.isolate {
        Some(_) => draft.file("host.isolate"),
        None => Origin::Default("vCPUs that have CPUs of their own have them alone".to_owned()),
    };
    let first = Affinities {
        all: draft.host.cpus.online.clone(),
        machine: Some(draft.machine.name.clone()),
        run: Some(draft.paths.run.clone()),
    };
    let all = std::iter::once(first.into()).chain(changes);
    all.map(|change| PlannedChange { change, origin: origin.clone(), optional: false }).collect()
}
