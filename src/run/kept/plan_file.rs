//! The plan as it was carried out, kept in the run directory for a launcher that takes over or recovers.

use std::path::Path;

use anyhow::{Context as _, Result};
use jiff::Timestamp;

use crate::plan::Plan;
use crate::trusted;
use crate::units::run_files;

/// More than any plan.
const MAX_LENGTH: u64 = 64 << 20;

/// Writes the plan into its run directory.
pub fn write(plan: &Plan) -> Result<()> {
    let path = plan.paths.run.join(run_files::PLAN);
    std::fs::write(&path, serde_json::to_vec(plan)?).with_context(|| format!("cannot write {}", path.display()))
}

/// Reads the plan of this run directory.
pub fn read(run_dir: &Path) -> Result<Plan> {
    let path = run_dir.join(run_files::PLAN);
    let text = trusted::read(&path, MAX_LENGTH).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not a plan that vfio-run wrote", path.display()))
}

/// When the plan of this run directory was written, which a launcher does as soon as it has the machine.
pub fn time(run_dir: &Path) -> Option<Timestamp> {
    let written = std::fs::metadata(run_dir.join(run_files::PLAN)).and_then(|meta| meta.modified());
    Timestamp::try_from(written.ok()?).ok()
}
