//! The one event loop while the guest runs: QMP events, the end of QEMU or a helper, signals, the control socket, the
//! console. It sleeps until one of them has something to say.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use qapi::qmp;
use tokio::net::UnixListener;
use tokio::time::Instant;

use super::{drop_startup_pages, signs_of_life};
use crate::machine::{GiveBack, Sign};
use crate::plan::Plan;
use crate::qemu::{Event, Qmp, QmpError};
use crate::run::ending::escalation::{self, Ending, Step};
use crate::run::kept::log::Log;
use crate::run::process::Watched;
use crate::run::signals::{HANG_UP, Signals};
use crate::run::starting::{sockets, threads};
use crate::run::supervising::console::{Console, Heard};
use crate::run::supervising::control::{self, Reply, Request};
use crate::run::supervising::dead_man_switch::{Guard, Missed, Verdict};
use crate::run::{ALIVE_FILE, Outcome, Processes, systemd_notify};

/// How long QEMU may take over a command; a main loop that is stuck must not hold up the guest's end.
const COMMAND_LIMIT: Duration = Duration::from_secs(5);

/// A running guest.
struct Guest<'a> {
    plan: &'a Plan,
    qemu: &'a Watched,
    /// `None` once QEMU has closed it.
    qmp: Option<Qmp>,
    ending: Ending,
    /// When somebody last asked for the end.
    asked: Option<Instant>,
    /// When the guest's time to end is up.
    deadline: Option<Instant>,
    /// QEMU's run state, as `status` shows it.
    state: String,
    /// The dead-man switch, where there is one.
    switch: Option<Switch>,
    /// Why QEMU said that it shuts down (`ShutdownCause` in QEMU's `qapi/run-state.json`).
    reason: Option<String>,
}

/// What woke the loop.
enum Woke {
    QemuEnded,
    HelperEnded(usize),
    Event(Result<Event, QmpError>),
    Signal(&'static str),
    Client(std::io::Result<tokio::net::UnixStream>),
    Console(Heard),
    OutOfPatience,
    LookAgain,
    LookForLife,
}

/// A guest that was let go.
pub struct Running {
    /// QEMU's monitor.
    pub qmp: Qmp,
    /// The log of this run, where it is ours.
    pub log: Option<Log>,
    /// The terminal, joined to the guest's serial port.
    pub console: Option<Console>,
    /// The dead-man switch, its time running.
    pub switch: Option<Switch>,
}

/// The dead-man switch with its clock.
#[derive(Debug)]
pub struct Switch {
    guard: Guard,
    deadline: Instant,
    next_look: Option<Instant>,
}

impl Switch {
    /// A switch whose time begins now. The first look is at once: a guest that was taken over may have lived for long.
    pub fn new(switch: GiveBack) -> Self {
        let (guard, now) = (Guard::new(switch), Instant::now());
        Self { deadline: now + guard.limit(), next_look: Some(now), guard }
    }

