//! Undoes a run whose launcher died, once its QEMU has ended: for `recover`, and for the machine's next start.

use std::path::Path;

use anyhow::Result;

use super::processes_of_dead::end_helpers;
use super::restore::{RestoreStep, restore_host};
use crate::host::Root;
use crate::journal::Journal;
use crate::plan::Plan;
use crate::run::kept::leases::{self, Leases};
use crate::run::kept::{guest_lock, plan_file};
use crate::run::outcome::RECOVERED;
use crate::run::reporting;

/// What undoing a dead run came to.
pub(in crate::run) struct Undone {
    /// The dead run's plan; its launcher may have died before it wrote it.
    pub plan: Option<Plan>,
    /// Its devices, which are this process's now.
    pub leases: Leases,
    /// Whether nothing of it runs any more.
    pub all_ended: bool,
    /// All that could not be restored, and what did not end.
    pub left: Vec<String>,
}

/// Ends what is left of the run beside QEMU, undoes what stands in its journal, with the hooks that are owed, and completes its
/// report. `stuck` tells of what did not end before. Fails, and undoes nothing, if another machine has a device by now.
pub(in crate::run) async fn undo_dead(
    run_dir: &Path,
    journal: &mut Journal,
    root: &Root,
    mut stuck: Vec<String>,
) -> Result<Undone> {
    guest_lock::empty(run_dir);
    // Leases come after the plan, so without one there are none.
    let plan = plan_file::read(run_dir).ok();
    let leases = leases::take_again(plan.as_ref())?;
    stuck.extend(end_helpers(run_dir, journal, plan.as_ref()).await?);
    let all_ended = stuck.is_empty();
    let mut timeline = plan.as_ref().map(|plan| reporting::of_dead(run_dir, plan));
    let hooks = plan.as_ref().is_some_and(|plan| !plan.hooks.is_empty());
    let mut done = |step: RestoreStep<'_>| {
        if let Some(timeline) = &mut timeline {
            timeline.restored(&step, hooks);
        }
    };
    let (mut left, warnings) = restore_host(journal, root, plan.as_ref(), RECOVERED, &mut done).await;
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    left.splice(0..0, stuck);
    if let Some((plan, timeline)) = plan.as_ref().zip(timeline) {
        reporting::put_back(run_dir, plan, timeline, journal.records(), &left, warnings);
    }
    Ok(Undone { plan, leases, all_ended, left })
}
