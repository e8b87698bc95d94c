//! The end of a run: ends its processes, restores the host, removes the run directory.

use std::path::Path;

use super::restore::restore_host;
use crate::host::Root;
use crate::journal::Journal;
use crate::plan::Plan;
use crate::run::kept::lock::Lock;
use crate::run::kept::{folders, last_failure};
use crate::run::outcome::{Outcome, Report};
use crate::run::processes::Processes;
use crate::run::systemd_notify;

/// The guest has ended or never ran: ends the processes that are left and restores the host.
pub(in crate::run) async fn finish(
    lock: Lock,
    mut journal: Journal,
    root: &Root,
    processes: Processes,
    plan: &Plan,
    outcome: Outcome,
) -> Report {
    systemd_notify::stopping("restoring the host");
    let stuck = processes.end_all().await;
    let (mut left, warnings) = restore_host(&mut journal, root, Some(plan), outcome.for_hooks(), &mut |_| {}).await;
    let all_ended = stuck.is_empty();
    left.splice(0..0, stuck);
    last_failure::write(&plan.paths.log, &outcome, journal.records(), &left);
    // While a process of the machine runs, no other launcher may start the machine.
    if all_ended {
        remove_run(lock, journal, &plan.paths.display, &mut left);
    }
    Report { outcome, left, warnings, stutter: None }
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
