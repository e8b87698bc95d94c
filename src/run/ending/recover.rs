//! `recover`: restores the host after a launcher died, when the guest has ended too.

use std::path::Path;

use anyhow::{Context as _, Result};
use qapi::qmp::{self, RunState};

use super::processes_of_dead::end_qemu;
use super::undo_dead::{Undone, undo_dead};
use crate::change::remove_dead_pool_lock;
use crate::host::Root;
use crate::journal::{self, Journal};
use crate::run::kept::folders::{self, is_run_dir};
use crate::run::kept::lock::Lock;
use crate::run::kept::{guest_lock, last_failure, plan_file};
use crate::run::supervising::reach_guest::{REACH_LIMIT, connect_monitor};

/// What recovering a machine came to.
#[derive(Debug)]
pub enum Recovered {
    /// There was nothing to recover.
    Nothing,
    /// The host is restored, except for what is named.
    Restored {
        /// What could not be restored.
        left: Vec<String>,
    },
    /// Its launcher is alive.
    Supervised {
        /// The launcher's process id, if it is known.
        launcher: Option<i32>,
    },
    /// The guest runs without a launcher; undoing the changes now would crash it.
    GuestRuns,
}

/// What becomes of a guest that runs without a launcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orphan {
    /// It goes on, and the host stays as it is.
    GoesOn,
    /// It is ended without being asked: it may not answer any more.
    Ends,
}

/// Restores what the machine of this run directory changed on the host. Ends a QEMU that was started and never ran its
/// guest.
pub async fn recover(run_dir: &Path, root: &Root, orphan: Orphan) -> Result<Recovered> {
    if !is_run_dir(run_dir) {
        return Ok(Recovered::Nothing);
    }
    let lock = match Lock::take(run_dir)? {
        Ok(lock) => lock,
        Err(owner) => return Ok(Recovered::Supervised { launcher: owner.pid }),
    };
    let mut journal = match Journal::open(run_dir).context("cannot open the journal") {
        Ok(journal) => journal,
        // What somebody wants ended is ended all the same.
        Err(error) if orphan == Orphan::Ends && guest_lock::guest_lives(run_dir) => {
            end_qemu(run_dir, &[]).await?;
            return Err(error.context("QEMU was killed, and what was changed on the host for it is not known"));
        }
        Err(error) => return Err(error),
    };
    let mut stuck = Vec::new();
    if guest_lock::guest_lives(run_dir) {
        if orphan == Orphan::Ends {
            tracing::warn!(event = "kill", "killing QEMU, which has no launcher");
        } else if !guest_lock::guest_runs(run_dir) {
            tracing::info!("QEMU ends; waiting until all of it has");
        } else if journal::guest_ran(journal.records()) && !never_continued(run_dir).await {
            return Ok(Recovered::GuestRuns);
        } else {
            tracing::info!("QEMU was started and never ran the guest; killing it");
        }
        stuck = end_qemu(run_dir, journal.records()).await?;
    }
    let Undone { plan, leases: _leases, all_ended, left } = undo_dead(run_dir, &mut journal, root, stuck).await?;
    // An end that somebody wanted is no failure.
    if let Some(plan) = plan.as_ref().filter(|_| orphan != Orphan::Ends) {
        last_failure::write_killed(run_dir, &plan.paths.log, journal.records(), &left);
    }
    if all_ended && journal.close().context("cannot remove the journal")? {
        // A launcher that died before it wrote its plan made no folder for sockets either.
        if let Some(plan) = &plan {
            folders::remove_display(&plan.paths.display);
        }
        remove_dead_pool_lock(run_dir);
        lock.remove_folder()?;
    }
    Ok(Recovered::Restored { left })
}

/// Whether the launcher died between noting that the guest runs and QMP `cont`. A QEMU that does not answer may well run
/// its guest.
async fn never_continued(run_dir: &Path) -> bool {
    let ask = async {
        let mut qmp = connect_monitor(&plan_file::read(run_dir)?).await?;
        anyhow::Ok(qmp.execute_within(qmp::query_status {}, REACH_LIMIT).await?.status)
    };
    matches!(ask.await, Ok(RunState::prelaunch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Record;
    use crate::run::process::start_time;
    use crate::run::process::tests::without_first_thread;

    #[tokio::test]
    async fn a_qemu_that_is_ending_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = dir.path().join("tiny");
        std::fs::create_dir(&run_dir).unwrap();
        let qemu = without_first_thread();
        let pid = qemu.0.pid();
        let mut journal = Journal::open(&run_dir).unwrap();
        let started = Record::Started { name: "qemu".to_owned(), pid, start_time: start_time(pid).unwrap() };
        journal.append(started).unwrap();
        journal.append(Record::Running).unwrap();
        drop(journal);
        assert!(guest_lock::guest_lives(&run_dir) && !guest_lock::guest_runs(&run_dir));
        let recovered = recover(&run_dir, &Root::new(dir.path()), Orphan::GoesOn).await.unwrap();
        assert!(matches!(&recovered, Recovered::Restored { left } if left.is_empty()), "{recovered:?}");
        assert_eq!(start_time(pid), None);
        assert!(!run_dir.exists());
    }

    #[tokio::test]
    async fn a_lock_of_the_pool_that_a_dead_launcher_left_goes_and_one_that_is_held_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (runs, root) = (dir.path().join("vfio-run"), Root::new(dir.path()));
        let dead = || {
            let run_dir = runs.join("tiny");
            std::fs::create_dir_all(&run_dir).unwrap();
            drop(Journal::open(&run_dir).unwrap());
            run_dir
        };
        let run_dir = dead();
        let held = std::fs::File::create(runs.join(".pool")).unwrap();
        held.try_lock().unwrap();
        recover(&run_dir, &root, Orphan::GoesOn).await.unwrap();
        assert!(!run_dir.exists() && runs.join(".pool").exists());
        drop(held);
        recover(&dead(), &root, Orphan::GoesOn).await.unwrap();
        assert!(!runs.exists());
    }
}
