//! A run from the lock to the undo: claims the machine, starts it, supervises it, restores the host.
//!
//! All of it is on one thread in one event loop, which sleeps in the kernel while the guest runs: nothing is polled, and no
//! timer runs unless somebody has asked the guest to end or its dead-man switch waits for a sign of life, or for the few
//! looks after a start or restart (`supervising/device_irqs.rs`, `starting/threads.rs`).

use std::path::Path;

use anyhow::{Context as _, Result};
use qapi::Enum as _;

use crate::child::LastChoice;
use crate::host::Root;
use crate::journal::Journal;
use crate::plan::Plan;
use crate::run::ending::finish::{Finished, finish};
use crate::run::hooks::RunningHooks;
use crate::run::kept::last_failure;
use crate::run::kept::leases::Leases;
use crate::run::kept::lock::Lock;
use crate::run::kept::log;
use crate::run::late::{Access, LateDevices};
use crate::run::outcome::{Outcome, Report};
use crate::run::process::Watched;
use crate::run::processes::Processes;
use crate::run::reporting::{self, Timeline};
use crate::run::signals::{Asked, Signals};
use crate::run::starting::claim::{Claim, Claimed, claim};
use crate::run::starting::holds;
use crate::run::starting::start::{start, start_again};
use crate::run::supervising::console;
use crate::run::supervising::dead_man_switch::Missed;
use crate::run::supervising::event_loop::{self, Ended, Running, supervise};
use crate::run::supervising::lasting::Lasting;
use crate::run::supervising::reach_guest::{ReachedGuest, reach_guest};
use crate::run::supervising::switch_clock::SwitchClock;
use crate::units::machine_state;

/// Starts the machine and returns when it has ended and the host is restored. A guest of this name that lost its launcher
/// is taken over instead; what a dead launcher changed is undone first.
pub async fn run(plan: &Plan, root: &Root) -> Result<Report> {
    let mut signals = Signals::catch()?;
    let timeline = Timeline::begin(&plan.name, &plan.screens, "lock, leases and journal");
    let Claimed { leases: _leases, mut journal, lock } = match claim(plan, root).await? {
        Claim::Claimed(claimed) => claimed,
        Claim::GuestRuns(lock) => {
            tracing::warn!("{} runs already, without a launcher; this launcher takes it over", plan.name);
            return take_over(lock, &plan.paths.run, root, &mut signals, plan.console).await;
        }
        Claim::Refused(report) => return Ok(report),
    };
    log::put_aside(&plan.paths.log);
    reporting::forget(&plan.paths.run);
    let mut processes = Processes::default();
    let mut warnings = Vec::new();
    // A host that shuts down waits for all of it, to the restored host.
    let mut lasting = Lasting { notices: holds::notices(plan).await, recording: None, timeline };
    let started = start(plan, root, &mut journal, &mut signals, &mut processes, &mut lasting).await;
    let outcome = match started {
        Ok(running) => {
            last_failure::remove(&plan.paths.log);
            let hooks = RunningHooks::start(plan, processes.qemu.as_ref().map(Watched::pid));
            let state = machine_state::RUNNING;
            let outcome = attend(plan, running, state, &mut journal, &mut signals, &mut processes, &mut lasting).await;
            warnings = hooks.end().await;
            outcome
        }
        Err(error) => match error.downcast_ref() {
            Some(Missed { .. }) => Outcome::Crashed(format!("QEMU was not ready in time: {error:#}")),
            None => Outcome::NotStarted(error),
        },
    };
    Ok(finish(lock, journal, root, processes, plan, Finished { outcome, warnings, lasting }).await)
}

/// Supervises a guest whose launcher died. Without `console`, this terminal is not connected to it.
pub async fn adopt(lock: Lock, run_dir: &Path, root: &Root, console: bool) -> Result<Report> {
    let mut signals = Signals::catch()?;
    take_over(lock, run_dir, root, &mut signals, console).await
}

async fn take_over(lock: Lock, run_dir: &Path, root: &Root, signals: &mut Signals, console: bool) -> Result<Report> {
    let mut journal = Journal::open(run_dir).context("cannot open the journal")?;
    let reached = reach_guest(run_dir, &mut journal, root).await.with_context(|| {
        let name = run_dir.file_name().unwrap_or_default().display();
        format!("the guest cannot be taken over; `vfio-run stop --force {name}` ends it and restores the host")
    })?;
    let ReachedGuest { mut plan, mut qmp, mut processes, state } = reached;
    // The guest has the device either way; a launcher that took its lease meanwhile finds that out itself.
    let _leases = Leases::take(&plan).inspect_err(|error| tracing::warn!("{error:#}"));
    plan.console &= console;
    let running = Running {
        console: console::connect(console::dial(&plan), None, &mut qmp).await,
        late: LateDevices::of_running(&mut Access { plan: &plan, qmp: &mut qmp, journal: &mut journal }, root).await?,
        switch: plan.give_back_unless.filter(|_| !event_loop::was_alive(run_dir)).map(SwitchClock::start),
        qmp,
        log: None,
        root: root.clone(),
    };
    // To its scope this launcher is nobody: systemd takes a controller only when a scope is made.
    let timeline = reporting::of_dead(run_dir, &plan);
    let mut lasting = Lasting { notices: holds::notices(&plan).await, recording: None, timeline };
    let outcome = attend(&plan, running, state.name(), &mut journal, signals, &mut processes, &mut lasting).await;
    Ok(finish(lock, journal, root, processes, &plan, Finished { outcome, warnings: Vec::new(), lasting }).await)
}

/// Supervises the guest, and starts QEMU anew as often as it restarts, if the plan wants that, until it has ended for good.
/// `state` is QEMU's run state.
async fn attend(
    plan: &Plan,
    mut running: Running,
    mut state: &str,
    journal: &mut Journal,
    signals: &mut Signals,
    processes: &mut Processes,
    lasting: &mut Lasting,
) -> Outcome {
    let (name, root) = (&plan.name, running.root.clone());
    loop {
        let last_choice = LastChoice::make();
        let ended = supervise(plan, running, state, processes, signals, journal, lasting).await;
        drop(last_choice);
        let switch = match ended {
            Ended::For(outcome) => return outcome,
            Ended::Restarts { switch } => switch,
        };
        tracing::info!(event = "relaunch", "{name} restarts: QEMU is started anew");
        running = match start_again(plan, &root, journal, signals, processes, switch, lasting).await {
            Ok(running) => running,
            // The guest had ended in good order by then.
            Err(error) if error.is::<Asked>() => {
                tracing::info!("{error:#}");
                return Outcome::ShutDown("guest-reset".to_owned());
            }
            Err(error) => {
                return Outcome::Crashed(format!("{name} restarted, and QEMU could not be started anew: {error:#}"));
            }
        };
        state = machine_state::RUNNING;
    }
}
