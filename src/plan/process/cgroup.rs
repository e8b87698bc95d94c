//! Which cgroup QEMU lives in, so that all that belongs to the guest can be told from all that does not.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::change::{self, Change};
use crate::machine::Isolate;
use crate::plan::PlannedChange;
use crate::plan::draft::Draft;
use crate::units::Origin;

/// QEMU's cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cgroup {
    /// That of the launcher.
    Ours,
    /// A group that the launcher makes; one of the plan's changes.
    Made(PathBuf),
    /// A transient scope that systemd makes, so that QEMU outlives the session that the launcher was started in.
    Scope(String),
}

/// Where the unified hierarchy is mounted.
pub(in crate::plan) const MOUNT: &str = "/sys/fs/cgroup";
const DELEGATED: &str = "the launcher's unit is delegated to it";

/// Decides by the unit that the launcher runs in. If systemd runs, cgroups belong to it, except below a unit that it
/// delegates (<https://systemd.io/CGROUP_DELEGATION/>); the units of `vfio-run unit` are.
pub(in crate::plan) fn choose(draft: &mut Draft<'_>) -> Cgroup {
    let process = &draft.host.process;
    let Some(own) = process.cgroup.as_deref().filter(|_| process.uid == 0) else { return Cgroup::Ours };
    let name = &draft.machine.name;
    let made = |draft: &mut Draft<'_>, path: PathBuf, why: &str| {
        draft.change(change::Cgroup { path: path.clone() }, Origin::Fact(why.to_owned()));
        Cgroup::Made(path)
    };
    let own = Path::new(MOUNT).join(own.trim_start_matches('/'));
    match (&process.unit, process.systemd) {
        (Some(unit), _) if unit.starts_with("vfio-run-") => made(draft, own.join("guest"), DELEGATED),
        // Another unit is not ours to divide, and its stop is meant to end the guest too.
        (Some(_), _) => Cgroup::Ours,
        (None, true) => Cgroup::Scope(format!("vfio-run-{name}.scope")),
        (None, false) => made(draft, Path::new(MOUNT).join("vfio-run").join(name), "no systemd runs here"),
    }
}

/// The slice at the top that is the machine's own, with no other. A `-` in its name would put it below another one
/// (systemd.slice(5)).
pub(in crate::plan) fn own_slice(machine: &str) -> String {
    format!("vfiorun{}.slice", machine.replace('-', "\\x2d"))
}

/// The slice that QEMU's scope must be in, so that its CPUs can become its own; `None`: any.
pub(in crate::plan) fn slice(draft: &Draft<'_>) -> Option<String> {
    let is_needed = draft.machine.host.isolate == Some(Isolate::Partition)
        && draft.host.cpusets.as_ref().is_some_and(|cpusets| !cpusets.exclusive && cpusets.offered);
    is_needed.then(|| own_slice(&draft.machine.name))
}

/// The guest's group below the unit that the launcher moves to. The change that makes it takes the place, among the
/// changes, of the one that was decided for the unit that the launcher is in now.
pub(in crate::plan) fn of_unit(draft: &mut Draft<'_>, place: usize, unit: &str) -> Cgroup {
    let path =
        Path::new(MOUNT).join(slice(draft).unwrap_or_else(|| "system.slice".to_owned())).join(unit).join("guest");
    let change = change::Cgroup { path: path.clone() }.into();
    draft.changes.retain(|planned| !matches!(planned.change, Change::Cgroup(_)));
    let origin = Origin::Fact(DELEGATED.to_owned());
    draft.changes.insert(place.min(draft.changes.len()), PlannedChange { change, origin, optional: false });
    Cgroup::Made(path)
}
