//! From a plan to a guest whose every thread is in its place, and only then to its first instruction.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::resource::{RLIM_INFINITY, Resource};
use nix::sys::signal::Signal;
use qapi::qmp;

use super::changes::{Making, make_changes};
use super::contents::{self, Contents};
use super::display;
use super::helpers::{start_helpers, wait_for_qemu};
use super::holders;
use super::holds;
use super::isolate::{self, isolate};
use super::memory;
use super::scope::{self, Scope};
use super::sockets::{self, Sockets};
use super::spawn::{note_start, prepare};
use super::threads::{Threads, place_threads};
use super::transient_unit::Waits;
use super::trial::run_trial;
use crate::change::Change;
use crate::child::Command;
use crate::host::Root;
use crate::host::pci::vfio;
use crate::journal::{Journal, Record};
use crate::plan::{Cgroup, Inherited, Plan};
use crate::qemu::qmp::{Answer, Qmp};
use crate::run::cables;
use crate::run::ending::restore::log_undo;
use crate::run::hooks;
use crate::run::kept::guest_lock;
use crate::run::kept::log::Log;
use crate::run::kept::state;
use crate::run::late::{Access, LateDevices, medium};
use crate::run::left_behind;
use crate::run::process::Watched;
use crate::run::processes::Processes;
use crate::run::reporting::Timeline;
use crate::run::signals::{Asked, Signals};
use crate::run::supervising::console::{self, Console};
use crate::run::supervising::event_loop::{self, Running};
use crate::run::supervising::lasting::Lasting;
use crate::run::supervising::switch_clock::SwitchClock;
use crate::run::systemd_notify;
use crate::systemd::logind::Notices;
use crate::units::{Stage, run_files};

/// How long QEMU may take until it answers. With devices of the host it has every page of the guest's memory pinned first,
/// and cleared if the launcher has not done it, which takes about a second for 10 GiB; much more than that on a busy host,
/// so the limit is far away.
const ANSWER_LIMIT: Duration = Duration::from_secs(300);

/// Carries the plan out up to the running guest. What was started is in `processes` also when this fails. If the plan has a
/// dead-man switch and its time passes, the error is a [`crate::run::supervising::dead_man_switch::Missed`].
pub async fn start(
    plan: &Plan,
    root: &Root,
    journal: &mut Journal,
    signals: &mut Signals,
    processes: &mut Processes,
    lasting: &mut Lasting,
) -> Result<Running> {
    let Lasting { notices, timeline, .. } = lasting;
    let controller = notices.as_ref().and_then(Notices::name);
    if !plan.hooks.is_empty() {
        timeline.step("hooks of `before`");
    }
    hooks::run_before_guest(plan, Stage::Before, journal, signals).await?;
    timeline.step("folders, files and holds");
    *processes = of_account(plan);
    state::keep(&plan.paths, &plan.keep, plan.account.as_ref())?;
    display::prepare(plan)?;
    // Before anything is taken from the host, which may refuse them (polkit, another program's limit).
    let holds = holds::open(root, plan).await?;
    let mut contents = contents::make(root, plan)?;
    let (first_taking, all) = (plan.first_taking(), plan.changes.len());
    make_changes(plan, 0..first_taking, root, journal, signals, &mut |_, change, at| note(timeline, change, at))
        .await?;
    if plan.descriptors.iter().any(|descriptor| matches!(descriptor.what, Inherited::Memory(_))) {
        timeline.step("fill the guest's memory");
    }
    contents.extend(guest_memory(plan, root, journal, signals).await?);
    timeline.step(if plan.helpers.is_empty() { "sockets" } else { "sockets and helpers" });
    let Sockets { qemu: descriptors, qmp, helpers } = sockets::make(plan, contents::again(&contents)?)?;
    start_helpers(plan, helpers, journal, processes)?;
    if let Some(trial) = crate::plan::trial(plan) {
        timeline.step("trial of QEMU's command line");
        let log = Log::open(&plan.paths.log, &trial.command)?;
        let tried = run_trial(&trial, plan, &log, &contents, signals).await;
        // A helper that cannot do its work has said so by now.
        processes.early_end().map_or(tried, |ended| Err(ended.into()))?;
    }
    if !plan.leases.is_empty() {
        timeline.step("look at VFIO and at who uses the devices");
    }
    vfio::works(root, &plan.leases).context("the host keeps its devices, and nothing was stopped")?;
    holders::look(plan, root)?;
    make_changes(plan, first_taking..all, root, journal, signals, &mut |_, change, at| note(timeline, change, at))
        .await?;
    drop(contents);
    if !plan.leases.is_empty() {
        timeline.step("ask VFIO for the devices");
    }
    vfio::ask(root, &plan.leases).context("the guest cannot have its devices")?;
    if !plan.hooks.is_empty() {
        timeline.step("hooks of `ready`");
    }
    hooks::run_before_guest(plan, Stage::Ready, journal, signals).await?;
    let handed = Handed { descriptors, qmp, holds, switch: None, controller, timeline };
    boot(plan, root, journal, signals, processes, handed).await
}

