//! Give a slice of a machine's own its CPUs, by systemd.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::files::observed;
use super::unit_cpus;
use crate::change::error::ChangeError;
use crate::change::file::read;
use crate::change::record::{Text, Undone};
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::host::Root;
use crate::units::CpuSet;

/// Give a slice its CPUs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowedCpus {
    /// The slice, at the top, which exists for one machine alone.
    pub slice: String,
    /// The CPUs.
    pub cpus: CpuSet,
}

impl Step for AllowedCpus {
    type Before = Text;

    fn nature(&self) -> Nature {
        Nature::PREPARES
    }

    fn capture(&self, root: &Root) -> Result<Text, ChangeError> {
        Ok(Text { text: read(root, &unit_cpus::file(&self.slice)).unwrap_or_default() })
    }

    fn apply(&self, root: &Root, _: &Text, _: Progress<'_>) -> Result<(), ChangeError> {
        unit_cpus::set(root, &self.slice, &self.cpus)?;
        unit_cpus::wait(root, &self.slice, &self.cpus)
    }

    /// Ends the slice, which nobody is in any more, and removes what systemd has kept of it. If QEMU is in it still, the
    /// slice may use all CPUs again and stays.
    fn undo(&self, root: &Root, _: &Text) -> Result<Undone, ChangeError> {
        let [drop_in, _] = unit_cpus::drop_ins(&self.slice);
        let populated = unit_cpus::is_populated(root, &self.slice);
        if populated.is_none() && !root.path(&drop_in).exists() {
            return Ok(Undone::AlreadyBack);
        }
        match populated {
            Some(true) => unit_cpus::set(root, &self.slice, &CpuSet::new())?,
            Some(false) => unit_cpus::stop(root, &self.slice)?,
            None => {}
        }
        unit_cpus::forget(root, &drop_in)?;
        unit_cpus::wait_for_the_controller(root, &[&self.slice]);
        Ok(Undone::Restored)
    }

    fn lock_files(&self, _: &Text) -> Vec<PathBuf> {
        Vec::new()
    }

    fn observe(&self, root: &Root) -> Vec<Observed> {
        observed(root, &unit_cpus::file(&self.slice))
    }
}

impl fmt::Display for AllowedCpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "give {} {}", self.slice, self.cpus.numbered())
    }
}
