//! Make a cgroup an isolated partition: nothing else of the host runs on its CPUs, and the scheduler does not balance
//! them (`cpuset.cpus.partition`, `Documentation/admin-guide/cgroup-v2.rst`).

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files::{cpus, observed, unless_gone, write};
use super::lost_cpus::give_back;
use crate::change::error::{ChangeError, PartitionError};
use crate::change::file::read;
use crate::change::record::{Text, Undone};
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::host::Root;
use crate::units::{CpuSet, EFFECTIVE_CPUS};

const ISOLATED: &str = "isolated";
const MEMBER: &str = "member";

/// Make a cgroup an isolated partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// The group's folder.
    pub group: PathBuf,
    /// Its CPUs.
    pub cpus: CpuSet,
}

impl Step for Partition {
    type Before = Text;

    fn nature(&self) -> Nature {
        Nature::PREPARES
    }

    fn capture(&self, root: &Root) -> Result<Text, ChangeError> {
        Ok(Text { text: read(root, &self.file())? })
    }

    /// Makes it and reads back more than the file: a partition can say that it is one while the host has its CPUs.
    fn apply(&self, root: &Root, _: &Text, _: Progress<'_>) -> Result<(), ChangeError> {
        let file = self.file();
        write(root, &file, ISOLATED)?;
        let found = read(root, &file)?;
        if found != ISOLATED {
            return Err(PartitionError::Invalid { group: self.group.clone(), found }.into());
        }
        if !root.is_real() {
            return Ok(());
        }
        let own = cpus(root, &self.group.join("cpuset.cpus.effective"))?;
        let shared = cpus(root, Path::new(EFFECTIVE_CPUS))?.intersection(&self.cpus);
        if own != self.cpus || !shared.is_empty() {
            let [wanted, own, shared] = [&self.cpus, &own, &shared].map(ToString::to_string);
            return Err(PartitionError::Shared { group: self.group.clone(), wanted, own, shared }.into());
        }
        Ok(())
    }

    /// Gives the CPUs back. `member` is right whatever the partition reads.
    fn undo(&self, root: &Root, _: &Text) -> Result<Undone, ChangeError> {
        let file = self.file();
        let undone = || {
            if read(root, &file)? == MEMBER {
                return Ok(Undone::AlreadyBack);
            }
            write(root, &file, MEMBER)?;
            Ok(Undone::Restored)
        };
        // With the group the CPUs went back too, as far as the kernel knows.
        let undone = unless_gone(undone())?;
        Ok(if give_back(root, &self.cpus)? { Undone::Restored } else { undone })
    }

    fn lock_files(&self, _: &Text) -> Vec<PathBuf> {
        Vec::new()
    }

    fn observe(&self, root: &Root) -> Vec<Observed> {
        observed(root, &self.file())
    }
}

impl Partition {
    fn file(&self) -> PathBuf {
        self.group.join("cpuset.cpus.partition")
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keep everything else off {}: make {} a partition", self.cpus.numbered(), self.group.display())
    }
}