    /// Does something that must be done before the time is up.
    pub async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, Missed> {
        tokio::time::timeout_at(self.deadline, work).await.map_err(|_| self.guard.overdue())
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn set_next_look(&mut self) {
        self.next_look = self.guard.patience(self.left()).map(|patience| Instant::now() + patience);
    }
}

/// Whether an earlier launcher of this run saw its guest live.
pub fn was_alive(run_dir: &Path) -> bool {
    run_dir.join(ALIVE_FILE).exists()
}

/// Waits until the guest has ended and says how. `state` is QEMU's run state.
pub async fn supervise(
    plan: &Plan,
    running: Running,
    state: &str,
    processes: &mut Processes,
    signals: &mut Signals,
) -> Outcome {
    match attend(plan, running, state, processes, signals).await {
        Ok(outcome) => outcome,
        // Without its launcher the guest would run on with nobody to give the host back: `finish` ends it.
        Err(error) => Outcome::Crashed(format!("the launcher failed, so the guest was ended: {error:#}")),
    }
}

async fn attend(
    plan: &Plan,
    running: Running,
    state: &str,
    processes: &mut Processes,
    signals: &mut Signals,
) -> Result<Outcome> {
    let qemu = processes.qemu.as_ref().context("there is no QEMU to supervise")?;
    let clients = sockets::listen(&control::path(&plan.paths.run))?;
    clients.set_nonblocking(true)?;
    let mut clients = Some(UnixListener::from_std(clients)?);
    let Running { qmp, log, mut console, switch } = running;
    let mut guest = Guest {
        plan,
        qemu,
        qmp: Some(qmp),
        ending: Ending::new(Duration::from_secs(plan.shutdown_timeout.into())),
        asked: None,
        deadline: None,
        state: state.to_owned(),
        switch,
        reason: None,
    };
    let name = &plan.name;
    let placed = if plan.placement.pinned { "every vCPU on a CPU of its own" } else { "vCPUs not pinned" };
    tracing::info!(machine = name.as_str(), pid = qemu.pid(), event = "running", "{name} runs ({placed})");
    systemd_notify::ready(&format!("running, {placed}"));
    let mut looks = threads::LATER_LOOKS.into_iter();
    let mut next_look = looks.next().map(|delay| Instant::now() + delay);

    loop {
        let woke = tokio::select! {
            biased;
            // First what a QEMU, or a guest, that talks without end must not hold up.
            signal = signals.next() => Woke::Signal(signal),
            client = accept(clients.as_ref()) => Woke::Client(client),
            () = until(guest.deadline) => Woke::OutOfPatience,
            () = until(next_look) => Woke::LookAgain,
            () = until(guest.switch.as_ref().and_then(|switch| switch.next_look)) => Woke::LookForLife,
            // QEMU's last events tell why it ended, so they are read before its end is looked at.
            event = next_event(guest.qmp.as_mut()) => Woke::Event(event),
            ended = qemu.ended() => { ended?; Woke::QemuEnded }
            helper = first_ended(&processes.helpers) => Woke::HelperEnded(helper?),
            heard = carry(console.as_mut()) => Woke::Console(heard),
        };
        match woke {
            Woke::QemuEnded => break,
            Woke::Event(Ok(event)) => guest.hear(&event),
            Woke::Event(Err(QmpError::Closed)) => guest.qmp = None,
            Woke::Event(Err(error)) => {
                tracing::warn!("the monitor failed: {error:#}");
                guest.qmp = None;
            }
            Woke::HelperEnded(index) => {
                let (name, _) = processes.helpers.swap_remove(index);
                if !guest.ending.requested() && guest.reason.is_none() {
                    tracing::error!("{name} ended while the guest runs; see {}", plan.paths.log.display());
                }
            }
            Woke::Signal(signal) => {
                tracing::info!(event = "signal", "{signal}");
                guest.hear_signal(signal).await;
            }
            Woke::Console(Heard::Escape) => guest.ask().await,
            Woke::Console(Heard::Closed) => console = None,
            Woke::Client(Ok(stream)) => guest.serve(stream).await,
            Woke::Client(Err(error)) => {
                tracing::warn!("the control socket failed ({error}); signals still end {name}");
                clients = None;
            }
            Woke::OutOfPatience => {
                match guest.ending.elapsed() {
                    // `finish` says so, and puts back what can be.
                    Step::GiveUp => break,
                    step => guest.act(step).await,
                }
            }
            Woke::LookForLife => guest.look().await,
            Woke::LookAgain => {
                threads::place_kernels_own(qemu.pid(), &plan.placement);
                next_look = looks.next().map(|delay| Instant::now() + delay);
                if next_look.is_none() {
                    drop_startup_pages::let_go_of_code();
                }
            }
        }
    }
    if let Some(console) = &mut console {
        console.show_last_words().await;
    }
    drop(console);
    Ok(guest.outcome(log.as_ref()))
}

impl Guest<'_> {
    /// Takes note of what QEMU says.
    fn hear(&mut self, event: &Event) {
        let name = &self.plan.name;
        if let Some(sign) = signs_of_life::told(event) {
            self.hear_life(sign);
        }
        match event.name.as_str() {
            "SHUTDOWN" => {
                let reason = event.text("reason").unwrap_or("unknown").to_owned();
                tracing::info!(event = "shutdown", reason, "{name} shuts down ({reason})");
                self.reason = Some(reason);
                self.enter("shutdown");
            }
            "RESET" => tracing::info!(event = "reset", "{name} restarts"),
            "STOP" => self.enter("paused"),
            "RESUME" => self.enter("running"),
            "SUSPEND" => self.enter("suspended"),
            "GUEST_PANICKED" => tracing::error!(event = "panic", "the guest of {name} panicked"),
            "BLOCK_IO_ERROR" => {
                let device = event.text("device").filter(|d| !d.is_empty()).or(event.text("node-name")).unwrap_or("?");
                let reason = event.text("reason").unwrap_or("unknown reason");
                tracing::error!(event = "io-error", "disk {device} of {name} failed: {reason}");
            }
            other => tracing::debug!("QEMU: {other} {}", event.data),
        }
    }

