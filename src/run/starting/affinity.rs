//! Puts a thread onto its CPUs and reads back that it is there.

use anyhow::{Context as _, Result, bail};

use crate::change::affinity;
use crate::units::CpuSet;

/// Binds the thread to these CPUs and reads the affinity back. The read-back is not a formality: the kernel silently
/// cuts the mask down to the cgroup's cpuset.
pub fn place(thread: i32, cpus: &CpuSet) -> Result<()> {
    affinity::set(thread, cpus).with_context(|| format!("the kernel does not let it run on {}", cpus.numbered()))?;
    let found = affinity::read(thread).context("its affinity cannot be read back")?;
    if found != *cpus {
        bail!("it was to run on {} and runs on {found}; a cpuset holds it there", cpus.numbered());
    }
    Ok(())
}
