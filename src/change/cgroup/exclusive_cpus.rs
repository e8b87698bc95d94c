//! Let a cgroup pass CPUs on to a partition below it (`cpuset.cpus.exclusive`, Linux 6.7;
//! `Documentation/admin-guide/cgroup-v2.rst`, "Cpuset Interface Files").
//!
//! Machines share the groups at the top, so each adds its CPUs to what is there, and takes those away again.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::files::{cpus, observed, unless_gone, write, write_cpus};
use crate::change::error::{ChangeError, FileError};
use crate::change::file::read;
use crate::change::record::{Text, Undone};
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::change::wait::wait_for;
use crate::host::Root;
use crate::units::CpuSet;

/// How long another launcher may take over reading and writing one file.
const LOCK_LIMIT: Duration = Duration::from_secs(5);

/// Let a cgroup pass CPUs on to a partition below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExclusiveCpus {
    /// The group's folder.
    pub group: PathBuf,
    /// The CPUs.
    pub cpus: CpuSet,
}

impl Step for ExclusiveCpus {
    type Before = Text;

    fn nature(&self) -> Nature {
        Nature::PREPARES
    }

    fn capture(&self, root: &Root) -> Result<Text, ChangeError> {
        Ok(Text { text: read(root, &self.file())? })
    }

    fn apply(&self, root: &Root, _: &Text, _: Progress<'_>) -> Result<(), ChangeError> {
        let _lock = self.lock(root)?;
        let file = self.file();
        let wanted = cpus(root, &file)?.union(&self.cpus);
        Ok(write_cpus(root, &file, &wanted)?)
    }

    /// Takes the CPUs away that were not there before; others may have come meanwhile.
    fn undo(&self, root: &Root, before: &Text) -> Result<Undone, ChangeError> {
        let undone = || {
            let _lock = self.lock(root)?;
            let (file, old) = (self.file(), before.text.parse().unwrap_or_default());
            let (found, ours) = (cpus(root, &file)?, self.cpus.difference(&old));
            if found.intersection(&ours).is_empty() {
                return Ok(Undone::AlreadyBack);
            }
            write(root, &file, &format!("{}\n", found.difference(&ours)))?;
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

impl ExclusiveCpus {
    fn file(&self) -> PathBuf {
        self.group.join("cpuset.cpus.exclusive")
    }

    /// Keeps other launchers from the file. The lock is on a file that only root can open, so no other user can hold it.
    fn lock(&self, root: &Root) -> Result<Option<File>, FileError> {
        let path = self.group.join("cgroup.kill");
        if !root.is_real() {
            return Ok(None);
        }
        let failed = FileError::io("lock", &path);
        let file = OpenOptions::new().write(true).open(&path).map_err(&failed)?;
        let mut taken = Err(Errno::WOULDBLOCK);
        wait_for(root, LOCK_LIMIT, || {
            taken = flock(&file, FlockOperation::NonBlockingLockExclusive);
            taken != Err(Errno::WOULDBLOCK)
        });
        taken.map(|()| Some(file)).map_err(|errno| failed(errno.into()))
    }
}

impl fmt::Display for ExclusiveCpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "let {} pass {} on to a partition", self.group.display(), self.cpus.numbered())
    }
}
