//! Puts a thread onto its CPUs and reads back that it is there.

use anyhow::{Context as _, Result, bail};
use nix::sched::{CpuSet as Mask, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::units::CpuSet;

/// Binds the thread to these CPUs and reads the affinity back. The read-back is not a formality: the kernel silently
/// cuts the mask down to the cgroup's cpuset.
pub fn place(thread: i32, cpus: &CpuSet) -> Result<()> {
    let tid = Pid::from_raw(thread);
    sched_setaffinity(tid, &mask(cpus)?).with_context(|| format!("the kernel does not let it run on CPU {cpus}"))?;
    let found = read(tid)?;
    if found != *cpus {
        bail!("it was to run on CPU {cpus} and runs on {found}; a cpuset holds it there");
    }
    Ok(())
}

/// The CPUs that a thread may run on.
fn read(tid: Pid) -> Result<CpuSet> {
    let mask = sched_getaffinity(tid).context("its affinity cannot be read back")?;
    Ok((0..Mask::count()).filter(|cpu| mask.is_set(*cpu).unwrap_or(false)).map(|cpu| cpu as u32).collect())
}

fn mask(cpus: &CpuSet) -> Result<Mask> {
    let mut mask = Mask::new();
    for cpu in cpus.iter() {
        mask.set(cpu as usize)
            .with_context(|| format!("CPU {cpu} is beyond the {} that can be named", Mask::count()))?;
    }
    Ok(mask)
}
