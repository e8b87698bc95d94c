//! After a launcher died: puts the host back when the guest has ended, or takes over a guest that still runs.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use qapi::qmp::{self, RunState};

use crate::host::Root;
use crate::journal::{Journal, Record};
use crate::plan::{Inherited, Plan};
use crate::qemu::Qmp;
use crate::run::kept::leases::{LeaseError, Leases};
use crate::run::kept::{folders, last_failure};
use crate::run::process::Watched;
use crate::run::starting::{sockets, threads};
use crate::run::{Lock, PLAN_FILE, Processes, RECOVERED, end, give_back, report_undo, started};

/// How long a monitor that was handed over may take to answer.
const REACH_LIMIT: Duration = Duration::from_secs(10);

/// What recovering a machine came to.
#[derive(Debug)]
pub enum Recovered {
    /// There was nothing to recover.
    Nothing,
    /// The host is as it was, but for what is named.
    PutBack {
        /// What could not be restored.
        left: Vec<String>,
    },
    /// Its launcher lives.
    Supervised {
        /// The launcher's process id, where known.
        launcher: Option<i32>,
    },
    /// The guest runs without a launcher; taking the host from under it would crash it.
    GuestRuns,
}

/// Puts back what the machine of this run directory left behind. A QEMU that was started and never let go is ended; a
/// guest that runs is left alone.
pub async fn recover(run_dir: &Path, root: &Root) -> Result<Recovered> {
    if !crate::run::is_run_dir(run_dir) {
        return Ok(Recovered::Nothing);
    }
    let lock = match Lock::take(run_dir)? {
        Ok(lock) => lock,
        Err(owner) => return Ok(Recovered::Supervised { launcher: owner.pid }),
    };
    let mut journal = Journal::open(run_dir).context("cannot open the journal")?;
    let mut held = Vec::new();
    if sockets::guest_lives(run_dir) {
        if journal.records().contains(&Record::Running) && !was_never_let_go(run_dir).await {
            return Ok(Recovered::GuestRuns);
        }
        tracing::info!("QEMU was started and never ran the guest; ending it");
        held = end_unborn(run_dir, &journal).await?;
    }
    // It may have died before it had a plan, and so before it had leases.
    let plan = plan_of(run_dir).ok();
    let _leases = leases_again(plan.as_ref())?;
    let helpers = helpers(&journal)?;
    held.extend(end(Processes { qemu: None, helpers }).await);
    let (mut left, warnings) = give_back(&mut journal, root, plan.as_ref(), RECOVERED, &mut |_| {}).await;
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let nobody_is_left = held.is_empty();
    left.splice(0..0, held);
    if let Some(plan) = &plan {
        last_failure::keep_killed(run_dir, &plan.paths.log, journal.records(), &left);
    }
    if nobody_is_left && journal.close().context("cannot remove the journal")? {
        // A launcher that died before it kept its plan made no folder for sockets either.
        if let Some(plan) = &plan {
            folders::remove_display(&plan.paths.display);
        }
        lock.remove_folder()?;
    }
    Ok(Recovered::PutBack { left })
}

/// The leases of a dead launcher: what is put back must still be this machine's. An error names the machine that has
/// one of the devices now, and from under whose guest it would be taken.
pub(in crate::run) fn leases_again(plan: Option<&Plan>) -> Result<Leases> {
    match plan.map(Leases::take) {
        None => Ok(Leases::default()),
        Some(Ok(leases)) => Ok(leases),
        // The host is put back all the same.
        Some(Err(LeaseError::Failed(error))) => {
            tracing::warn!("{error:#}");
            Ok(Leases::default())
        }
        Some(Err(error)) => Err(error).context("nothing was put back"),
    }
}

/// A guest that lost its launcher.
pub(in crate::run) struct Reached {
    /// The plan as it was carried out.
    pub plan: Plan,
    /// The monitor.
    pub qmp: Qmp,
    /// QEMU and the helpers that still live.
    pub processes: Processes,
    /// QEMU's run state.
    pub state: RunState,
}

