//! What the host's cgroups say about CPUs: whether a partition can be made (`Documentation/admin-guide/cgroup-v2.rst`,
//! "Cpuset").

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Root;
use crate::units::{CGROUPS, CpuSet, EFFECTIVE_CPUS};

/// What the host's cgroups say about CPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpusets {
    /// Whether the kernel has the controller `cpuset` for cgroup v2.
    #[serde(default)]
    pub offered: bool,
    /// Whether our own group may use it, as far as who made the group lets it.
    #[serde(default)]
    pub delegated: bool,
    /// Whether partitions can be made below groups that are none (`cpuset.cpus.exclusive`, Linux 6.7).
    #[serde(default)]
    pub exclusive: bool,
    /// The CPUs that belong to no partition.
    #[serde(default)]
    pub effective: CpuSet,
    /// The CPUs of those groups at the top that were given some.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lists: BTreeMap<String, CpuSet>,
    /// The groups at the top that are units of systemd's for processes, or have processes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

impl Cpusets {
    /// `own` is our path in the hierarchy.
    pub(super) fn read(root: &Root, own: Option<&str>) -> Self {
        let has = |group: &str| {
            let controllers = root.text(format!("{CGROUPS}{group}/cgroup.controllers")).unwrap_or_default();
            controllers.split_ascii_whitespace().any(|name| name == "cpuset")
        };
        let list = |name: &String| root.list(format!("{CGROUPS}/{name}/cpuset.cpus")).filter(|cpus| !cpus.is_empty());
        let is_populated = |name: &String| {
            let events = root.text(format!("{CGROUPS}/{name}/cgroup.events")).unwrap_or_default();
            events.lines().any(|line| line == "populated 1")
        };
        let groups = root.names(CGROUPS).into_iter().filter(|name| Self::is_unit(name) || is_populated(name));
        // The groups have the file while the controller is on for them; the root has the other one always, from 6.8 on.
        let exclusive = root.path(format!("{CGROUPS}/cpuset.cpus.isolated")).exists()
            || root
                .names(CGROUPS)
                .iter()
                .any(|name| root.path(format!("{CGROUPS}/{name}/cpuset.cpus.exclusive")).exists());
        Self {
            offered: has(""),
            delegated: own.is_some_and(has),
            exclusive,
            effective: root.list(EFFECTIVE_CPUS).unwrap_or_default(),
            lists: root.names(CGROUPS).into_iter().filter_map(|name| Some((name.clone(), list(&name)?))).collect(),
            groups: groups.collect(),
        }
    }

    /// Whether a group of this name is that of a unit of systemd's for processes.
    pub fn is_unit(group: &str) -> bool {
        matches!(group.rsplit_once('.'), Some((_, "slice" | "scope" | "service")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::sample_tree;

    fn read(files: &[(&str, &str)]) -> Cpusets {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            sample_tree::put(&folder.path().join("sys/fs/cgroup"), path, text);
        }
        Cpusets::read(&Root::new(folder.path()), Some("/system.slice/vfio-run-a.service"))
    }

    #[test]
    fn a_partition_needs_a_controller_and_a_file() {
        assert_eq!(read(&[]), Cpusets::default());
        let old = read(&[
            ("cgroup.controllers", "cpuset cpu io\n"),
            ("cpuset.cpus.effective", "0-3\n"),
            ("system.slice/cpuset.cpus", "\n"),
            ("user.slice/cpuset.cpus", "0-1\n"),
            ("system.slice/vfio-run-a.service/cgroup.controllers", "pids\n"),
            ("docker/cgroup.events", "populated 1\nfrozen 0\n"),
            ("dev-hugepages.mount/cgroup.events", "populated 0\nfrozen 0\n"),
        ]);
        let lists = [("user.slice".to_owned(), CpuSet::from_iter([0, 1]))].into();
        let (effective, groups) =
            (CpuSet::from_iter(0..4), ["docker", "system.slice", "user.slice"].map(str::to_owned).to_vec());
        assert_eq!(old, Cpusets { offered: true, effective, lists, groups, ..Cpusets::default() });
        let own = ("system.slice/vfio-run-a.service/cgroup.controllers", "cpuset pids\n");
        assert!(read(&[own]).delegated);
        assert!(read(&[("cpuset.cpus.isolated", "\n")]).exclusive);
        assert!(read(&[("user.slice/cpuset.cpus.exclusive", "\n")]).exclusive);
    }
}
