//! Restores the host in the stead of a launcher that died, and completes the report of its run.

use std::path::Path;

use super::restore::{RestoreStep, restore_host};
use crate::host::Root;
use crate::journal::Journal;
use crate::plan::Plan;
use crate::run::outcome::RECOVERED;
use crate::run::reporting;

/// Undoes what stands in the journal of this run directory, with the hooks that are owed. `plan` is that of the dead run, if
/// it could be read. `stuck` is what else is left of it. Returns all that could not be restored.
pub(in crate::run) async fn restore_for_dead(
    run_dir: &Path,
    journal: &mut Journal,
    root: &Root,
    plan: Option<&Plan>,
    stuck: Vec<String>,
) -> Vec<String> {
    let mut timeline = plan.map(|plan| reporting::of_dead(run_dir, plan));
    let hooks = plan.is_some_and(|plan| !plan.hooks.is_empty());
    let mut done = |step: RestoreStep<'_>| {
        if let Some(timeline) = &mut timeline {
            timeline.restored(&step, hooks);
        }
    };
    let (mut left, warnings) = restore_host(journal, root, plan, RECOVERED, &mut done).await;
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    left.splice(0..0, stuck);
    if let Some((plan, timeline)) = plan.zip(timeline) {
        reporting::put_back(run_dir, plan, timeline, journal.records(), &left, warnings);
    }
    left
}
