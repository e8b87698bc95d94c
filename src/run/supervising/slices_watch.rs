//! Notices that systemd has made a slice, scope or service at the top since the guest's CPUs were left by those there were, and
//! has it leave them too. The kernel tells of a new group there (seen with inotify on cgroup2), so nobody wakes up while none
//! comes.

use std::collections::BTreeSet;
use std::future::pending;
use std::io;

use rustix::fs::inotify::WatchFlags;

use super::inotify::Watched;
use crate::change::{Change, NarrowSlices, Nothing, Step, unattended};
use crate::host::Root;
use crate::plan::{Isolation, can_leave_cpus};
use crate::units::CGROUPS;

/// A watch on the groups at the top.
pub(super) struct SlicesWatch {
    change: NarrowSlices,
    watched: Watched,
}

impl SlicesWatch {
    /// Watches them, if the guest's CPUs are its own by slices.
    pub fn watch(isolation: Option<&Isolation>, root: &Root) -> Option<Self> {
        let changes = isolation?.changes.iter();
        let change = changes.map(|planned| &planned.change).find_map(|change| match change {
            Change::NarrowSlices(change) => Some(change.clone()),
            _ => None,
        })?;
        let watch = || -> io::Result<Self> {
            let watched = Watched::new(&root.path(CGROUPS), WatchFlags::CREATE | WatchFlags::ONLYDIR)?;
            Ok(Self { change, watched })
        };
        let unwatched = |error: &io::Error| {
            tracing::warn!(
                "slices that begin from now on may use the guest's CPUs: {CGROUPS} cannot be watched: {error}"
            );
        };
        watch().inspect_err(unwatched).ok()
    }

    /// Has those that are new leave the guest's CPUs, and says which. What they had stands in the folder that the machines
    /// share, and so is given back with the others'.
    pub fn look(&mut self, root: &Root) {
        let known: BTreeSet<&String> = self.change.units.iter().collect();
        let new: Vec<String> =
            root.names(CGROUPS).into_iter().filter(|name| can_leave_cpus(name) && !known.contains(name)).collect();
        if new.is_empty() {
            return;
        }
        self.change.units.extend(new.iter().cloned());
        let (names, cpus) = (new.join(", "), self.change.cpus.numbered());
        match self.change.apply(root, &Nothing::Nothing, &unattended) {
            Ok(()) => tracing::info!(event = "slices", "{names} began since the start, and leaves {cpus} too"),
            Err(error) => {
                tracing::warn!(event = "slices", "{names} began since the start, and may use {cpus}: {error}");
            }
        }
    }
}

/// Waits until a group has come at the top; for ever if nothing is watched.
pub(super) async fn begun(watch: Option<&SlicesWatch>) -> io::Result<()> {
    match watch {
        Some(watch) => watch.watched.happens().await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::PlannedChange;
    use crate::units::Origin;

    #[tokio::test]
    async fn a_slice_that_begins_later_leaves_the_cpus_and_has_its_own_back() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let group = |name: &str| root.path(CGROUPS).join(name);
        let add = |name: &str| {
            std::fs::create_dir_all(group(name)).unwrap();
            std::fs::write(group(name).join("cpuset.cpus"), "\n").unwrap();
            std::fs::write(group(name).join("cgroup.events"), "populated 1\n").unwrap();
        };
        add("system.slice");
        std::fs::write(root.path(CGROUPS).join("cgroup.subtree_control"), "cpuset\n").unwrap();
        std::fs::create_dir_all(root.path("/run/vfio-run/win11")).unwrap();
        let change = NarrowSlices {
            machine: "win11".to_owned(),
            run: "/run/vfio-run/win11".into(),
            own: "vfiorunwin11.slice".to_owned(),
            units: vec!["system.slice".to_owned()],
            cpus: "2-3".parse().unwrap(),
            all: "0-3".parse().unwrap(),
        };
        change.apply(&root, &Nothing::Nothing, &unattended).unwrap();
        let planned =
            PlannedChange { change: change.clone().into(), origin: Origin::Default(String::new()), optional: false };
        let isolation = Isolation {
            cpus: change.cpus.clone(),
            threads: None,
            slice: Some(change.own.clone()),
            required: true,
            changes: vec![planned],
        };
        let mut watch = SlicesWatch::watch(Some(&isolation), &root).unwrap();
        // No unit, and the slice of another machine.
        add("docker");
        add("vfiorunother.slice");
        add("machine.slice");
        tokio::time::timeout(Duration::from_secs(10), begun(Some(&watch))).await.unwrap().unwrap();
        watch.look(&root);
        let cpus = |name: &str| std::fs::read_to_string(group(name).join("cpuset.cpus")).unwrap().trim().to_owned();
        assert_eq!(["machine.slice", "docker", "vfiorunother.slice"].map(cpus), ["0-1", "", ""]);
        // The record knows nothing of it, and the undo does.
        change.undo(&root, &Nothing::Nothing).unwrap();
        let back = cpus("machine.slice");
        assert!(back.is_empty() || back == "0-3", "{back}");
    }
}
