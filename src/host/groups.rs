//! Groups of processes that a machine names: units and slices of systemd's, and groups below them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Root;
use crate::units::CGROUPS;

/// How many groups are looked at, of a host with any number.
const LIMIT: usize = 4096;

/// A group that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its folder.
    pub path: PathBuf,
    /// The units in it, itself included: every part of a path that names one.
    pub units: Vec<String>,
    /// Whether somebody has frozen it already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub frozen: bool,
}

/// Looks for groups. `None`: there is none of this name.
pub(super) fn find(root: &Root, names: &[String]) -> BTreeMap<String, Option<Group>> {
    names.iter().map(|name| (name.clone(), look(root, name))).collect()
}

fn look(root: &Root, name: &str) -> Option<Group> {
    let path = match name.strip_prefix('/') {
        Some(path) => format!("{CGROUPS}/{path}"),
        None => {
            let (unit, below) = name.split_once('/').unwrap_or((name, ""));
            let mut left = LIMIT;
            let found = unit_of(root, CGROUPS.to_owned(), unit, &mut left)?;
            format!("{found}/{below}").trim_end_matches('/').to_owned()
        }
    };
    let frozen = root.text(format!("{path}/cgroup.freeze"))? == "1";
    let mut units = Vec::new();
    gather(root, &path, &mut units);
    Some(Group { path: path.into(), units, frozen })
}

/// The unit's group. Only slices are searched: what is below a service or a scope was made by that one, which may be a
/// user's, under any name.
fn unit_of(root: &Root, group: String, unit: &str, left: &mut usize) -> Option<String> {
    let here = format!("{group}/{unit}");
    if root.path(format!("{here}/cgroup.procs")).exists() {
        return Some(here);
    }
    for name in root.names(&group).into_iter().filter(|name| name.ends_with(".slice")) {
        *left = left.checked_sub(1)?;
        if let Some(found) = unit_of(root, format!("{group}/{name}"), unit, left) {
            return Some(found);
        }
    }
    None
}

/// The names of this group and of those below it that are units.
fn gather(root: &Root, group: &str, units: &mut Vec<String>) {
    let name = group.rsplit('/').next().unwrap_or_default();
    let is_unit = [".service", ".scope", ".slice"].iter().any(|kind| name.ends_with(kind));
    if is_unit && units.len() < LIMIT {
        units.push(name.to_owned());
    }
    if units.len() < LIMIT {
        let folders = root.names(group).into_iter().map(|name| format!("{group}/{name}"));
        folders.filter(|folder| root.path(folder).is_dir()).for_each(|folder| gather(root, &folder, units));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_unit_is_found_in_slices_and_not_below_what_a_user_made() {
        let folder = tempfile::tempdir().unwrap();
        let user = "user.slice/user-1000.slice/user@1000.service";
        for group in [
            "system.slice/docker.service",
            "machine.slice",
            &format!("{user}/app.slice/game.scope"),
            &format!("{user}/evil.service"),
        ] {
            let mut path = Path::new(group);
            while path != Path::new("") {
                let group = folder.path().join("sys/fs/cgroup").join(path);
                std::fs::create_dir_all(&group).unwrap();
                std::fs::write(group.join("cgroup.procs"), "").unwrap();
                std::fs::write(group.join("cgroup.freeze"), if path.ends_with("machine.slice") { "1" } else { "0" })
                    .unwrap();
                path = path.parent().unwrap();
            }
        }
        let names = ["docker.service", "user@1000.service/app.slice", "evil.service", "/machine.slice", "docker"];
        let found = find(&Root::new(folder.path()), &names.map(str::to_owned));
        let [docker, app, evil, machine, typo] = names.map(|name| found[name].clone());
        assert_eq!(docker.unwrap().path, Path::new("/sys/fs/cgroup/system.slice/docker.service"));
        let app = app.unwrap();
        assert_eq!(app.path, Path::new("/sys/fs/cgroup").join(user).join("app.slice"));
        assert_eq!(app.units, ["app.slice", "game.scope"]);
        assert_eq!((evil, typo), (None, None));
        assert!(machine.unwrap().frozen);
    }
}
