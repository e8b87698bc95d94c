//! Restores the host: undoes the changes in the journal, and runs the hooks around that.

use std::time::{Duration, Instant};

use crate::change::Undone;
use crate::host::Root;
use crate::journal::{Journal, UndoReport};
use crate::plan::Plan;
use crate::run::hooks;
use crate::run::outcome::HookOutcome;
use crate::units::{Stage, exit};

/// Undoes every change that stands in the journal, between the hooks that still have to run. Calls `done` after each
/// step. Returns what could not be undone, and which hooks failed.
pub(in crate::run) async fn restore_host(
    journal: &mut Journal,
    root: &Root,
    plan: Option<&Plan>,
    mut outcome: HookOutcome,
    done: &mut dyn FnMut(RestoreStep<'_>),
) -> (Vec<String>, Vec<String>) {
    let mut warnings = Vec::new();
    let mut left = Vec::new();
    for stage in [Stage::Ended, Stage::Restored] {
        if stage == Stage::Restored {
            let reports = journal.undo_all(root);
            reports.iter().for_each(|report| done(RestoreStep::Undone(report)));
            left = reports.iter().filter_map(log_undo).collect();
            if let Some(error) = journal.unnoted() {
                warnings.push(format!("what was undone could not be noted in the journal: {error}"));
            }
            outcome.code = if left.is_empty() { outcome.code } else { exit::NOT_RESTORED };
        }
        if let Some(plan) = plan {
            let begun = Instant::now();
            warnings.extend(hooks::run_after_guest(plan, stage, journal, outcome).await);
            done(RestoreStep::Hooks(stage, begun.elapsed()));
        }
    }
    (left, warnings)
}

/// A step of restoring the host that was done.
pub(in crate::run) enum RestoreStep<'a> {
    /// The hooks of a stage, in this time.
    Hooks(Stage, Duration),
    /// A change.
    Undone(&'a UndoReport),
}

/// Logs how one undo went. Returns a message if it failed.
pub(in crate::run) fn log_undo(report: &UndoReport) -> Option<String> {
    match &report.result {
        Ok(Undone::Restored) => {
            tracing::debug!("undone: {}", report.change);
            None
        }
        Ok(Undone::AlreadyBack) => None,
        Ok(Undone::NotOurs { found }) => {
            tracing::warn!(
                "not restored: another program changed it during the run: {} (found: {found})",
                report.change
            );
            None
        }
        Err(error) => {
            let words = format!("could not undo: {} ({error})", report.change);
            tracing::error!("{words}");
            Some(words)
        }
    }
}