/// Notes how far a change is.
fn note(timeline: &mut Timeline, change: &Change, at: Making) {
    match at {
        Making::Begins => timeline.change(change),
        Making::Made(_) => {}
        Making::GoesWithout => timeline.fails(),
    }
}

/// Starts QEMU anew when it has ended because the guest restarts. The host stays as the plan made it, less what QEMU lets go
/// with its end: its helpers, its holds, and the pages that were reserved for it. A dead-man switch that still waits goes on
/// to wait, so that a guest that restarts without end does not keep the devices.
pub async fn start_again(
    plan: &Plan,
    root: &Root,
    journal: &mut Journal,
    signals: &mut Signals,
    processes: &mut Processes,
    switch: Option<SwitchClock>,
    lasting: &mut Lasting,
) -> Result<Running> {
    let Lasting { notices, timeline, .. } = lasting;
    let controller = notices.as_ref().and_then(Notices::name);
    // From here on the guest counts as one that does not run yet, for every process that reads the journal.
    journal.append(Record::Relaunch)?;
    systemd_notify::status("the guest restarts");
    let stuck = processes.end_all().await;
    if !stuck.is_empty() {
        bail!(stuck.join("; "));
    }
    *processes = of_account(plan);
    event_loop::forget_alive(&plan.paths.run);
    // Its groups went with QEMU, or are in the way of those for the next.
    isolate::give_up(plan, root, journal);
    journal.shorten()?;
    display::prepare(plan)?;
    let holds = holds::open(root, plan).await?;
    for index in (0..plan.changes.len()).filter(|index| plan.changes[*index].change.nature().settles_with_memory) {
        make_changes(plan, index..index + 1, root, journal, signals, &mut |_, _, _| {}).await?;
    }
    if let Some(signal) = signals.pending().await {
        return Err(Asked::before_guest(signal).into());
    }
    let mut contents = contents::make(root, plan)?;
    contents.extend(guest_memory(plan, root, journal, signals).await?);
    let Sockets { qemu: descriptors, qmp, helpers } = sockets::make(plan, contents)?;
    start_helpers(plan, helpers, journal, processes)?;
    vfio::ask(root, &plan.leases).context("the guest cannot have its devices")?;
    let handed = Handed { descriptors, qmp, holds, switch, controller, timeline };
    boot(plan, root, journal, signals, processes, handed).await
}

/// No processes yet. If they will have an account of their own, what they leave behind is told by it.
fn of_account(plan: &Plan) -> Processes {
    let account = plan.account.as_ref().map(|account| account.uid).filter(|uid| *uid != 0);
    if account.is_some() {
        left_behind::take_in();
    }
    Processes { account, ..Processes::default() }
}

/// The guest's memory, filled. It holds its huge pages from then on, so the pool is as before.
async fn guest_memory(plan: &Plan, root: &Root, journal: &mut Journal, signals: &mut Signals) -> Result<Contents> {
    let memory = memory::make(plan, signals).await?;
    for report in journal.settle(root) {
        log_undo(&report);
    }
    Ok(memory)
}

/// What QEMU inherits, our end of its monitor, the dead-man switch that waits already, the launcher's name on the system bus,
/// if it listens there, and the report of the run.
struct Handed<'a> {
    descriptors: Vec<(i32, OwnedFd)>,
    qmp: UnixStream,
    holds: Vec<OwnedFd>,
    switch: Option<SwitchClock>,
    controller: Option<&'a str>,
    timeline: &'a mut Timeline,
}

/// Starts QEMU on a host that is ready, up to the running guest.
async fn boot(
    plan: &Plan,
    root: &Root,
    journal: &mut Journal,
    signals: &mut Signals,
    processes: &mut Processes,
    handed: Handed<'_>,
) -> Result<Running> {
    let Handed { descriptors, qmp, holds, switch, controller, timeline } = handed;
    timeline.step("QEMU starts and answers");
    let log = Log::open(&plan.paths.log, &plan.command)?;
    let mut command = Command::new(&plan.command.binary);
    command.args(plan.command.argv());
    // The numbers of the lock and of the holds are of no interest to QEMU.
    let free = descriptors.iter().map(|(number, _)| number + 1).max().unwrap_or(3);
    let held = [guest_lock::take(&plan.paths.run, run_files::GUEST_LOCK)?].into_iter().chain(holds);
    for (number, descriptor) in descriptors.into_iter().chain((free..).zip(held)) {
        command.fd(number, descriptor);
    }
    prepare(&mut command, plan, plan.account.as_ref(), &log)?;
    command.affinity(plan.placement.born());
    // A session or service that ends sends all its processes these, and QEMU would end at once; the launcher, which gets them
    // too, presses the guest's power button.
    if plan.cgroup == Cgroup::Ours {
        command.block_signals(&[Signal::SIGTERM, Signal::SIGHUP]);
    }
    for variable in &plan.environment {
        command.env(&variable.name, &variable.value);
    }
    // Only root may raise the limit; for others the check has looked at it.
    if plan.lock_memory && nix::unistd::geteuid().is_root() {
        command.rlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    }
    // The time counts from here on, since the screen is black from now on whether or not QEMU gets as far as the guest.
    let switch = switch.or_else(|| plan.give_back_unless.map(SwitchClock::start));
    let qemu = Watched::child(command.spawn()?.id() as i32)?;
    let qemu = processes.qemu.insert(qemu);
    note_start(journal, "qemu", qemu)?;
    let made = Made { qmp, log: &log, controller, timeline };
    let guest_runs = run_guest(plan, root, journal, signals, processes, made);
    let (qmp, console, late) = match &switch {
        Some(switch) => switch.in_time(guest_runs).await??,
        None => guest_runs.await?,
    };
    Ok(Running { qmp, log: Some(log), console, switch, late, root: root.clone() })
}

