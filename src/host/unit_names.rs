//! The names of systemd's units: which of them are other names of a unit (systemd.unit(5), "Aliases").

use std::path::Path;

use super::Root;
use crate::units::CGROUPS;

/// Where systemd looks for units, the nearest first.
const FOLDERS: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// More names in a row than any unit has: `display-manager`, `gdm3`, `gdm`.
const MAX_NAMES: usize = 8;

/// The unit's own name: what links from name to name lead to. A name that is not known is its own.
pub(super) fn id(root: &Root, name: &str) -> String {
    let mut name = name.to_owned();
    for _ in 0..MAX_NAMES {
        let mut places = FOLDERS.iter().map(|folder| root.path(Path::new(folder).join(&name)));
        let Some(place) = places.find(|place| place.symlink_metadata().is_ok()) else { break };
        let Ok(target) = std::fs::read_link(&place) else { break };
        match target.file_name().and_then(|target| target.to_str()) {
            // A unit that is masked is a link to `/dev/null`; one of a file elsewhere has that file's name.
            Some(target) if target != "null" && target != name => name = target.to_owned(),
            _ => break,
        }
    }
    name
}

/// Whether the unit of this name runs: systemd keeps the number of its run, and its cgroup, until it has ended. One that runs
/// may have an empty cgroup: PAM moves a display manager that is itself the compositor into its session.
pub(super) fn runs(root: &Root, id: &str) -> bool {
    let number = root.path(format!("/run/systemd/units/invocation:{id}"));
    number.symlink_metadata().is_ok() || root.path(format!("{CGROUPS}/system.slice/{id}")).is_dir()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn an_alias_of_an_alias_is_the_unit_itself() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        for path in ["/etc/systemd/system", "/usr/lib/systemd/system", "/run/systemd/units"] {
            std::fs::create_dir_all(root.path(path)).unwrap();
        }
        let link = |target: &str, path: &str| symlink(target, root.path(path)).unwrap();
        // As Debian and Ubuntu have it.
        link("/usr/lib/systemd/system/gdm3.service", "/etc/systemd/system/display-manager.service");
        link("gdm.service", "/usr/lib/systemd/system/gdm3.service");
        std::fs::write(root.path("/usr/lib/systemd/system/gdm.service"), "").unwrap();
        link("/dev/null", "/etc/systemd/system/masked.service");
        link("/opt/own.service", "/etc/systemd/system/own.service");
        link("b.service", "/etc/systemd/system/a.service");
        link("a.service", "/etc/systemd/system/b.service");
        for (name, unit) in [
            ("display-manager.service", "gdm.service"),
            ("gdm3.service", "gdm.service"),
            ("gdm.service", "gdm.service"),
            ("masked.service", "masked.service"),
            ("own.service", "own.service"),
            ("unknown.service", "unknown.service"),
        ] {
            assert_eq!(id(&root, name), unit, "{name}");
        }
        assert!(["a.service", "b.service"].contains(&id(&root, "a.service").as_str()));
        assert!(!runs(&root, "gdm.service"));
        link("0123", "/run/systemd/units/invocation:gdm.service");
        assert!(runs(&root, "gdm.service"));
    }
}
