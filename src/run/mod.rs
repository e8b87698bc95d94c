//! Carries a plan out: lock, changes, helpers, QEMU, placement; then waits, and gives everything back.
//!
//! Everything happens on one thread in one event loop, which sleeps in the kernel while the guest runs: nothing is
//! polled, and no timer runs unless somebody has asked the guest to end.

mod console;
pub mod control;
mod folders;
mod leases;
mod log;
mod notify;
mod place;
mod preflight;
pub mod process;
mod recover;
mod rest;
mod scope;
mod signals;
pub mod sockets;
mod start;
mod stop;
mod supervise;
mod threads;
mod watch;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use qapi::Enum as _;

pub use folders::{Lock, Owner};
pub use recover::{Recovered, recover};

use crate::change::Undone;
use crate::host::Root;
use crate::journal::{Journal, Record, UndoReport};
use crate::plan::Plan;
use leases::Leases;
use process::Watched;
use recover::Reached;
use signals::Signals;

/// Whether this folder is a machine's run directory: a launcher has locked it, or left a journal in it.
pub fn is_run_dir(folder: &Path) -> bool {
    folder.join(Lock::FILE).is_file() || folder.join(Journal::FILE).is_file()
}

/// The plan as it was carried out, kept in the run directory for whoever takes supervision over.
pub const PLAN_FILE: &str = "plan.json";
/// How long a helper may take to leave after SIGTERM: swtpm writes its state.
const HELPER_LIMIT: Duration = Duration::from_secs(5);

/// How a run went.
#[derive(Debug)]
pub struct Report {
    /// What became of the guest.
    pub outcome: Outcome,
    /// What of the host could not be restored, in words that name it.
    pub left: Vec<String>,
}

/// What became of the guest.
#[derive(Debug)]
pub enum Outcome {
    /// It shut down, or was ended over QMP by somebody who had the right to.
    ShutDown(String),
    /// It never ran.
    NotStarted(anyhow::Error),
    /// QEMU or the guest crashed, or had to be ended by force.
    Crashed(String),
}

impl Report {
    /// The exit code that says so: see the README's table.
    pub fn exit_code(&self) -> u8 {
        match &self.outcome {
            _ if !self.left.is_empty() => 5,
            Outcome::ShutDown(_) => 0,
            Outcome::NotStarted(_) => 1,
            Outcome::Crashed(_) => 4,
        }
    }
}

/// What was started and must be gone before the host is put back.
#[derive(Debug, Default)]
pub struct Processes {
    qemu: Option<Watched>,
    helpers: Vec<(String, Watched)>,
}

/// Starts the machine and stays until it has ended. A guest of the same name that lost its launcher is taken over
/// instead; what a dead one left behind is put back first.
pub async fn run(plan: &Plan, root: &Root) -> Result<Report> {
    let mut signals = Signals::catch()?;
    let run_dir = &plan.paths.run;
    let lock = match Lock::take(run_dir)? {
        Ok(lock) => lock,
        Err(owner) => {
            let pid = owner.pid.map_or_else(String::new, |pid| format!(", launched by process {pid}"));
            let name = &plan.name;
            let refused = anyhow::anyhow!("{name} runs already{pid}; `vfio-run stop {name}` ends it");
            return Ok(Report { outcome: Outcome::NotStarted(refused), left: Vec::new() });
        }
    };
    if sockets::guest_lives(run_dir) {
        tracing::warn!("{} runs already, without a launcher: taking supervision back", plan.name);
        return take_over(lock, run_dir, root, &mut signals, plan.console).await;
    }
    let mut journal = Journal::open(run_dir).context("cannot open the journal")?;
    let left = undo(&mut journal, root);
    if !left.is_empty() {
        let refused = anyhow::anyhow!("what an earlier run left behind could not be put back");
        return Ok(Report { outcome: Outcome::NotStarted(refused), left });
    }
    if !journal.records().is_empty() {
        journal.close()?;
        journal = Journal::open(run_dir).context("cannot open the journal")?;
    }
    let _leases = match Leases::take(plan) {
        Ok(leases) => leases,
        Err(refused) => {
            journal.close()?;
            lock.remove_folder()?;
            return Ok(Report { outcome: Outcome::NotStarted(refused), left: Vec::new() });
        }
    };
    std::fs::write(run_dir.join(PLAN_FILE), serde_json::to_vec(plan)?)
        .with_context(|| format!("cannot write to {}", run_dir.display()))?;

    let mut processes = Processes::default();
    let outcome = match start::start(plan, root, &mut journal, &mut signals, &mut processes).await {
        Ok((qmp, log)) => supervise::supervise(plan, qmp, "running", Some(&log), &mut processes, &mut signals).await,
        Err(error) => Outcome::NotStarted(error),
    };
    Ok(finish(lock, journal, root, processes, &plan.paths.display, outcome).await)
}

