//! End a slice of a machine's own, which systemd makes for the scope that is put into it, and keeps when that has ended.
//!
//! Nothing is done before the guest: the change stands in the journal before there is a scope, so that the slice goes whenever
//! the launcher dies, also before the slice has been given CPUs.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::unit_cpus;
use crate::change::error::ChangeError;
use crate::change::record::{Nothing, Undone};
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::host::Root;

/// End a machine's slice with the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnSlice {
    /// The slice, at the top, which exists for one machine alone.
    pub slice: String,
}

impl Step for OwnSlice {
    type Before = Nothing;

    fn nature(&self) -> Nature {
        Nature::PREPARES
    }

    fn capture(&self, _: &Root) -> Result<Nothing, ChangeError> {
        Ok(Nothing::Nothing)
    }

    fn apply(&self, _: &Root, _: &Nothing, _: Progress<'_>) -> Result<(), ChangeError> {
        Ok(())
    }

    fn undo(&self, root: &Root, _: &Nothing) -> Result<Undone, ChangeError> {
        match unit_cpus::is_populated(root, &self.slice) {
            None => Ok(Undone::AlreadyBack),
            Some(true) => Ok(Undone::NotOurs { found: format!("processes in {}", self.slice) }),
            Some(false) => {
                unit_cpus::stop(root, &self.slice)?;
                Ok(Undone::Restored)
            }
        }
    }

    fn lock_files(&self, _: &Nothing) -> Vec<PathBuf> {
        Vec::new()
    }

    fn observe(&self, _: &Root) -> Vec<Observed> {
        Vec::new()
    }
}

impl fmt::Display for OwnSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "end {} when the guest has ended", self.slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::CGROUPS;

    #[test]
    fn a_slice_that_nobody_is_in_goes_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let change = OwnSlice { slice: "vfiorunwin11.slice".to_owned() };
        assert_eq!(change.undo(&root, &Nothing::Nothing).unwrap(), Undone::AlreadyBack);
        let group = folder.path().join(CGROUPS.trim_start_matches('/')).join(&change.slice);
        std::fs::create_dir_all(&group).unwrap();
        std::fs::write(group.join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
        assert!(matches!(change.undo(&root, &Nothing::Nothing).unwrap(), Undone::NotOurs { .. }));
        assert!(group.exists());
        std::fs::write(group.join("cgroup.events"), "populated 0\nfrozen 0\n").unwrap();
        assert_eq!(change.undo(&root, &Nothing::Nothing).unwrap(), Undone::Restored);
        assert!(!group.exists());
        assert_eq!(change.undo(&root, &Nothing::Nothing).unwrap(), Undone::AlreadyBack);
    }
}
