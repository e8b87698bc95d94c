//! The one event loop while the guest runs: QMP events, the end of QEMU or a helper, signals, the control socket, the
//! console. It sleeps until one of them has something to say.

use std::time::Duration;

use anyhow::{Context as _, Result};
use qapi::qmp;
use tokio::net::UnixListener;
use tokio::time::Instant;

use super::console::{Console, Heard};
use super::control::{self, Reply, Request};
use super::log::Log;
use super::process::Watched;
use super::signals::Signals;
use super::stop::{Ending, Step};
use super::{Outcome, Processes, notify, rest, sockets, threads};
use crate::plan::Plan;
use crate::qemu::{Event, Qmp, QmpError};

/// How long QEMU may take over a command; a main loop that is stuck must not hold up the guest's end.
const COMMAND_LIMIT: Duration = Duration::from_secs(5);

/// A running guest.
struct Guest<'a> {
    plan: &'a Plan,
    qemu: &'a Watched,
    /// `None` once QEMU has closed it.
    qmp: Option<Qmp>,
    ending: Ending,
    /// When the guest's time to end is up.
    deadline: Option<Instant>,
    /// QEMU's run state, as `status` shows it.
    state: String,
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
}

/// Waits until the guest has ended and says how. `state` is QEMU's run state.
pub async fn supervise(
    plan: &Plan,
    qmp: Qmp,
    state: &str,
    log: Option<&Log>,
    processes: &mut Processes,
    signals: &mut Signals,
) -> Outcome {
    match attend(plan, qmp, state, log, processes, signals).await {
        Ok(outcome) => outcome,
        // Without its launcher the guest would run on with nobody to give the host back: `finish` ends it.
        Err(error) => Outcome::Crashed(format!("the launcher failed, so the guest was ended: {error:#}")),
    }
}

async fn attend(
    plan: &Plan,
    qmp: Qmp,
    state: &str,
    log: Option<&Log>,
    processes: &mut Processes,
    signals: &mut Signals,
) -> Result<Outcome> {
    let qemu = processes.qemu.as_ref().context("there is no QEMU to supervise")?;
    let clients = sockets::listen(&control::path(&plan.paths.run))?;
    clients.set_nonblocking(true)?;
    let mut clients = Some(UnixListener::from_std(clients)?);
    let mut console = if plan.console { join_console(plan) } else { None };
    let mut guest = Guest {
        plan,
        qemu,
        qmp: Some(qmp),
        ending: Ending::new(Duration::from_secs(plan.shutdown_timeout.into())),
        deadline: None,
        state: state.to_owned(),
        reason: None,
    };
    let name = &plan.name;
    let placed = if plan.placement.pinned { "every vCPU on a CPU of its own" } else { "vCPUs not pinned" };
    tracing::info!(machine = name.as_str(), pid = qemu.pid(), event = "running", "{name} runs ({placed})");
    notify::ready(&format!("running, {placed}"));
    let mut looks = threads::LATER_LOOKS.into_iter();
    let mut next_look = looks.next().map(|delay| Instant::now() + delay);

    loop {
        let woke = tokio::select! {
            // QEMU's last events tell why it ended, so they are read before its end is looked at.
            biased;
            event = next_event(guest.qmp.as_mut()) => Woke::Event(event),
            ended = qemu.ended() => { ended?; Woke::QemuEnded }
            helper = first_ended(&processes.helpers) => Woke::HelperEnded(helper?),
            signal = signals.next() => Woke::Signal(signal),
            client = accept(clients.as_ref()) => Woke::Client(client),
            heard = carry(console.as_mut()) => Woke::Console(heard),
            () = until(guest.deadline) => Woke::OutOfPatience,
            () = until(next_look) => Woke::LookAgain,
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
                guest.ask().await;
            }
            Woke::Console(Heard::Escape) => guest.ask().await,
            Woke::Console(Heard::Closed) => console = None,
            Woke::Client(Ok(stream)) => guest.serve(stream).await,
            Woke::Client(Err(error)) => {
                tracing::warn!("the control socket failed ({error}); signals still end {name}");
                clients = None;
            }
            Woke::OutOfPatience => {
                let step = guest.ending.elapsed();
                guest.act(step).await;
            }
            Woke::LookAgain => {
                threads::place_kernels_own(qemu.pid(), &plan.placement);
                next_look = looks.next().map(|delay| Instant::now() + delay);
                if next_look.is_none() {
                    rest::let_go_of_code();
                }
            }
        }
    }
    if let Some(console) = &mut console {
        console.show_last_words().await;
    }
    drop(console);
    Ok(guest.outcome(log))
}

fn join_console(plan: &Plan) -> Option<Console> {
    match Console::join(&plan.paths.run.join("serial.sock")) {
        Ok(console) => {
            if console.is_terminal() {
                tracing::info!("this terminal is the guest's console; Ctrl-] asks the guest to power off");
            }
            Some(console)
        }
        Err(error) => {
            tracing::warn!("no console: {error:#}");
            None
        }
    }
}

impl Guest<'_> {
    /// Takes note of what QEMU says.
    fn hear(&mut self, event: &Event) {
        let name = &self.plan.name;
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

    fn enter(&mut self, state: &str) {
        if self.state != state {
            tracing::debug!("{} is {state}", self.plan.name);
            notify::status(state);
            self.state = state.to_owned();
        }
    }

    /// Somebody asks for the end; the second time is meant.
    async fn ask(&mut self) {
        let step = self.ending.request();
        self.act(step).await;
    }

    async fn act(&mut self, step: Step) {
        let name = &self.plan.name;
        let failed = match step {
            Step::PressPowerButton => {
                let limit = self.plan.shutdown_timeout;
                tracing::info!(event = "powerdown", "asking {name} to power off; it has {limit} s");
                notify::stopping("asked the guest to power off");
                self.press().await
            }
            Step::Quit => {
                tracing::warn!(event = "quit", "ending {name} without its consent");
                notify::stopping("ending the guest");
                self.command(qmp::quit {}).await
            }
            Step::Kill => {
                tracing::warn!(event = "kill", "killing QEMU of {name}");
                self.qemu.kill();
                Ok(())
            }
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
            Request::Force => {
                let step = self.ending.force();
                self.act(step).await;
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
