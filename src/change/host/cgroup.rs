//! Make a cgroup for QEMU (`Documentation/admin-guide/cgroup-v2.rst`), and remove it with the processes that are left in it.

use std::fmt;
use std::path::{Path, PathBuf};

use cgroups_rs::fs::cgroup::Cgroup as Group;
use cgroups_rs::fs::hierarchies;
use serde::{Deserialize, Serialize};

use crate::change::cgroup::files::remove;
use crate::change::error::{ChangeError, FileError};
use crate::change::record::{Existed, Undone};
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::host::Root;
use crate::units::CGROUPS;

/// Make a cgroup for QEMU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// Its folder below `/sys/fs/cgroup`.
    pub path: PathBuf,
}

impl Step for Cgroup {
    type Before = Existed;

    fn nature(&self) -> Nature {
        Nature::PREPARES
    }

    fn capture(&self, root: &Root) -> Result<Existed, ChangeError> {
        Ok(Existed { exists: root.path(&self.path).is_dir() })
    }

    /// Makes it, with the groups above it.
    fn apply(&self, root: &Root, _: &Existed, _: Progress<'_>) -> Result<(), ChangeError> {
        let failed = FileError::io("make", &self.path);
        if !root.is_real() {
            // The crate knows no other root than the host's.
            return Ok(std::fs::create_dir_all(root.path(&self.path)).map_err(failed)?);
        }
        // No controllers: the group is for telling QEMU's processes from others, and for a cpuset if one is wanted later.
        let made = Group::new_with_specified_controllers(hierarchies::auto(), self.relative(), Some(Vec::new()));
        match made {
            Ok(_) if root.path(&self.path).is_dir() => Ok(()),
            Ok(_) => Err(failed(std::io::ErrorKind::NotFound.into()).into()),
            Err(error) => Err(failed(std::io::Error::other(error)).into()),
        }
    }

    /// Removes it, unless it was there before; the kernel kills processes that are still in it.
    fn undo(&self, root: &Root, before: &Existed) -> Result<Undone, ChangeError> {
        let path = root.path(&self.path);
        if before.exists || !path.is_dir() {
            return Ok(Undone::AlreadyBack);
        }
        if root.is_real() {
            let group = Group::load_with_specified_controllers(hierarchies::auto(), self.relative(), Vec::new());
            // Kernels before 5.14 have no cgroup.kill; then the group is empty already, or rmdir fails and names it.
            drop(group.kill());
        }
        remove(root, &self.path)?;
        // The group of all machines goes with its last one: the kernel refuses it while there is another.
        path.parent().filter(|parent| parent.ends_with("vfio-run")).map(std::fs::remove_dir);
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

impl Cgroup {
    fn relative(&self) -> &Path {
        self.path.strip_prefix(CGROUPS).unwrap_or(&self.path)
    }
}

impl fmt::Display for Cgroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "make the cgroup {}", self.path.display())
    }
}
