//! Carries a plan out: lock, changes, helpers, QEMU, placement; then waits, and gives everything back.
//!
//! Everything happens on one thread in one event loop, which sleeps in the kernel while the guest runs: nothing is
//! polled, and no timer runs unless somebody has asked the guest to end or its dead-man switch waits for a sign of life.

mod ending;
mod hooks;
mod kept;
pub mod process;
mod rehearsing;
mod signals;
mod starting;
mod supervising;
mod systemd_notify;
mod watch_fd;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use qapi::Enum as _;

pub use ending::recover::{Recovered, recover};
pub use kept::folders::{Lock, Owner};
pub use kept::last_failure::LastFailure;
pub use kept::launcher::Launcher;
pub use kept::leases::sweep as sweep_leases;
pub use rehearsing::rehearse::rehearse;
pub use rehearsing::{Leak, Rehearsal, Side, Spread, Step};
pub use starting::{sockets, transient_unit};
pub use supervising::control;

use crate::change::Undone;
use crate::host::Root;
use crate::journal::{Journal, Record, UndoReport};
use crate::plan::Plan;
use crate::units::Stage;
use ending::recover::{self, Reached};
use hooks::Told;
use kept::leases::Leases;
use kept::{folders, last_failure};
use process::Watched;
use signals::Signals;
use starting::start;
use supervising::{console, dead_man_switch, event_loop};

/// Whether this folder is a machine's run directory: a launcher has locked it, or left a journal in it.
pub fn is_run_dir(folder: &Path) -> bool {
    folder.join(Lock::FILE).is_file() || folder.join(Journal::FILE).is_file()
}

/// The plan as it was carried out, kept in the run directory for whoever takes supervision over.
pub const PLAN_FILE: &str = "plan.json";
/// There from the guest's first sign of life on, for a launcher that takes over.
const ALIVE_FILE: &str = "alive";
/// How long a helper may take to leave after SIGTERM: swtpm writes its state.
const HELPER_LIMIT: Duration = Duration::from_secs(5);

/// How a run went.
#[derive(Debug)]
pub struct Report {
    /// What became of the guest.
    pub outcome: Outcome,
    /// What of the host could not be restored, in words that name it.
    pub left: Vec<String>,
    /// What else went wrong, and kept nobody from anything: hooks that failed after the start.
    pub warnings: Vec<String>,
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
            _ => self.outcome.told().code,
        }
    }

    /// Of a start that was refused before anything was done.
    fn refused(why: anyhow::Error, left: Vec<String>) -> Self {
        Self { outcome: Outcome::NotStarted(why), left, warnings: Vec::new() }
    }
}

impl Outcome {
    /// What hooks are told of it.
    fn told(&self) -> Told {
        let (outcome, code) = match self {
            Self::ShutDown(_) => ("shut-down", 0),
            Self::NotStarted(_) => ("not-started", 1),
            Self::Crashed(_) => ("crashed", 4),
        };
        Told { outcome, code }
    }
}

/// What there is once a machine is ours to start: given back in reverse.
#[derive(Debug)]
struct Begun {
    leases: Leases,
    journal: Journal,
    lock: Lock,
}

/// How a beginning came out.
enum Entry {
    /// The machine is ours and the journal empty.
    Begun(Begun),
    /// Its guest runs and has no launcher.
    Guest(Lock),
    /// Somebody else has it, or something that it needs.
    Refused(Report),
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
    let Begun { leases: _leases, mut journal, lock } = match begin(plan, root).await? {
        Entry::Begun(begun) => begun,
        Entry::Guest(lock) => {
            tracing::warn!("{} runs already, without a launcher: taking supervision back", plan.name);
            return take_over(lock, &plan.paths.run, root, &mut signals, plan.console).await;
        }
        Entry::Refused(report) => return Ok(report),
    };
    let mut processes = Processes::default();
    let mut warnings = Vec::new();
    let outcome = match start::start(plan, root, &mut journal, &mut signals, &mut processes).await {
        Ok(running) => {
            last_failure::forget(&plan.paths.log);
            let beside = hooks::Beside::start(plan, processes.qemu.as_ref().map(Watched::pid));
            let outcome = event_loop::supervise(plan, running, "running", &mut processes, &mut signals).await;
            warnings = beside.end().await;
            outcome
        }
        Err(error) => match error.downcast_ref() {
            Some(dead_man_switch::Missed { .. }) => Outcome::Crashed(format!("QEMU was not ready in time: {error:#}")),
            None => Outcome::NotStarted(error),
        },
    };
    let mut report = finish(lock, journal, root, processes, plan, outcome).await;
    report.warnings.splice(0..0, warnings);
    Ok(report)
}