/// What was made for QEMU before it was started.
struct Made<'a> {
    /// The launcher's end of its monitor.
    qmp: UnixStream,
    log: &'a Log,
    /// The launcher's name on the system bus, if it listens there.
    controller: Option<&'a str>,
    timeline: &'a mut Timeline,
}

/// From QEMU's start to the guest's first instruction.
async fn run_guest(
    plan: &Plan,
    root: &Root,
    journal: &mut Journal,
    signals: &mut Signals,
    processes: &Processes,
    made: Made<'_>,
) -> Result<(Qmp, Option<Console>, LateDevices)> {
    let Made { qmp, log, controller, timeline } = made;
    let serial = console::dial(plan);
    // The last, since QEMU looks at connections in the same turns of its main loop.
    let [vcpus, iothreads] = Threads::COMMANDS;
    let commands = [vcpus, iothreads, console::IS_ACCEPTED];
    let (qmp, [vcpus, iothreads, accepted]) = tokio::select! {
        answered = wait_for_qemu(qmp, processes, log, commands, ANSWER_LIMIT) => answered?,
        signal = signals.next() => return Err(Asked::before_guest(signal).into()),
    };
    // Each question has its own limit, and a signal need not wait for any.
    let answered = Answered { qmp, threads: [vcpus, iothreads], serial, accepted, controller, timeline };
    tokio::select! {
        runs = continue_guest(plan, root, journal, processes, answered) => runs,
        signal = signals.next() => Err(Asked::before_guest(signal).into()),
    }
}

/// A QEMU that has answered, and what.
struct Answered<'a> {
    qmp: Qmp,
    /// To [`Threads::COMMANDS`].
    threads: [Answer; 2],
    /// The connection to its serial port, if this terminal is to have that.
    serial: Option<Result<UnixStream>>,
    /// To [`console::IS_ACCEPTED`].
    accepted: Answer,
    controller: Option<&'a str>,
    timeline: &'a mut Timeline,
}

/// From QEMU's answer to the guest's first instruction.
async fn continue_guest(
    plan: &Plan,
    root: &Root,
    journal: &mut Journal,
    processes: &Processes,
    answered: Answered<'_>,
) -> Result<(Qmp, Option<Console>, LateDevices)> {
    let Answered { mut qmp, threads, serial, accepted, controller, timeline } = answered;
    timeline.step("place QEMU's threads");
    let qemu = processes.qemu.as_ref().context("there is no QEMU to continue")?;
    if let Cgroup::Scope(name) = &plan.cgroup {
        let pids = [qemu].into_iter().chain(processes.helpers.iter().map(|(_, h)| h)).map(|p| p.pid() as u32);
        // After the answer, so that a QEMU that refuses its arguments leaves no failed scope behind.
        let scope = Scope::of(plan, name, controller, waits(plan).limit_of_stop());
        if let Err(error) = scope::enter(&scope, &pids.collect::<Vec<_>>()).await {
            tracing::warn!("QEMU stays in the launcher's cgroup: {error:#}");
        }
    }
    let isolation = isolate(plan, root, journal)?;
    let threads = Threads::read(threads).context("QEMU did not tell its threads")?;
    let placed = place_threads(threads, qemu.pid(), &plan.placement, isolation);
    placed.context("the guest was not started, because one of its threads could not be placed")?;
    if let Some(isolation) = isolation {
        isolate::keep_off(plan, isolation, processes);
    }
    timeline.step("console and devices that come and go");
    cables::unplug(plan, journal.records(), &mut qmp).await?;
    medium::again(plan, journal.records(), &mut qmp).await;
    display::hand_over(plan);
    // Before the guest writes to its serial port.
    let console = console::connect(serial, Some(accepted), &mut qmp).await;
    // As late as can be: QEMU takes each from the host at once.
    let mut late = LateDevices::new(plan, root, journal.records());
    late.give_first(&mut Access { plan, qmp: &mut qmp, journal }).await?;
    journal.append(Record::Running)?;
    qmp.execute(qmp::cont {}).await.context("QEMU did not continue the guest")?;
    timeline.guest_runs();
    Ok((qmp, console, late))
}

/// What systemd waits for if it stops the guest's scope.
fn waits(plan: &Plan) -> Waits {
    Waits { guest: plan.shutdown_timeout, start: 0, end: plan.hooks_limit(false) }
}
