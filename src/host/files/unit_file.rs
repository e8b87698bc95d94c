//! Whether a unit is installed under the name that a machine's unit has.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::host::Root;

/// The unit that is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedUnit {
    /// Its name: `vfio-run-win11.service`.
    pub name: String,
    /// What its `ExecStart=` ends with if it runs this machine's file.
    pub ending: String,
    /// The name that the template's unit for the file has, if the file is where the template looks for it.
    pub instance: Option<String>,
}

/// A unit of this name that is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledUnit {
    /// Its file.
    pub path: PathBuf,
    /// The unit's name, if it is the template's for the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Whether it runs this machine's file.
    pub is_ours: bool,
}

/// Where an administrator or a package puts units; the first that is found counts (systemd.unit(5)). Not `/run`'s
/// `transient`, where systemd itself keeps units that end with their process.
const FOLDERS: [&str; 4] =
    ["/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"];

impl InstalledUnit {
    /// The name of the template for many machines.
    pub const TEMPLATE: &str = "vfio-run@.service";
    /// Where the machines of the template are.
    pub const MACHINES: &str = "/etc/vfio-run";

    /// The host's. The unit of the machine's own counts before the template, which does not start beside it.
    pub fn find(root: &Root, wanted: &WantedUnit) -> Option<Self> {
        let folders = FOLDERS.map(PathBuf::from);
        Self::find_in(root, &folders, wanted).or_else(|| {
            let instance = wanted.instance.as_ref()?;
            let ending = format!(" run {}/%i.ron", Self::MACHINES);
            let (path, _) = installed(root, &folders, Self::TEMPLATE, &ending).filter(|(_, is_ours)| *is_ours)?;
            Some(Self { path, is_ours: true, instance: Some(instance.clone()) })
        })
    }

    /// The machine's own unit in the first of these folders that has one.
    pub fn find_in(root: &Root, folders: &[PathBuf], wanted: &WantedUnit) -> Option<Self> {
        let (path, is_ours) = installed(root, folders, &wanted.name, &wanted.ending)?;
        Some(Self { path, is_ours, instance: None })
    }
}

/// The file of this unit, and whether what it starts ends like this.
fn installed(root: &Root, folders: &[PathBuf], name: &str, ending: &str) -> Option<(PathBuf, bool)> {
    folders.iter().find_map(|folder| {
        let path = folder.join(name);
        let text = root.text_up_to(&path, 64 << 10)?;
        let mut commands = text.lines().filter_map(|line| line.strip_prefix("ExecStart="));
        let is_ours = commands.any(|command| command.trim_end().ends_with(ending));
        Some((path, is_ours))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_ours_when_it_runs_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let mut wanted =
            WantedUnit { name: "vfio-run-a.service".to_owned(), ending: " run /srv/a.ron".to_owned(), instance: None };
        assert_eq!(InstalledUnit::find(&root, &wanted), None);
        std::fs::create_dir_all(folder.path().join("etc/systemd/system")).unwrap();
        for (text, is_ours) in [
            ("[Service]\nExecStart=/usr/bin/vfio-run run /srv/a.ron\n", true),
            ("[Service]\nExecStart=/usr/bin/vfio-run run /srv/b.ron\n", false),
            ("", false),
        ] {
            std::fs::write(folder.path().join("etc/systemd/system/vfio-run-a.service"), text).unwrap();
            let path = PathBuf::from("/etc/systemd/system/vfio-run-a.service");
            assert_eq!(InstalledUnit::find(&root, &wanted), Some(InstalledUnit { path, instance: None, is_ours }));
        }
        // The template is for a file that is where it looks for it, if there is no unit of the machine's own.
        let packaged = include_str!("../../../scripts/packaging/vfio-run@.service");
        std::fs::create_dir_all(folder.path().join("usr/lib/systemd/system")).unwrap();
        std::fs::write(folder.path().join("usr/lib/systemd/system").join(InstalledUnit::TEMPLATE), packaged).unwrap();
        wanted.instance = Some("vfio-run@a.service".to_owned());
        assert_eq!(InstalledUnit::find(&root, &wanted).unwrap().instance, None);
        std::fs::remove_file(folder.path().join("etc/systemd/system/vfio-run-a.service")).unwrap();
        let path = PathBuf::from("/usr/lib/systemd/system").join(InstalledUnit::TEMPLATE);
        let found = Some(InstalledUnit { path, instance: wanted.instance.clone(), is_ours: true });
        assert_eq!(InstalledUnit::find(&root, &wanted), found);
        wanted.instance = None;
        assert_eq!(InstalledUnit::find(&root, &wanted), None);
    }
}