/// Takes the machine: its lock, an empty journal after what a dead launcher left was put back, its devices' leases.
async fn begin(plan: &Plan, root: &Root) -> Result<Entry> {
    let (name, run_dir) = (&plan.name, &plan.paths.run);
    let lock = match Lock::take(run_dir)? {
        Ok(lock) => lock,
        Err(owner) => {
            let records = Journal::read(run_dir).ok().flatten().unwrap_or_default();
            let refused = match (owner.pid, records.contains(&Record::Rehearsal)) {
                (Some(pid), true) => anyhow::anyhow!("{name} is being rehearsed by process {pid}"),
                (None, true) => anyhow::anyhow!("{name} is being rehearsed"),
                (pid, false) => {
                    let pid = pid.map_or_else(String::new, |pid| format!(", launched by process {pid}"));
                    anyhow::anyhow!("{name} runs already{pid}; `vfio-run stop {name}` ends it")
                }
            };
            return Ok(Entry::Refused(Report::refused(refused, Vec::new())));
        }
    };
    if sockets::guest_lives(run_dir) {
        return Ok(Entry::Guest(lock));
    }
    let mut journal = Journal::open(run_dir).context("cannot open the journal")?;
    let earlier = recover::plan_of(run_dir).ok();
    let its_leases = match recover::leases_again(earlier.as_ref()) {
        Ok(leases) => leases,
        Err(error) => return Ok(Entry::Refused(not_put_back(vec![format!("{error:#}")]))),
    };
    let (left, warnings) = give_back(&mut journal, root, earlier.as_ref(), RECOVERED, &mut |_| {}).await;
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    if !left.is_empty() {
        return Ok(Entry::Refused(not_put_back(left)));
    }
    if earlier.is_some() || !journal.records().is_empty() {
        journal.close()?;
        // While there is no journal, so that none of them stays for a device that this run has no use for.
        drop(its_leases);
        journal = Journal::open(run_dir).context("cannot open the journal")?;
    }
    let leases = match Leases::take(plan) {
        Ok(leases) => leases,
        Err(refused) => {
            journal.close()?;
            lock.remove_folder()?;
            return Ok(Entry::Refused(Report::refused(refused.into(), Vec::new())));
        }
    };
    std::fs::write(run_dir.join(PLAN_FILE), serde_json::to_vec(plan)?)
        .with_context(|| format!("cannot write to {}", run_dir.display()))?;
    Ok(Entry::Begun(Begun { leases, journal, lock }))
}

fn not_put_back(left: Vec<String>) -> Report {
    Report::refused(anyhow::anyhow!("what an earlier run left behind could not be put back"), left)
}

/// Supervises a guest whose launcher died. Without `console`, the terminal is not joined to it.
pub async fn adopt(lock: Lock, run_dir: &Path, root: &Root, console: bool) -> Result<Report> {
    let mut signals = Signals::catch()?;
    take_over(lock, run_dir, root, &mut signals, console).await
}

