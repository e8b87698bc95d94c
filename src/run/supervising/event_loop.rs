//! The one event loop while the guest runs: QMP events, the end of QEMU or a helper, signals, the control socket, the
//! console. It sleeps until one of them is ready.

mod alive;
mod asked_to_end;
mod buttons;
mod events;
mod guest;
mod guest_clock;
mod host_sleep;
mod outcome;
mod requests;

use std::time::Duration;

use anyhow::{Context as _, Result};
use guest::{COMMAND_LIMIT, Guest};
use tokio::net::UnixListener;
use tokio::time::Instant;

use super::activity::{Recording, keep_first_look};
use super::console::{Console, ConsoleEvent};
use super::control;
use super::device_irqs::DeviceInterrupts;
use super::drop_startup_pages::drop_startup_pages;
use super::lasting::{Lasting, hold_sleep_again, news};
use super::log_limit::{LogLimit, cut_when_full};
use super::partition_watch::{self, Looked, PartitionWatch};
use super::slices_watch::{self, SlicesWatch};
use super::switch_clock::SwitchClock;
use super::throttle::Throttle;
use crate::change::{Change, unattended};
use crate::host::Root;
use crate::journal::Journal;
use crate::machine::Sign;
use crate::plan::{Helper, Isolation, Plan, Reach};
use crate::qemu::{Event, Qmp, QmpError};
use crate::run::ending::escalation::{Ending, Step};
use crate::run::hooks::ToggledHooks;
use crate::run::kept::log::Log;
use crate::run::late::{Access, Happened, LateDevices};
use crate::run::outcome::Outcome;
use crate::run::processes::Processes;
use crate::run::reporting::keep_in_run_dir;
use crate::run::signals::Signals;
use crate::run::starting::{isolate, sockets, threads};
use crate::run::systemd_notify;
use crate::systemd::logind::News;
use crate::units::machine_state;

pub use alive::{forget_alive, was_alive};
pub use outcome::Ended;