/// Connects to a guest that lost its launcher, puts its threads in their places, and lets it go where the launcher died
/// just before it did. As at a start, what QEMU no longer needs is given back first, and that it runs is noted.
pub(in crate::run) async fn reach(run_dir: &Path, journal: &mut Journal, root: &Root) -> Result<Reached> {
    let plan = plan_of(run_dir)?;
    let qemu = started(journal.records(), "qemu").context("the journal does not say that QEMU was started")??;
    let qemu = qemu.context("QEMU has ended meanwhile; `vfio-run recover` puts the host back")?;
    let mut qmp = connect(&plan).await?;
    threads::place_all(&mut qmp, qemu.pid(), &plan.placement).await?;
    let mut state = qmp.execute(qmp::query_status {}).await?.status;
    if !journal.records().contains(&Record::Running) {
        for report in journal.settle(root) {
            report_undo(&report);
        }
        // Without it, a guest that loses this launcher too would be ended as one that never ran.
        journal.append(Record::Running).context("cannot note that the guest is let go")?;
    }
    if state == RunState::prelaunch {
        qmp.execute(qmp::cont {}).await.context("QEMU did not let the guest go")?;
        state = RunState::running;
    }
    let processes = Processes { qemu: Some(qemu), helpers: helpers(journal)? };
    Ok(Reached { plan, qmp, processes, state })
}

/// Whether the launcher died between noting that the guest is let go and doing it. A QEMU that does not answer may well
/// run its guest.
async fn was_never_let_go(run_dir: &Path) -> bool {
    let ask = async {
        let mut qmp = connect(&plan_of(run_dir)?).await?;
        anyhow::Ok(qmp.execute_within(qmp::query_status {}, REACH_LIMIT).await?.status)
    };
    matches!(ask.await, Ok(RunState::prelaunch))
}

pub(in crate::run) fn plan_of(run_dir: &Path) -> Result<Plan> {
    let path = run_dir.join(PLAN_FILE);
    let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("cannot understand {}", path.display()))
}

async fn connect(plan: &Plan) -> Result<Qmp> {
    let path = plan
        .descriptors
        .iter()
        .find_map(|d| match &d.what {
            Inherited::Listen(path) if path.ends_with("adopt.sock") => Some(path),
            _ => None,
        })
        .context("the guest was started without a second monitor for a new launcher")?;
    let stream = tokio::net::UnixStream::connect(path)
        .await
        .with_context(|| format!("cannot reach QEMU at {}", path.display()))?;
    Ok(Qmp::negotiate(stream, REACH_LIMIT).await?)
}

/// The helpers of this run that still live.
fn helpers(journal: &Journal) -> Result<Vec<(String, Watched)>> {
    let mut helpers = Vec::new();
    for record in journal.records() {
        if let Record::Started { name, pid, start_time } = record
            && name != "qemu"
            && let Some(helper) = Watched::adopt(*pid, *start_time)?
        {
            helpers.push((name.clone(), helper));
        }
    }
    Ok(helpers)
}

/// Ends a QEMU whose guest has not executed an instruction. Its number may not have reached the journal. Returns the
/// words for one that the kernel holds.
async fn end_unborn(run_dir: &Path, journal: &Journal) -> Result<Vec<String>> {
    let found: Vec<Watched> = match started(journal.records(), "qemu") {
        Some(found) => found?.into_iter().collect(),
        None => {
            let holders = crate::host::holders(&run_dir.join(sockets::GUEST_LOCK));
            holders.into_iter().map(Watched::child).collect::<Result<_>>()?
        }
    };
    let mut held = Vec::new();
    for process in &found {
        held.extend(process.end("QEMU").await.err().map(|held| held.to_string()));
    }
    let deadline = Instant::now() + REACH_LIMIT;
    while held.is_empty() && sockets::guest_lives(run_dir) {
        if Instant::now() > deadline {
            bail!("a QEMU that never ran the guest does not end");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(held)
}
