//! Freeze the processes of a cgroup, with those of all groups below it (`cgroup.freeze`,
//! `Documentation/admin-guide/cgroup-v2.rst`).

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::files::{observed, unless_gone, write};
use crate::change::error::{ChangeError, FileError, PartitionError};
use crate::change::file::read;
use crate::change::record::{Text, Undone};
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::change::wait::wait_for;
use crate::host::Root;

/// How long processes may take to stand still: one that waits for a disk does so when that has answered.
const LIMIT: Duration = Duration::from_secs(10);

/// Freeze the processes of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// The group's folder.
    pub group: PathBuf,
}

impl Step for Freeze {
    type Before = Text;

    fn nature(&self) -> Nature {
        Nature::takes(true)
    }

    fn capture(&self, root: &Root) -> Result<Text, ChangeError> {
        Ok(Text { text: read(root, &self.file())? })
    }

    /// Freezes it and waits until all its processes stand still.
    fn apply(&self, root: &Root, _: &Text, _: Progress<'_>) -> Result<(), ChangeError> {
        write(root, &self.file(), "1")?;
        if !root.is_real() || wait_for(root, LIMIT, || self.stands_still(root)) {
            return Ok(());
        }
        Err(PartitionError::NotFrozen { group: self.group.clone(), seconds: LIMIT.as_secs() }.into())
    }

    fn undo(&self, root: &Root, before: &Text) -> Result<Undone, ChangeError> {
        let undone = || -> Result<Undone, FileError> {
            if read(root, &self.file())? == before.text {
                return Ok(Undone::AlreadyBack);
            }
            write(root, &self.file(), &before.text)?;
            Ok(Undone::Restored)
        };
        unless_gone(undone())
    }

    fn lock_files(&self, _: &Text) -> Vec<PathBuf> {
        Vec::new()
    }

    fn observe(&self, root: &Root) -> Vec<Observed> {
        observed(root, &self.file())
    }
}

impl Freeze {
    fn file(&self) -> PathBuf {
        self.group.join("cgroup.freeze")
    }

    fn stands_still(&self, root: &Root) -> bool {
        read(root, &self.group.join("cgroup.events")).is_ok_and(|text| text.lines().any(|line| line == "frozen 1"))
    }
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "freeze all processes in {}", self.group.display())
    }
}
