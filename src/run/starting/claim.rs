//! Claims a machine for this launcher: its lock, an empty journal, the leases of its devices.

use anyhow::{Context as _, Result};

use crate::host::Root;
use crate::journal::{Journal, Record, last_qemu};
use crate::plan::Plan;
use crate::run::ending::processes_of_dead::end_qemu;
use crate::run::ending::undo_dead::undo_dead;
use crate::run::kept::leases::Leases;
use crate::run::kept::lock::Lock;
use crate::run::kept::{guest_lock, plan_file};
use crate::run::outcome::Report;
use crate::run::process::remedy_if_stopped;

/// What a launcher holds of a machine that it may start.
#[derive(Debug)]
pub(in crate::run) struct Claimed {
    /// The leases of its devices.
    pub leases: Leases,
    /// Its empty journal.
    pub journal: Journal,
    /// Its lock.
    pub lock: Lock,
}

/// Whether this launcher may start the machine.
pub(in crate::run) enum Claim {
    /// It may.
    Claimed(Claimed),
    /// The guest runs already, without a launcher.
    GuestRuns(Lock),
    /// Another launcher has the machine, or a device that it needs; or an earlier run could not be undone.
    Refused(Report),
}

/// Takes the machine's lock and the leases of its devices. Undoes first what a dead launcher left.
pub(in crate::run) async fn claim(plan: &Plan, root: &Root) -> Result<Claim> {
    let (name, run_dir) = (&plan.name, &plan.paths.run);
    let lock = match Lock::take(run_dir)? {
        Ok(lock) => lock,
        Err(owner) => {
            let records = Journal::read(run_dir).ok().flatten().unwrap_or_default();
            let (does, by, ends) = match records.contains(&Record::Rehearsal) {
                true => ("is being rehearsed", " by process", String::new()),
                false => ("runs already", ", launched by process", format!("; `vfio-run stop {name}` ends it")),
            };
            // `stop` would be refused as well.
            let stopped = remedy_if_stopped(&format!("{name} {does}, and its launcher"), owner.pid);
            let refused = stopped.unwrap_or_else(|| {
                let by = owner.pid.map_or_else(String::new, |pid| format!("{by} {pid}"));
                format!("{name} {does}{by}{ends}")
            });
            return Ok(Claim::Refused(Report::refused(anyhow::anyhow!(refused), Vec::new())));
        }
    };
    // A QEMU whose launcher died before it had noted that it was started has never been asked for anything.
    let is_noted =
        || Journal::read(run_dir).map_or(true, |records| records.is_some_and(|all| last_qemu(&all).is_some()));
    if guest_lock::guest_runs(run_dir) && is_noted() {
        return Ok(Claim::GuestRuns(lock));
    }
    let mut journal = Journal::open(run_dir).context("cannot open the journal")?;
    if guest_lock::guest_lives(run_dir) {
        match guest_lock::guest_runs(run_dir) {
            true => tracing::info!("the QEMU of an earlier run never ran its guest; killing it"),
            false => tracing::info!("the QEMU of an earlier run ends; waiting until all of it has"),
        }
        let stuck = end_qemu(run_dir, journal.records()).await?;
        if !stuck.is_empty() {
            return Ok(Claim::Refused(not_restored(stuck)));
        }
    }
    let earlier = match undo_dead(run_dir, &mut journal, root, Vec::new()).await {
        Ok(earlier) if earlier.left.is_empty() => earlier,
        Ok(earlier) => return Ok(Claim::Refused(not_restored(earlier.left))),
        Err(error) => return Ok(Claim::Refused(not_restored(vec![format!("{error:#}")]))),
    };
    if earlier.plan.is_some() || !journal.records().is_empty() {
        journal.close()?;
        // Dropped while there is no journal, so that no lease stays for a device that this run does not use.
        drop(earlier.leases);
        journal = Journal::open(run_dir).context("cannot open the journal")?;
    }
    let leases = match Leases::take(plan) {
        Ok(leases) => leases,
        Err(refused) => {
            journal.close()?;
            lock.remove_folder()?;
            return Ok(Claim::Refused(Report::refused(refused.into(), Vec::new())));
        }
    };
    if let Err(error) = plan_file::write(plan) {
        // Nothing was done yet, so nothing stays that looks like a run whose launcher was killed.
        journal.close()?;
        lock.remove_folder()?;
        return Err(error);
    }
    Ok(Claim::Claimed(Claimed { leases, journal, lock }))
}

fn not_restored(left: Vec<String>) -> Report {
    Report::refused(anyhow::anyhow!("what an earlier run changed on the host could not be restored"), left)
}