async fn take_over(lock: Lock, run_dir: &Path, root: &Root, signals: &mut Signals, console: bool) -> Result<Report> {
    let mut journal = Journal::open(run_dir).context("cannot open the journal")?;
    let Reached { mut plan, mut qmp, mut processes, state } = recover::reach(run_dir, &mut journal, root).await?;
    // The device is in use either way; a lease that somebody else has meanwhile is theirs to find out.
    let _leases = Leases::take(&plan).inspect_err(|error| tracing::warn!("{error:#}"));
    plan.console &= console;
    let running = event_loop::Running {
        console: console::join(&plan, &mut qmp).await,
        switch: plan.give_back_unless.filter(|_| !event_loop::was_alive(run_dir)).map(event_loop::Switch::new),
        qmp,
        log: None,
    };
    let outcome = event_loop::supervise(&plan, running, state.name(), &mut processes, signals).await;
    Ok(finish(lock, journal, root, processes, &plan, outcome).await)
}

/// The guest has ended or never ran: ends what is left of it and puts the host back.
async fn finish(
    lock: Lock,
    mut journal: Journal,
    root: &Root,
    processes: Processes,
    plan: &Plan,
    outcome: Outcome,
) -> Report {
    systemd_notify::stopping("the host is being put back");
    let held = end(processes).await;
    let (mut left, warnings) = give_back(&mut journal, root, Some(plan), outcome.told(), &mut |_| {}).await;
    let nobody_is_left = held.is_empty();
    left.splice(0..0, held);
    last_failure::keep(&plan.paths.log, &outcome, journal.records(), &left);
    // While a process has something of the machine's, nobody else may start it.
    if nobody_is_left {
        leave(lock, journal, &plan.paths.display, &mut left);
    }
    Report { outcome, left, warnings }
}

/// Removes what belongs to a run, if nothing that was done stands any more; else says what does.
fn leave(lock: Lock, journal: Journal, display: &Path, left: &mut Vec<String>) {
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
}

/// What hooks are told where a launcher died, and how its guest ended is not known.
const RECOVERED: Told = Told { outcome: "recovered", code: 0 };

/// Undoes all that stands in the journal, between the hooks that are owed. Returns what could not be undone, and which
/// hooks failed.
async fn give_back(
    journal: &mut Journal,
    root: &Root,
    plan: Option<&Plan>,
    mut told: Told,
    done: &mut dyn FnMut(Part<'_>),
) -> (Vec<String>, Vec<String>) {
    let mut warnings = Vec::new();
    let mut left = Vec::new();
    for stage in [Stage::Ended, Stage::Restored] {
        if stage == Stage::Restored {
            let reports = journal.undo_all(root);
            reports.iter().for_each(|report| done(Part::Undone(report)));
            left = reports.iter().filter_map(report_undo).collect();
            told.code = if left.is_empty() { told.code } else { 5 };
        }
        if let Some(plan) = plan {
            let begun = Instant::now();
            warnings.extend(hooks::on_the_way_back(plan, stage, journal, told).await);
            done(Part::Hooks(stage, begun.elapsed()));
        }
    }
    (left, warnings)
}

/// A part of giving back that was done.
enum Part<'a> {
    /// The hooks of a stage, in this time.
    Hooks(Stage, Duration),
    /// A change.
    Undone(&'a UndoReport),
}

/// Ends QEMU, if it is still there, and the helpers: politely, since swtpm has state to write, then not. Returns the
/// words for those that the kernel holds.
async fn end(processes: Processes) -> Vec<String> {
    let mut held = Vec::new();
    if let Some(qemu) = &processes.qemu {
        held.extend(qemu.end("QEMU").await.err());
        qemu.reap();
    }
    for (_, helper) in &processes.helpers {
        helper.terminate();
    }
    for (name, helper) in &processes.helpers {
        if tokio::time::timeout(HELPER_LIMIT, helper.ended()).await.is_err() {
            tracing::warn!("{name} did not leave within {} s and was killed", HELPER_LIMIT.as_secs());
            held.extend(helper.end(name).await.err());
        }
        helper.reap();
    }
    held.iter().map(ToString::to_string).collect()
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
