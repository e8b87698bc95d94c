//! Make a threaded cgroup for the vCPUs' threads (`Documentation/admin-guide/cgroup-v2.rst`, "Threads"). Threads of one
//! process can be in different groups only if these are threaded.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::files::{move_tasks, remove, write, write_cpus};
use crate::change::error::{ChangeError, FileError};
use crate::change::file::read;
use crate::change::record::{Existed, Undone};
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::host::Root;
use crate::units::CpuSet;

const THREADED: &str = "threaded";

/// Make a threaded cgroup for the vCPUs' threads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VcpuGroup {
    /// Its folder, in QEMU's group.
    pub path: PathBuf,
    /// The CPUs that its threads run on.
    pub cpus: CpuSet,
}

impl Step for VcpuGroup {
    type Before = Existed;

    fn nature(&self) -> Nature {
        Nature::PREPARES
    }

    fn capture(&self, root: &Root) -> Result<Existed, ChangeError> {
        Ok(Existed { exists: root.path(&self.path).is_dir() })
    }

    fn apply(&self, root: &Root, before: &Existed, _: Progress<'_>) -> Result<(), ChangeError> {
        if !before.exists {
            std::fs::create_dir(root.path(&self.path)).map_err(FileError::io("make", &self.path))?;
        }
        let (kind, list) = (self.path.join("cgroup.type"), self.path.join("cpuset.cpus"));
        write(root, &kind, THREADED)?;
        let found = read(root, &kind)?;
        if found != THREADED {
            return Err(FileError::NotTaken { path: kind, wanted: THREADED.to_owned(), found }.into());
        }
        Ok(write_cpus(root, &list, &self.cpus)?)
    }

    /// Removes it, unless it was there before. Threads that are in it go to the group above: QEMU may go on.
    fn undo(&self, root: &Root, before: &Existed) -> Result<Undone, ChangeError> {
        if before.exists || !root.path(&self.path).is_dir() {
            return Ok(Undone::AlreadyBack);
        }
        if let Some(above) = self.path.parent() {
            move_tasks(root, &self.path, above, "cgroup.threads")?;
        }
        remove(root, &self.path)?;
        Ok(Undone::Restored)
    }

    fn lock_files(&self, _: &Existed) -> Vec<PathBuf> {
        Vec::new()
    }

    fn observe(&self, root: &Root) -> Vec<Observed> {
        let is_there = if root.path(&self.path).exists() { "there" } else { "absent" };
        vec![Observed::new(format!("cgroup {}", self.path.display()), is_there)]
    }
}

impl fmt::Display for VcpuGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "make the cgroup {} for the vCPUs' threads, on {}", self.path.display(), self.cpus.numbered())
    }
}
