//! Makes the partition of the vCPUs' CPUs, once QEMU waits in its group.

use anyhow::{Context as _, Result};

use super::affinity::place;
use crate::change::{Change, unattended};
use crate::host::Root;
use crate::journal::Journal;
use crate::plan::{Isolation, Plan, PlannedChange};
use crate::run::ending::restore::log_undo;
use crate::units::CpuSet;

/// The isolation that an earlier launcher of the run made, if it stands.
pub fn standing<'p>(plan: &'p Plan, journal: &Journal) -> Option<&'p Isolation> {
    let isolation = plan.isolation.as_ref()?;
    let last = &isolation.changes.last()?.change;
    journal.open_changes().iter().any(|open| open.change == *last).then_some(isolation)
}

/// Makes it, if the plan has one, and returns it. One that nobody asked for is left out if it cannot be made.
///
/// # Errors
/// If the kernel, or systemd, refuses one that the machine file asks for.
pub fn isolate<'p>(plan: &'p Plan, root: &Root, journal: &mut Journal) -> Result<Option<&'p Isolation>> {
    let Some(isolation) = &plan.isolation else { return Ok(None) };
    if let Some(slice) = &isolation.slice {
        stay_off(slice, &plan.placement.emulator);
    }
    for PlannedChange { change, .. } in &isolation.changes {
        tracing::debug!("{change}");
        let made = journal.make(root, change, &unattended);
        match made.with_context(|| format!("could not {change}")) {
            Ok(_) => {}
            Err(why) if isolation.required => {
                return Err(why.context("the guest was not started, because its vCPUs' CPUs could not be made its own"));
            }
            Err(why) => {
                tracing::warn!("other programs may run on the CPUs of {}: {why:#}", plan.name);
                give_up(plan, root, journal);
                return Ok(None);
            }
        }
    }
    Ok(Some(isolation))
}

/// Undoes it, for a QEMU that ends before the run does.
pub fn give_up(plan: &Plan, root: &Root, journal: &mut Journal) {
    let Some(isolation) = &plan.isolation else { return };
    let is_of_it = |change: &Change| isolation.changes.iter().any(|planned| planned.change == *change);
    for report in journal.undo_where(root, is_of_it) {
        log_undo(&report);
    }
}

/// Keeps the launcher off the vCPUs' CPUs if it is in the slice that has them: nothing else does.
fn stay_off(slice: &str, emulator: &CpuSet) {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    if own.lines().filter_map(|line| line.strip_prefix("0::/")).any(|path| path.split('/').next() == Some(slice))
        && let Err(error) = place(std::process::id() as i32, emulator)
    {
        tracing::warn!("vfio-run itself may run on the vCPUs' CPUs: {error:#}");
    }
}