/// Why the loop woke up.
enum Wakeup {
    QemuEnded,
    HelperEnded(usize),
    Event(Result<Event, QmpError>),
    Signal(&'static str),
    Client(std::io::Result<tokio::net::UnixStream>),
    Console(ConsoleEvent),
    DeadlineReached,
    PlaceNewThreads,
    Record,
    LookForLife,
    LookForInterrupts,
    LogCut(std::io::Result<()>),
    Devices(Happened),
    News(News),
    ClockSet(Result<()>),
    PartitionChanged(std::io::Result<()>),
    SliceBegun(std::io::Result<()>),
}

/// What a started guest is supervised with.
pub struct Running {
    /// QEMU's monitor.
    pub qmp: Qmp,
    /// The log of this run, if this launcher began it.
    pub log: Option<Log>,
    /// The terminal, connected to the guest's serial port.
    pub console: Option<Console>,
    /// The dead-man switch, its time running.
    pub switch: Option<SwitchClock>,
    /// Devices that come and go while the guest runs.
    pub(in crate::run) late: LateDevices,
    /// The root that the host's files are under.
    pub root: Root,
}

/// Waits until the guest has ended and says how. `state` is QEMU's run state.
pub async fn supervise(
    plan: &Plan,
    running: Running,
    state: &str,
    processes: &mut Processes,
    signals: &mut Signals,
    journal: &mut Journal,
    lasting: &mut Lasting,
) -> Ended {
    match run_loop(plan, running, state, processes, signals, journal, lasting).await {
        Ok(ended) => ended,
        // Without a launcher the guest would run on, and nothing would restore the host: `finish` ends it.
        Err(error) => Ended::For(Outcome::Crashed(format!("the launcher failed, so it ended the guest: {error:#}"))),
    }
}

async fn run_loop(
    plan: &Plan,
    running: Running,
    state: &str,
    processes: &mut Processes,
    signals: &mut Signals,
    journal: &mut Journal,
    lasting: &mut Lasting,
) -> Result<Ended> {
    let qemu = processes.qemu.as_ref().context("there is no QEMU to supervise")?;
    let clients = sockets::listen(&control::path(&plan.paths.run))?;
    clients.set_nonblocking(true)?;
    let mut clients = Some(UnixListener::from_std(clients)?);
    let mut log_limit = LogLimit::watch(&plan.paths.log);
    let isolation = isolate::standing(plan, journal);
    let mut partition = PartitionWatch::watch(isolation);
    let Running { qmp, log, mut console, switch, late, root } = running;
    let mut slices = SlicesWatch::watch(isolation, &root);
    let Lasting { notices, recording, timeline } = lasting;
    let mut guest = Guest {
        plan,
        qemu,
        qmp: Some(qmp),
        ending: Ending::new(Duration::from_secs(plan.shutdown_timeout.into())),
        asked: None,
        deadline: None,
        state: state.to_owned(),
        switch,
        late,
        // Late devices were given before the guest's first instruction.
        keeps_descriptors: !plan.late.is_empty(),
        interrupts: DeviceInterrupts::new(&plan.device_irqs, &root, Instant::now()),
        journal,
        throttle: Throttle::new(Instant::now()),
        timeline,
        host_ends: false,
        paused_for_sleep: false,
        reset_at: None,
        reason: None,
    };
    let name = &plan.name;
    let placed = if plan.placement.pinned { "every vCPU on a CPU of its own" } else { "vCPUs not pinned" };
    // A launcher that takes over may find a guest that somebody has paused.
    let how = if state == machine_state::RUNNING { "runs".to_owned() } else { format!("is {state}") };
    tracing::info!(machine = name.as_str(), pid = qemu.pid(), event = "running", "{name} {how} ({placed})");
    // Of its own terminal the console says itself more.
    for (what, how) in Reach::of(plan).lines(name).iter().filter(|(what, _)| *what != "console" || !plan.console) {
        tracing::info!("{what}: {how}");
    }
    systemd_notify::ready(&format!("{state}, {placed}"));
    let toggled = ToggledHooks::wait(plan, qemu.pid());
    let mut clock = None;
    let mut looks = threads::LATER_LOOKS.into_iter();
    let mut next_look = looks.next().map(|delay| Instant::now() + delay);

    loop {
        let wakeup = tokio::select! {
            biased;
            // First what a QEMU, or a guest, that talks without end must not hold up.
            signal = signals.next() => Wakeup::Signal(signal),
            client = accept(clients.as_ref()) => Wakeup::Client(client),
            () = until(guest.deadline) => Wakeup::DeadlineReached,
            () = until(next_look) => Wakeup::PlaceNewThreads,
            () = until(recording.as_ref().map(|recording| recording.next)) => Wakeup::Record,
            () = until(guest.switch.as_ref().and_then(|switch| switch.next_look)) => Wakeup::LookForLife,
            () = until(guest.interrupts.next_look) => Wakeup::LookForInterrupts,
            news = news(notices.as_mut()) => Wakeup::News(news),
            set = guest_clock::finished(&mut clock) => Wakeup::ClockSet(set),
            happened = guest.late.happens() => Wakeup::Devices(happened),
            // QEMU's last events tell why it ended, so they are read before its end is looked at.
            event = next_event(guest.qmp.as_mut()) => Wakeup::Event(event),
            ended = qemu.ended() => { ended?; Wakeup::QemuEnded }
            helper = processes.first_helper_ended() => Wakeup::HelperEnded(helper),
            happened = relay(console.as_mut()) => Wakeup::Console(happened),
            changed = partition_watch::changed(partition.as_ref()) => Wakeup::PartitionChanged(changed),
            begun = slices_watch::begun(slices.as_ref()) => Wakeup::SliceBegun(begun),
            cut = cut_when_full(log_limit.as_ref()) => Wakeup::LogCut(cut),
        };
        match wakeup {
            Wakeup::QemuEnded => break,
            Wakeup::Event(Ok(event)) => guest.on_event(&event),
            Wakeup::Event(Err(QmpError::Closed)) => guest.qmp = None,
            Wakeup::Event(Err(error)) => {
                tracing::warn!("the monitor failed: {error:#}");
                guest.qmp = None;
            }
            Wakeup::HelperEnded(index) => {
                let (name, _) = processes.helpers.swap_remove(index);
                if !guest.ending.requested() && guest.reason.is_none() {
                    let lost = Helper::lost_with(&name).map_or_else(String::new, |lost| format!(": {lost}"));
                    tracing::error!("{name} exited while the guest runs{lost}; see {}", plan.paths.log.display());
                }
            }
            Wakeup::Signal(signal) => {
                tracing::info!(event = "signal", "{signal}");
                guest.on_signal(signal).await;
            }
            Wakeup::Console(ConsoleEvent::Escape) => guest.request_shutdown().await,
            Wakeup::Console(ConsoleEvent::Closed | ConsoleEvent::Unwritten(_)) => console = None,
            Wakeup::Client(Ok(stream)) => guest.answer_client(stream).await,
            Wakeup::Client(Err(error)) => {
                tracing::warn!("the control socket failed ({error}); signals still end {name}");
                clients = None;
            }
            Wakeup::DeadlineReached => {
                match guest.ending.elapsed() {
                    // `finish` reports it, and restores what can be restored.
                    Step::GiveUp => break,
                    step => guest.take_step(step).await,
                }
            }
            Wakeup::LogCut(Ok(())) => {
                tracing::warn!("the log of {name} grew without end and was cut: {}", plan.paths.log.display())
            }
            Wakeup::LogCut(Err(error)) => {
                tracing::warn!("the log of {name} may grow without end: {error}");
                log_limit = None;
            }
            Wakeup::LookForInterrupts => {
                if guest.interrupts.look(Instant::now()) {
                    guest.note_sign(Sign::Driver);
                }
            }
            Wakeup::PartitionChanged(Ok(())) => {
                let looked = partition.as_mut().map(PartitionWatch::look);
                if let Some(Looked::Lost { .. }) = &looked {
                    partition = None;
                }
                guest.on_partition(looked.unwrap_or(Looked::Fine), isolation).await;
            }
            Wakeup::PartitionChanged(Err(error)) => {
                tracing::warn!("whether the CPUs of {name} stay its own is not watched any more: {error}");
                partition = None;
            }
            Wakeup::SliceBegun(Ok(())) => {
                if let Some(slices) = &mut slices {
                    slices.look(&root);
                }
            }
            Wakeup::SliceBegun(Err(error)) => {
                tracing::warn!("slices that begin from now on may use the CPUs of {name}: {error}");
                slices = None;
            }
            Wakeup::LookForLife => guest.look_for_life().await,
            Wakeup::Devices(Happened::Plugged) => guest.follow_devices().await,
            Wakeup::Devices(Happened::Toggled(holder)) => {
                let holder_name = holder.name();
                tracing::debug!(
                    event = "toggled",
                    holder = holder_name,
                    "the {holder_name} has the shared keyboard and mouse"
                );
                if let Some(hooks) = &toggled {
                    hooks.toggled(holder);
                }
            }
            Wakeup::News(News::Ends(end)) => guest.on_end_of_host(end).await,
            Wakeup::News(News::Sleeps) => {
                guest.on_sleep_of_host().await;
                if let Some(notices) = notices.as_mut() {
                    notices.let_sleep();
                }
            }
            Wakeup::News(News::Woke) => {
                // The guest first: logind may take long over the lock.
                let goes_on = guest.on_wake_of_host().await;
                hold_sleep_again(notices, plan).await;
                if goes_on {
                    clock = guest.set_clock().await;
                }
            }
            Wakeup::ClockSet(set) => {
                clock = None;
                guest_clock::tell(set);
            }
            Wakeup::Record => {
                if let Some(recording) = recording.as_mut() {
                    recording.look();
                }
            }
            Wakeup::PlaceNewThreads => {
                threads::place_kernel_threads(qemu.pid(), &plan.placement, plan.isolation.as_ref());
                next_look = looks.next().map(|delay| Instant::now() + delay);
                if next_look.is_none() {
                    guest.move_new_kernel_threads(&root);
                    keep_first_look(plan, qemu.pid());
                    keep_in_run_dir(&plan.paths.run, guest.timeline.report());
                    Recording::begin(recording, plan, qemu.pid());
                    drop_startup_pages();
                }
            }
        }
        // Whatever let the guest go on.
        guest.close_descriptors().await;
    }
    if let Some(hooks) = toggled {
        hooks.end().await;
    }
    if let Some(console) = &mut console {
        console.show_final_output().await;
    }
    drop(console);
    Ok(guest.ended(log.as_ref()))
}

impl Guest<'_> {
    /// Says what became of the partition. If it was made again, the threads get their places again, which some kernels
    /// forget.
    async fn on_partition(&mut self, looked: Looked, isolation: Option<&Isolation>) {
        let name = self.plan.name.as_str();
        match looked {
            Looked::Fine => {}
            Looked::Lost { found } => {
                tracing::warn!(
                    event = "partition",
                    "other programs may run on the CPUs of {name} from now on: {found}"
                );
            }
            Looked::Repaired { found } => {
                tracing::warn!(event = "partition", "the CPUs of {name} were not its own for a moment: {found}");
                let Some(qmp) = &mut self.qmp else { return };
                let placed = threads::place_all(qmp, self.qemu.pid(), &self.plan.placement, isolation);
                if let Ok(Err(error)) = tokio::time::timeout(COMMAND_LIMIT, placed).await {
                    tracing::warn!("the threads of {name} are not in their places: {error:#}");
                }
            }
        }
    }

    /// Moves threads that the kernel has made since the start, KVM's for this guest among them.
    fn move_new_kernel_threads(&mut self, root: &Root) {
        let changes = self.plan.changes.iter();
        let wanted = changes.filter(|planned| matches!(planned.change, Change::KernelThreads(_)));
        for planned in wanted {
            if let Err(error) = self.journal.make(root, &planned.change, &unattended) {
                tracing::warn!("threads of the kernel that are new stay where they are: {error}");
            }
        }
    }

    /// Gives QEMU what was plugged in, and takes from it what is gone.
    async fn follow_devices(&mut self) {
        let Self { plan, qmp: Some(qmp), late, journal, .. } = self else { return };
        late.reconcile(&mut Access { plan, qmp, journal }).await;
    }
}

async fn next_event(qmp: Option<&mut Qmp>) -> Result<Event, QmpError> {
    match qmp {
        Some(qmp) => qmp.next_event().await,
        None => std::future::pending().await,
    }
}

async fn accept(clients: Option<&UnixListener>) -> std::io::Result<tokio::net::UnixStream> {
    match clients {
        Some(clients) => clients.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

async fn relay(console: Option<&mut Console>) -> ConsoleEvent {
    match console {
        Some(console) => console.relay().await,
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
