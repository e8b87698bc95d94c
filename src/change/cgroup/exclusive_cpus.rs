//! Let a cgroup pass CPUs on to a partition below it (`cpuset.cpus.exclusive`, Linux 6.7;
//! `Documentation/admin-guide/cgroup-v2.rst`, "Cpuset Interface Files").
//!
//! Machines share the groups at the top, so each adds its CPUs to what is there, and takes those away again.

use std::fmt;
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::files::{cpus, is_gone, write};
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
        write(root, &file, &format!("{wanted}\n"))?;
        let found = cpus(root, &file)?;
        if found != wanted {
            let (wanted, found) = (wanted.to_string(), found.to_string());
            return Err(FileError::NotTaken { path: file, wanted, found }.into());
        }
        Ok(())
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
            // With the line's end: the kernel takes an empty line as no CPUs, and does nothing on a write of no bytes.
            write(root, &file, &format!("{}\n", found.difference(&ours)))?;
            Ok(Undone::Restored)
        };
        match undone() {
            Err(error) if is_gone(&error) => Ok(Undone::AlreadyBack),
            undone => Ok(undone?),
        }
    }

    fn lock_files(&self, _: &Text) -> Vec<PathBuf> {
        Vec::new()
    }

    fn observe(&self, root: &Root) -> Vec<Observed> {
        vec![Observed::new(self.file().display().to_string(), read(root, &self.file()).unwrap_or_default())]
    }
}

impl ExclusiveCpus {
    fn file(&self) -> PathBuf {
        self.group.join("cpuset.cpus.exclusive")
    }

    /// Keeps other launchers from the file. The lock is on a file that only root can open, so no other user can hold it.
    fn lock(&self, root: &Root) -> Result<Option<Flock<std::fs::File>>, FileError> {
        let path = self.group.join("cgroup.kill");
        if !root.is_real() {
            return Ok(None);
        }
        let failed = FileError::io("lock", &path);
        let mut file = Some(OpenOptions::new().write(true).open(&path).map_err(&failed)?);
        let mut taken = Err(libc::EWOULDBLOCK);
        wait_for(root, LOCK_LIMIT, || {
            let Some(open) = file.take() else { return true };
            match Flock::lock(open, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => {
                    taken = Ok(lock);
                    true
                }
                Err((open, errno)) => {
                    file = Some(open);
                    taken = Err(errno as i32);
                    errno != nix::errno::Errno::EWOULDBLOCK
                }
            }
        });
        taken.map(Some).map_err(|errno| failed(std::io::Error::from_raw_os_error(errno)))
    }
}

impl fmt::Display for ExclusiveCpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "let {} pass CPUs {} on to a partition", self.group.display(), self.cpus)
    }
}
