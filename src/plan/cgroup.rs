//! Which cgroup QEMU lives in, so that all that belongs to the guest can be told from all that does not.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Origin;
use super::draft::Draft;
use crate::change::Change;

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

const MOUNT: &str = "/sys/fs/cgroup";

/// Decides by where the launcher runs. Cgroups belong to systemd where it runs, but for those below a unit that it
/// delegates (<https://systemd.io/CGROUP_DELEGATION/>); the units of `vfio-run unit` are.
pub(super) fn choose(draft: &mut Draft<'_>) -> Cgroup {
    let process = &draft.host.process;
    let Some(own) = process.cgroup.as_deref().filter(|_| process.uid == 0) else { return Cgroup::Ours };
    let name = &draft.machine.name;
    let made = |draft: &mut Draft<'_>, path: PathBuf, why: &str| {
        draft.change(Change::Cgroup { path: path.clone() }, Origin::Fact(why.to_owned()));
        Cgroup::Made(path)
    };
    let own = Path::new(MOUNT).join(own.trim_start_matches('/'));
    match (&process.unit, process.systemd) {
        (Some(unit), _) if unit.starts_with("vfio-run-") => {
            made(draft, own.join("guest"), "the launcher's unit is delegated to it")
        }
        // Another unit is not ours to divide, and its stop is meant to end the guest too.
        (Some(_), _) => Cgroup::Ours,
        (None, true) => Cgroup::Scope(format!("vfio-run-{name}.scope")),
        (None, false) => made(draft, Path::new(MOUNT).join("vfio-run").join(name), "no systemd runs here"),
    }
}