    /// Takes note of a sign of life.
    fn hear_life(&mut self, sign: Sign) {
        if self.switch.as_mut().is_some_and(|switch| switch.guard.hear(sign)) {
            self.lives(sign);
        }
    }

    /// The guest keeps its devices, also from a launcher that takes it over.
    fn lives(&mut self, sign: Sign) {
        self.switch = None;
        tracing::info!(event = "alive", "{} lives: {sign}", self.plan.name);
        if let Err(error) = std::fs::write(self.plan.paths.run.join(ALIVE_FILE), "") {
            tracing::warn!("a launcher that takes over will not know that the guest lives: {error}");
        }
    }

    /// Looks for life; where it is too late for it, the guest is ended.
    async fn look(&mut self) {
        let signs = signs_of_life::look(self.plan, self.qmp.as_mut()).await;
        let Some(switch) = &mut self.switch else { return };
        let verdict = switch.guard.looked(&signs, switch.left());
        switch.set_next_look();
        match verdict {
            Verdict::Wait => {}
            Verdict::Lives(sign) => self.lives(sign),
            Verdict::GiveBack => {
                if let Some(missed) = switch.guard.missed() {
                    tracing::error!(event = "give-back", "giving the devices of {} back: {missed}", self.plan.name);
                }
                self.force().await;
            }
        }
    }

    fn enter(&mut self, state: &str) {
        if self.state != state {
            tracing::debug!("{} is {state}", self.plan.name);
            systemd_notify::status(state);
            self.state = state.to_owned();
        }
    }

    /// A signal asks for the end, and insists only when it comes by itself.
    async fn hear_signal(&mut self, signal: &str) {
        let since = self.asked.map(|asked| asked.elapsed());
        if !self.ending.requested() || escalation::insists(signal, since) {
            self.ask().await;
        } else if signal != HANG_UP {
            let (name, limit) = (&self.plan.name, escalation::SAME_WISH.as_secs());
            tracing::info!("{name} was asked to end just now; {signal} insists when it comes {limit} s later");
        }
    }

    /// Somebody asks for the end; the second time is meant.
    async fn ask(&mut self) {
        self.asked = Some(Instant::now());
        self.stand_down();
        let step = self.ending.request();
        self.act(step).await;
    }

    /// The guest is ended without asking it.
    async fn force(&mut self) {
        self.asked = Some(Instant::now());
        let step = self.ending.force();
        self.act(step).await;
    }

    /// Whoever asks for the end has taken the switch's place: the ending has its own limits.
    fn stand_down(&mut self) {
        if let Some(switch) = &mut self.switch {
            switch.guard.stand_down();
            switch.set_next_look();
        }
    }

