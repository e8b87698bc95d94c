//! The end of a run: ends its processes, restores the host, removes the run directory.

use std::path::Path;
use std::time::Instant;

use super::restore::{RestoreStep, restore_host};
use crate::host::Root;
use crate::journal::Journal;
use crate::plan::Plan;
use crate::run::kept::lock::Lock;
use crate::run::kept::{folders, last_failure};
use crate::run::outcome::{Outcome, Report};
use crate::run::processes::Processes;
use crate::run::reporting::{self, ReportedChange};
use crate::run::supervising::activity::Recording;
use crate::run::supervising::lasting::Lasting;
use crate::run::systemd_notify;

/// A run whose guest has ended or never ran.
pub(in crate::run) struct Finished {
    /// What became of the guest.
    pub outcome: Outcome,
    /// Hooks that failed while it ran.
    pub warnings: Vec<String>,
    /// What was noted on the way.
    pub lasting: Lasting,
}

/// The guest has ended or never ran: ends the processes that are left, restores the host, and writes the report.
pub(in crate::run) async fn finish(
    lock: Lock,
    mut journal: Journal,
    root: &Root,
    processes: Processes,
    plan: &Plan,
    finished: Finished,
) -> Report {
    let Finished { outcome, mut warnings, lasting: Lasting { notices, recording, mut timeline } } = finished;
    timeline.ends();
    let stutter = recording.map(Recording::end);
    systemd_notify::stopping("restoring the host");
    let begun = Instant::now();
    let stuck = processes.end_all().await;
    timeline.gave_back("end QEMU and its helpers", begun.elapsed().as_secs_f64() * 1e3);
    let hooks = !plan.hooks.is_empty();
    let mut done = |step: RestoreStep<'_>| timeline.restored(&step, hooks);
    let (mut left, failed) = restore_host(&mut journal, root, Some(plan), outcome.for_hooks(), &mut done).await;
    warnings.extend(failed);
    let all_ended = stuck.is_empty();
    left.splice(0..0, stuck);
    last_failure::write(&plan.paths.log, &outcome, journal.records(), &left);
    let mut report = Report { outcome, left, warnings, stutter };
    let changes = ReportedChange::all(journal.records());
    // While a process of the machine runs, no other launcher may start the machine.
    if all_ended {
        remove_run(lock, journal, &plan.paths.display, &mut report.left);
    }
    reporting::write(plan, timeline, &report, changes);
    // Until here the host waited for it, if it shuts down.
    drop(notices);
    report
}

/// Removes the journal and the run directory if no change stands any more. Adds to `left` what could not be removed.
pub(in crate::run) fn remove_run(lock: Lock, journal: Journal, display: &Path, left: &mut Vec<String>) {
    // An error here must not hide from the user how the guest ended.
    match journal.close() {
        Ok(true) => {
            folders::remove_display(display);
            if let Err(error) = lock.remove_folder() {
                left.push(format!("{error:#}"));
            }
        }
        Ok(false) => {}
        Err(error) => left.push(format!("cannot remove the journal: {error}")),
    }
}
