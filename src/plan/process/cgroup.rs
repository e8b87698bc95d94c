//! Which cgroup QEMU lives in, so that all that belongs to the guest can be told from all that does not.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::change::{self, Change};
use crate::plan::PlannedChange;
use crate::plan::draft::Draft;
use crate::units::{CGROUPS, Origin};

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

/// The slice of units that name no other (systemd.special(7)).
fn in_system_slice(unit: &str) -> PathBuf {
    Path::new(CGROUPS).join("system.slice").join(unit)
}

impl Cgroup {
    /// Its folder, unless it is the launcher's own.
    pub(in crate::plan) fn folder(&self) -> Option<PathBuf> {
        match self {
            Self::Ours => None,
            Self::Made(path) => Some(path.clone()),
            Self::Scope(name) => Some(in_system_slice(name)),
        }
    }
}

const DELEGATED: &str = "the launcher's unit is delegated to it";

/// Whether a unit of this name is one of `vfio-run unit`, or of the template.
fn is_ours(unit: &str) -> bool {
    unit.strip_prefix("vfio-run").is_some_and(|rest| rest.starts_with(['-', '@']))
}

/// Decides by the unit that the launcher runs in. If systemd runs, cgroups belong to it, except below a unit that it
/// delegates (<https://systemd.io/CGROUP_DELEGATION/>); our own units are.
pub(in crate::plan) fn choose(draft: &mut Draft<'_>) -> Cgroup {
    let process = &draft.host.process;
    let Some(own) = process.cgroup.as_deref().filter(|_| process.uid == 0) else { return Cgroup::Ours };
    let name = &draft.machine.name;
    let made = |draft: &mut Draft<'_>, path: PathBuf, why: &str| {
        draft.change(change::Cgroup { path: path.clone() }, Origin::Fact(why.to_owned()));
        Cgroup::Made(path)
    };
    let own = Path::new(CGROUPS).join(own.trim_start_matches('/'));
    match (&process.unit, process.systemd) {
        (Some(unit), _) if is_ours(unit) => made(draft, own.join("guest"), DELEGATED),
        // Another unit is not ours to divide, and its stop is meant to end the guest too.
        (Some(_), _) => Cgroup::Ours,
        (None, true) => Cgroup::Scope(format!("vfio-run-{name}.scope")),
        (None, false) => made(draft, Path::new(CGROUPS).join("vfio-run").join(name), "no systemd runs here"),
    }
}

/// The guest's group below the unit that the launcher moves to. The change that makes it takes the place, among the
/// changes, of the one that was decided for the unit that the launcher is in now.
pub(in crate::plan) fn of_unit(draft: &mut Draft<'_>, place: usize, unit: &str) -> Cgroup {
    let path = in_system_slice(unit).join("guest");
    let change = change::Cgroup { path: path.clone() }.into();
    draft.changes.retain(|planned| !matches!(planned.change, Change::Cgroup(_)));
    let origin = Origin::Fact(DELEGATED.to_owned());
    draft.changes.insert(place.min(draft.changes.len()), PlannedChange { change, origin, optional: false });
    Cgroup::Made(path)
}
