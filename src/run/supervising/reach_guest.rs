//! Reaches a guest that lost its launcher.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use qapi::qmp::{self, RunState};

use crate::host::Root;
use crate::journal::{self, Journal, Record};
use crate::plan::{Inherited, Plan};
use crate::qemu::Qmp;
use crate::run::ending::restore::log_undo;
use crate::run::kept::plan_file;
use crate::run::processes::{Processes, recorded_helpers, recorded_qemu};
use crate::run::starting::{isolate, threads};

/// How long a monitor that was handed over may take to answer.
pub(in crate::run) const REACH_LIMIT: Duration = Duration::from_secs(10);

/// A guest that lost its launcher.
pub(in crate::run) struct ReachedGuest {
    /// The plan as it was carried out.
    pub plan: Plan,
    /// The monitor.
    pub qmp: Qmp,
    /// QEMU and the helpers that still live.
    pub processes: Processes,
    /// QEMU's run state.
    pub state: RunState,
}

/// Connects to a guest that lost its launcher, places its threads, and continues it if the launcher died just before it did
/// so. As at a start, the pool of huge pages is given back first (a launcher of version 0.1 did that only
/// now), and the journal notes that the guest runs.
pub(in crate::run) async fn reach_guest(run_dir: &Path, journal: &mut Journal, root: &Root) -> Result<ReachedGuest> {
    let plan = plan_file::read(run_dir)?;
    let qemu = recorded_qemu(journal.records()).context("the journal does not say that QEMU was started")??;
    let qemu = qemu.context("QEMU has ended meanwhile; `vfio-run recover` restores the host")?;
    let mut qmp = connect_monitor(&plan).await?;
    threads::place_all(&mut qmp, qemu.pid(), &plan.placement, isolate::standing(&plan, journal)).await?;
    let mut state = qmp.execute(qmp::query_status {}).await?.status;
    if !journal::guest_ran(journal.records()) {
        for report in journal.settle(root) {
            log_undo(&report);
        }
        // Without this record, `recover` would end a guest that loses this launcher too as one that never ran.
        journal.append(Record::Running).context("cannot note in the journal that the guest runs")?;
    }
    if state == RunState::prelaunch {
        qmp.execute(qmp::cont {}).await.context("QEMU did not continue the guest")?;
        state = RunState::running;
    }
    let processes =
        Processes { qemu: Some(qemu), helpers: recorded_helpers(journal.records())?, ..Processes::default() };
    Ok(ReachedGuest { plan, qmp, processes, state })
}

/// Connects to the monitor that QEMU keeps for a launcher that takes over.
pub(in crate::run) async fn connect_monitor(plan: &Plan) -> Result<Qmp> {
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
