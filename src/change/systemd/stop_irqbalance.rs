//! Stop irqbalance, and start it again. Unlike other units it serves nobody directly: no user and no program notices that it
//! was stopped, so this only prepares.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::stop_unit::StopUnit;
use crate::change::error::ChangeError;
use crate::change::record::{Existed, Undone};
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::host::Root;

/// Stop irqbalance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopIrqbalance {
    /// Its unit: `irqbalance.service`.
    pub unit: String,
}

impl StopIrqbalance {
    fn stop(&self) -> StopUnit {
        StopUnit { unit: self.unit.clone() }
    }
}

impl Step for StopIrqbalance {
    type Before = Existed;

    fn nature(&self) -> Nature {
        Nature { makes_others_work: true, ..Nature::PREPARES }
    }

    fn capture(&self, root: &Root) -> Result<Existed, ChangeError> {
        self.stop().capture(root)
    }

    fn apply(&self, root: &Root, before: &Existed, progress: Progress<'_>) -> Result<(), ChangeError> {
        self.stop().apply(root, before, progress)
    }

    fn undo(&self, root: &Root, before: &Existed) -> Result<Undone, ChangeError> {
        self.stop().undo(root, before)
    }

    fn lock_files(&self, before: &Existed) -> Vec<PathBuf> {
        self.stop().lock_files(before)
    }

    fn observe(&self, root: &Root) -> Vec<Observed> {
        self.stop().observe(root)
    }
}

impl fmt::Display for StopIrqbalance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stop {}, which would move interrupts back", self.unit)
    }
}
