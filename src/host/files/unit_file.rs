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
}

/// A unit of this name that is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledUnit {
    /// Its file.
    pub path: PathBuf,
    /// Whether it runs this machine's file.
    pub is_ours: bool,
}

/// Where an administrator or a package puts units; the first that is found counts (systemd.unit(5)). Not `/run`'s
/// `transient`, where systemd itself keeps units that end with their process.
const FOLDERS: [&str; 4] =
    ["/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"];

impl InstalledUnit {
    /// The host's.
    pub fn find(root: &Root, wanted: &WantedUnit) -> Option<Self> {
        Self::find_in(root, &FOLDERS.map(PathBuf::from), wanted)
    }

    /// The first one in these folders.
    pub fn find_in(root: &Root, folders: &[PathBuf], wanted: &WantedUnit) -> Option<Self> {
        folders.iter().find_map(|folder| {
            let path = folder.join(&wanted.name);
            let text = root.text_up_to(&path, 64 << 10)?;
            let mut commands = text.lines().filter_map(|line| line.strip_prefix("ExecStart="));
            let is_ours = commands.any(|command| command.trim_end().ends_with(&wanted.ending));
            Some(Self { path, is_ours })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_ours_when_it_runs_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let wanted = WantedUnit { name: "vfio-run-a.service".to_owned(), ending: " run /srv/a.ron".to_owned() };
        assert_eq!(InstalledUnit::find(&root, &wanted), None);
        std::fs::create_dir_all(folder.path().join("etc/systemd/system")).unwrap();
        for (text, is_ours) in [
            ("[Service]\nExecStart=/usr/bin/vfio-run run /srv/a.ron\n", true),
            ("[Service]\nExecStart=/usr/bin/vfio-run run /srv/b.ron\n", false),
            ("", false),
        ] {
            std::fs::write(folder.path().join("etc/systemd/system/vfio-run-a.service"), text).unwrap();
            let path = PathBuf::from("/etc/systemd/system/vfio-run-a.service");
            assert_eq!(InstalledUnit::find(&root, &wanted), Some(InstalledUnit { path, is_ours }));
        }
    }
}