/// Supervises a guest whose launcher died. Without `console`, the terminal is not joined to it.
pub async fn adopt(lock: Lock, run_dir: &Path, root: &Root, console: bool) -> Result<Report> {
    let mut signals = Signals::catch()?;
    take_over(lock, run_dir, root, &mut signals, console).await
}

async fn take_over(lock: Lock, run_dir: &Path, root: &Root, signals: &mut Signals, console: bool) -> Result<Report> {
    let journal = Journal::open(run_dir).context("cannot open the journal")?;
    let Reached { mut plan, qmp, mut processes, state } = recover::reach(run_dir, &journal).await?;
    // The device is in use either way; a lease that somebody else has meanwhile is theirs to find out.
    let _leases = Leases::take(&plan).inspect_err(|error| tracing::warn!("{error:#}"));
    plan.console &= console;
    let outcome = supervise::supervise(&plan, qmp, state.name(), None, &mut processes, signals).await;
    Ok(finish(lock, journal, root, processes, &plan.paths.display, outcome).await)
}

/// The guest has ended or never ran: ends what is left of it and puts the host back.
async fn finish(
    lock: Lock,
    mut journal: Journal,
    root: &Root,
    processes: Processes,
    display: &Path,
    outcome: Outcome,
) -> Report {
    notify::stopping("the host is being put back");
    end(processes).await;
    let mut left = undo(&mut journal, root);
    // How the guest ended must reach the user whatever becomes of the folder.
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
    Report { outcome, left }
}

/// Ends QEMU, if it is still there, and the helpers: politely, since swtpm has state to write, then not.
async fn end(processes: Processes) {
    if let Some(qemu) = &processes.qemu {
        qemu.kill();
        let _ = qemu.ended().await;
        qemu.reap();
    }
    for (_, helper) in &processes.helpers {
        helper.terminate();
    }
    for (name, helper) in &processes.helpers {
        if tokio::time::timeout(HELPER_LIMIT, helper.ended()).await.is_err() {
            tracing::warn!("{name} did not leave within {} s and was killed", HELPER_LIMIT.as_secs());
            helper.kill();
            let _ = helper.ended().await;
        }
        helper.reap();
    }
}

/// Undoes all that stands in the journal, last first, and names what could not be.
fn undo(journal: &mut Journal, root: &Root) -> Vec<String> {
    journal.undo_all(root).iter().filter_map(report_undo).collect()
}

/// Tells how one undo went; returns the words for what is left to the user.
fn report_undo(report: &UndoReport) -> Option<String> {
    match &report.result {
        Ok(Undone::Restored) => {
            tracing::debug!("undone: {}", report.change);
            None
        }
        Ok(Undone::AlreadyBack) => None,
        Ok(Undone::NotOurs { found }) => {
            tracing::warn!("left alone, since somebody else changed it meanwhile: {} (found: {found})", report.change);
            None
        }
        Err(error) => {
            let words = format!("could not undo: {} ({error})", report.change);
            tracing::error!("{words}");
            Some(words)
        }
    }
}

/// The process that a journal says was started under this name, if it still lives.
fn started(records: &[Record], wanted: &str) -> Option<Result<Option<Watched>>> {
    records.iter().rev().find_map(|record| match record {
        Record::Started { name, pid, start_time } if name == wanted => Some(Watched::adopt(*pid, *start_time)),
        _ => None,
    })
}
