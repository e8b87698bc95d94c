//! Make a cgroup an isolated partition: nothing else of the host runs on its CPUs, and the scheduler does not balance
//! them (`cpuset.cpus.partition`, `Documentation/admin-guide/cgroup-v2.rst`).

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files::{cpus, is_gone, write};
use super::lost_cpus::give_back;
use crate::change::error::{ChangeError, PartitionError};
use crate::change::file::read;
use crate::change::record::{Text, Undone};
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::host::Root;
use crate::units::CpuSet;

const ISOLATED: &str = "isolated";
const MEMBER: &str = "member";
/// What is left to everything that is in no partition.
const REST: &str = "/sys/fs/cgroup/cpuset.cpus.effective";

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
        let shared = cpus(root, Path::new(REST))?.intersection(&self.cpus);
        if own != self.cpus || !shared.is_empty() {
            let [wanted, own, shared] = [&self.cpus, &own, &shared].map(ToString::to_string);
            return Err(PartitionError::Shared { group: self.group.clone(), wanted, own, shared }.into());
        }
        Ok(())
    }

    /// Gives the CPUs back. `member` is right whatever the partition reads.
    fn undo(&self, root: &Root, _: &Text) -> Result<Undone, ChangeError> {
        let file = self.file();
        let is_partition = read(root, &file).map(|found| found != MEMBER);
        let undone =
            match is_partition.and_then(|is| if is { write(root, &file, MEMBER).map(|()| true) } else { Ok(false) }) {
                Ok(true) => Undone::Restored,
                Ok(false) => Undone::AlreadyBack,
                // The CPUs went back with the group, as far as the kernel knows.
                Err(error) if is_gone(&error) => Undone::AlreadyBack,
                Err(error) => return Err(error.into()),
            };
        Ok(if give_back(root, &self.cpus)? { Undone::Restored } else { undone })
    }

    fn lock_files(&self, _: &Text) -> Vec<PathBuf> {
        Vec::new()
    }

    fn observe(&self, root: &Root) -> Vec<Observed> {
        vec![Observed::new(self.file().display().to_string(), read(root, &self.file()).unwrap_or_default())]
    }
}

impl Partition {
    fn file(&self) -> PathBuf {
        self.group.join("cpuset.cpus.partition")
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keep everything else off CPUs {}: make {} a partition", self.cpus, self.group.display())
    }
}