    async fn act(&mut self, step: Step) {
        let name = &self.plan.name;
        let failed = match step {
            Step::PressPowerButton => {
                let limit = self.plan.shutdown_timeout;
                tracing::info!(event = "powerdown", "asking {name} to power off; it has {limit} s");
                systemd_notify::stopping("asked the guest to power off");
                self.press().await
            }
            Step::Quit => {
                tracing::warn!(event = "quit", "ending {name} without its consent");
                systemd_notify::stopping("ending the guest");
                self.command(qmp::quit {}).await
            }
            Step::Kill => {
                tracing::warn!(event = "kill", "killing QEMU of {name}");
                self.qemu.kill();
                Ok(())
            }
            Step::GiveUp => Ok(()),
        };
        match failed {
            Ok(()) | Err(QmpError::Closed) => {}
            Err(error) => tracing::warn!("{error:#}"),
        }
        self.deadline = self.ending.patience().map(|patience| Instant::now() + patience);
    }

    /// The ACPI power button; a paused guest would not hear it.
    async fn press(&mut self) -> Result<(), QmpError> {
        if self.state == "paused" {
            self.command(qmp::cont {}).await?;
        }
        self.command(qmp::system_powerdown {}).await
    }

    async fn command<C: qmp::QmpCommand>(&mut self, command: C) -> Result<(), QmpError> {
        match &mut self.qmp {
            Some(qmp) => qmp.execute_within(command, COMMAND_LIMIT).await.map(drop),
            None => Err(QmpError::Closed),
        }
    }

    async fn serve(&mut self, mut stream: tokio::net::UnixStream) {
        let Some(request) = control::read(&mut stream).await else { return };
        match request {
            Request::Status => {}
            // Two people who ask are not one who insists.
            Request::Stop if self.ending.requested() => {}
            Request::Stop => self.ask().await,
            Request::Alive => self.hear_life(Sign::Confirmed),
            Request::Force => {
                self.stand_down();
                self.force().await;
            }
        }
        let state = if self.ending.requested() && self.state == "running" { "stopping" } else { &self.state };
        let launcher = std::process::id() as i32;
        control::answer(stream, &Reply { state: state.to_owned(), launcher, qemu: self.qemu.pid() }).await;
    }

    fn outcome(&self, log: Option<&Log>) -> Outcome {
        let status = self.qemu.reap();
        let name = &self.plan.name;
        let quote = || match log {
            Some(log) => log.quote(),
            None => format!("\nthe log: {}", self.plan.paths.log.display()),
        };
        let missed = self.switch.as_ref().and_then(|switch| switch.guard.missed());
        if let Some(missed) = missed {
            return Outcome::Crashed(format!("{name} was ended and its devices given back: {missed}"));
        }
        match self.reason.as_deref() {
            _ if self.ending.forced() => Outcome::Crashed(format!("{name} did not power off and was ended by force")),
            Some("guest-panic") => Outcome::Crashed(format!("the guest of {name} crashed")),
            Some("host-error" | "subsystem-reset") => Outcome::Crashed(format!("QEMU gave {name} up:{}", quote())),
            Some("host-signal") => Outcome::Crashed(format!("somebody ended QEMU of {name} with a signal")),
            Some(reason) if status.is_none_or(|s| s.success()) => Outcome::ShutDown(reason.to_owned()),
            _ => {
                let how = status.map_or_else(String::new, |s| format!(" ({s})"));
                Outcome::Crashed(format!("QEMU of {name} crashed{how}:{}", quote()))
            }
        }
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

async fn carry(console: Option<&mut Console>) -> Heard {
    match console {
        Some(console) => console.carry().await,
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The index of a helper that has ended.
async fn first_ended(helpers: &[(String, Watched)]) -> Result<usize> {
    std::future::poll_fn(|context| {
        for (index, (_, helper)) in helpers.iter().enumerate() {
            if helper.poll_ended(context).is_ready() {
                return std::task::Poll::Ready(Ok(index));
            }
        }
        std::task::Poll::Pending
    })
    .await
}
