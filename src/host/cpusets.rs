//! What the host's cgroups say about CPUs: whether a partition can be made (`Documentation/admin-guide/cgroup-v2.rst`,
//! "Cpuset").

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Root;
use super::process::unified;
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

    /// The CPUs that a process in these groups may run on (its `cgroup` file, cgroups(7)), whatever its affinity is; `None`
    /// if no group says.
    pub(super) fn own(root: &Root, groups: &str) -> Option<CpuSet> {
        let v1 = || {
            let path = groups.lines().find_map(|line| {
                let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
                controllers.split(',').any(|name| name == "cpuset").then_some(path)
            })?;
            nearest(root, &format!("{CGROUPS}/cpuset"), path, &["cpuset.effective_cpus", "cpuset.cpus"])
        };
        let v2 = unified(groups).and_then(|path| nearest(root, CGROUPS, path, &["cpuset.cpus.effective"]));
        v2.or_else(v1)
    }

    /// Whether a group of this name is that of a unit of systemd's for processes.
    pub fn is_unit(group: &str) -> bool {
        matches!(group.rsplit_once('.'), Some((_, "slice" | "scope" | "service")))
    }
}

/// The list of the nearest group that has one of these files, from the one with this path up to the top. A path that leads
/// out of the hierarchy, as a namespace may show it, is the top's.
fn nearest(root: &Root, mount: &str, path: &str, names: &[&str]) -> Option<CpuSet> {
    let mut path = if path.split('/').any(|part| part == "..") { "" } else { path.trim_end_matches('/') };
    loop {
        let mut lists = names.iter().filter_map(|name| root.list(format!("{mount}{path}/{name}")));
        if let Some(list) = lists.find(|list| !list.is_empty()) {
            return Some(list);
        }
        path = path.rsplit_once('/')?.0;
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

    #[test]
    fn our_own_cpus_are_those_of_the_nearest_group_that_says() {
        let own = |groups: &str, files: &[(&str, &str)]| {
            let folder = tempfile::tempdir().unwrap();
            for (path, text) in files {
                sample_tree::put(&folder.path().join("sys/fs/cgroup"), path, text);
            }
            Cpusets::own(&Root::new(folder.path()), groups).map(|cpus| cpus.to_string())
        };
        let groups = "0::/system.slice/a.service\n";
        let top = ("cpuset.cpus.effective", "0-7\n");
        assert_eq!(own(groups, &[]), None);
        assert_eq!(own(groups, &[top]).as_deref(), Some("0-7"));
        assert_eq!(own(groups, &[top, ("system.slice/cpuset.cpus.effective", "2-5\n")]).as_deref(), Some("2-5"));
        assert_eq!(own("0::/../../b\n", &[top]).as_deref(), Some("0-7"));
        let old = "5:cpuset,memory:/docker/1\n0::/\n";
        assert_eq!(own(old, &[("cpuset/docker/cpuset.cpus", "1-2\n")]).as_deref(), Some("1-2"));
        let both = [("cpuset/docker/1/cpuset.cpus", "\n"), ("cpuset/docker/1/cpuset.effective_cpus", "3\n")];
        assert_eq!(own(old, &both).as_deref(), Some("3"));
    }
}
