//! The one event loop while the guest runs: QMP events, the end of QEMU or a helper, signals, the control socket, the
//! console. It sleeps until one of them is ready.

use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use qapi::qmp;
use tokio::net::UnixListener;
use tokio::time::Instant;

use super::activity::keep_first_look;
use super::console::{Console, ConsoleEvent};
use super::control::{self, Reply, Request};
use super::dead_man_switch::Verdict;
use super::device_irqs::DeviceInterrupts;
use super::drop_startup_pages::drop_startup_pages;
use super::lasting::{Lasting, must_end};
use super::log_limit::{LogLimit, cut_when_full};
use super::partition_watch::{self, Looked, PartitionWatch};
use super::signs_of_life;
use super::switch_clock::SwitchClock;
use super::throttle::{Shown, Throttle};
use crate::change::{Change, unattended};
use crate::host::Root;
use crate::journal::{Journal, Record};
use crate::machine::{HostDevice, Sign};
use crate::plan::{Helper, Isolation, Plan};
use crate::qemu::{Event, Qmp, QmpError};
use crate::run::cables;
use crate::run::ending::escalation::{self, Ending, Step};
use crate::run::hooks::ToggledHooks;
use crate::run::kept::log::Log;
use crate::run::late::medium::{self, Medium};
use crate::run::late::{Access, Happened, LateDevices};
use crate::run::outcome::Outcome;
use crate::run::process::Watched;
use crate::run::processes::Processes;
use crate::run::signals::{HANG_UP, Signals};
use crate::run::starting::{isolate, sockets, threads};
use crate::run::systemd_notify;
use crate::systemd::logind::End;
use crate::units::machine_state;

/// There from the guest's first sign of life on, for a launcher that takes over.
const ALIVE_FILE: &str = "alive";
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
    /// The dead-man switch, if there is one.
    switch: Option<SwitchClock>,
    /// Devices that come and go.
    late: LateDevices,
    /// Interrupts of the guest's devices.
    interrupts: DeviceInterrupts<'a>,
    journal: &'a mut Journal,
    /// How many of QEMU's events are shown.
    throttle: Throttle,
    /// Whether the host shuts down, which sends its signals then.
    host_ends: bool,
    /// Why QEMU said that it shuts down (`ShutdownCause` in QEMU's `qapi/run-state.json`).
    reason: Option<String>,
}

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
    MustEnd(End),
    PartitionChanged(std::io::Result<()>),
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

/// Whether an earlier launcher of this run saw a sign of life.
pub fn was_alive(run_dir: &Path) -> bool {
    run_dir.join(ALIVE_FILE).exists()
}

/// Forgets that a sign of life was seen: the guest restarts, and must show one again.
pub fn forget_alive(run_dir: &Path) {
    // Mostly there is none.
    drop(std::fs::remove_file(run_dir.join(ALIVE_FILE)));
}

/// How QEMU's end is meant.
#[derive(Debug)]
pub enum Ended {
    /// The guest has ended.
    For(Outcome),
    /// The guest restarts, and the plan wants a new QEMU for that.
    Restarts {
        /// The dead-man switch, if it still waits.
        switch: Option<SwitchClock>,
    },
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
        interrupts: DeviceInterrupts::new(&plan.device_irqs, &root, Instant::now()),
        journal,
        throttle: Throttle::new(Instant::now()),
        host_ends: false,
        reason: None,
    };
    let name = &plan.name;
    let placed = if plan.placement.pinned { "every vCPU on a CPU of its own" } else { "vCPUs not pinned" };
    tracing::info!(machine = name.as_str(), pid = qemu.pid(), event = "running", "{name} runs ({placed})");
    systemd_notify::ready(&format!("running, {placed}"));
    let toggled = ToggledHooks::wait(plan, qemu.pid());
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
            () = until(lasting.recording.as_ref().map(|recording| recording.next)) => Wakeup::Record,
            () = until(guest.switch.as_ref().and_then(|switch| switch.next_look)) => Wakeup::LookForLife,
            () = until(guest.interrupts.next_look) => Wakeup::LookForInterrupts,
            end = must_end(lasting.notices.as_mut()) => Wakeup::MustEnd(end),
            happened = guest.late.happens() => Wakeup::Devices(happened),
            // QEMU's last events tell why it ended, so they are read before its end is looked at.
            event = next_event(guest.qmp.as_mut()) => Wakeup::Event(event),
            ended = qemu.ended() => { ended?; Wakeup::QemuEnded }
            helper = processes.first_helper_ended() => Wakeup::HelperEnded(helper),
            happened = relay(console.as_mut()) => Wakeup::Console(happened),
            changed = partition_watch::changed(partition.as_ref()) => Wakeup::PartitionChanged(changed),
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
            Wakeup::Console(ConsoleEvent::Closed) => console = None,
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
            Wakeup::LookForInterrupts => guest.interrupts.look(Instant::now()),
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
            Wakeup::MustEnd(end) => guest.on_end_of_host(end).await,
            Wakeup::Record => {
                if let Some(recording) = &mut lasting.recording {
                    recording.look();
                }
            }
            Wakeup::PlaceNewThreads => {
                threads::place_kernel_threads(qemu.pid(), &plan.placement, plan.isolation.as_ref());
                next_look = looks.next().map(|delay| Instant::now() + delay);
                if next_look.is_none() {
                    guest.move_new_kernel_threads(&root);
                    keep_first_look(plan, qemu.pid());
                    lasting.record(plan, qemu.pid());
                    drop_startup_pages();
                }
            }
        }
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

    /// Handles an event of QEMU's.
    fn on_event(&mut self, event: &Event) {
        let name = self.plan.name.as_str();
        let now = Instant::now();
        match event.name.as_str() {
            "RESET" => self.interrupts.guest_restarts(now),
            _ => self.interrupts.look_in_passing(now),
        }
        if let Some(sign) = signs_of_life::sign_of_event(event) {
            self.on_sign_of_life(sign);
        }
        if event.name == "SHUTDOWN" {
            self.reason = Some(event.text("reason").unwrap_or("unknown").to_owned());
        }
        match event.name.as_str() {
            "SHUTDOWN" => self.set_state(machine_state::SHUTDOWN),
            "STOP" => self.set_state(machine_state::PAUSED),
            "RESUME" => self.set_state(machine_state::RUNNING),
            "SUSPEND" => self.set_state(machine_state::SUSPENDED),
            "WAKEUP" => self.set_state(machine_state::RUNNING),
            _ => {}
        }
        let told =
            matches!(event.name.as_str(), "SHUTDOWN" | "RESET" | "GUEST_PANICKED" | "WATCHDOG" | "BLOCK_IO_ERROR");
        if told && !self.may_be_shown() {
            return;
        }
        match event.name.as_str() {
            "SHUTDOWN" => {
                let reason = self.reason.as_deref().unwrap_or_default();
                tracing::info!(event = "shutdown", reason, "{name} shuts down ({reason})");
            }
            "RESET" => tracing::info!(event = "reset", "{name} restarts"),
            "GUEST_PANICKED" => tracing::error!(event = "panic", "the guest of {name} panicked"),
            "WATCHDOG" => {
                let action = event.text("action").unwrap_or("unknown");
                tracing::warn!(event = "watchdog", action, "the watchdog of {name} was not set in time ({action})");
            }
            "BLOCK_IO_ERROR" => {
                let device = event.text("device").filter(|d| !d.is_empty()).or(event.text("node-name")).unwrap_or("?");
                let reason = event.text("reason").unwrap_or("unknown reason");
                tracing::error!(event = "io-error", "disk {device} of {name} failed: {reason}");
            }
            other => tracing::debug!("QEMU: {other} {}", event.data),
        }
    }

    /// Whether one more event is shown to people and to systemd.
    fn may_be_shown(&mut self) -> bool {
        let name = &self.plan.name;
        match self.throttle.decide(Instant::now()) {
            Shown::Yes { after } => {
                if after > 0 {
                    tracing::warn!("{after} events of {name} were not shown");
                }
                true
            }
            Shown::NoMore => {
                tracing::warn!("{name} has so many events that not all of them are shown from now on");
                false
            }
            Shown::No => false,
        }
    }

    /// Handles a sign of life.
    fn on_sign_of_life(&mut self, sign: Sign) {
        if self.switch.as_mut().is_some_and(|switch| switch.switch.sees(sign)) {
            self.keep_devices(sign);
        }
    }

    /// The guest keeps its devices, also when another launcher takes it over.
    fn keep_devices(&mut self, sign: Sign) {
        self.switch = None;
        tracing::info!(event = "alive", "{} shows a sign of life: {sign}", self.plan.name);
        if let Err(error) = std::fs::write(self.plan.paths.run.join(ALIVE_FILE), "") {
            tracing::warn!(
                "cannot write down that the guest showed a sign of life, so a launcher that takes over will wait for one: {error}"
            );
        }
    }

    /// Looks for a sign of life, and ends the guest if it is too late for one.
    async fn look_for_life(&mut self) {
        let signs = signs_of_life::visible_signs(self.plan, self.qmp.as_mut()).await;
        let Some(switch) = &mut self.switch else { return };
        let verdict = switch.switch.looked(&signs, switch.left());
        switch.set_next_look();
        match verdict {
            Verdict::Wait => {}
            Verdict::Lives(sign) => self.keep_devices(sign),
            Verdict::GiveBack => {
                if let Some(missed) = switch.switch.missed() {
                    tracing::error!(
                        event = "give-back",
                        "{missed}; the host gets the devices of {} back",
                        self.plan.name
                    );
                }
                self.force_quit().await;
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

    fn set_state(&mut self, state: &str) {
        if self.state != state {
            self.state = state.to_owned();
            if self.may_be_shown() {
                tracing::debug!("{} is {state}", self.plan.name);
                systemd_notify::status(state);
            }
        }
    }

    /// The host shuts down, or systemd stops QEMU's scope: the guest is asked once.
    async fn on_end_of_host(&mut self, end: End) {
        let name = &self.plan.name;
        match end {
            End::Host => tracing::info!(event = "host-shutdown", "the host shuts down and waits for {name}"),
            End::Scope => tracing::info!(event = "scope-stop", "systemd stops the scope of {name}"),
        }
        self.host_ends |= end == End::Host;
        if !self.ending.requested() {
            self.request_shutdown().await;
        }
    }

    /// A signal asks for the end. It counts as a second request only if it did not come together with the first.
    async fn on_signal(&mut self, signal: &str) {
        let since = self.asked.map(|asked| asked.elapsed());
        // A host that shuts down sends these to every process in the end.
        if self.host_ends && self.ending.requested() && matches!(signal, "SIGTERM" | HANG_UP) {
            return;
        }
        if !self.ending.requested() || escalation::is_second_request(signal, since) {
            self.request_shutdown().await;
        } else if signal != HANG_UP {
            let (name, limit) = (&self.plan.name, escalation::SAME_REQUEST.as_secs());
            tracing::info!(
                "{name} was asked to end just now; {signal} counts as a second request only {limit} s later"
            );
        }
    }

    /// Somebody asks for the end; each further request goes one step further.
    async fn request_shutdown(&mut self) {
        self.asked = Some(Instant::now());
        self.disarm();
        let step = self.ending.request();
        self.take_step(step).await;
    }

    /// Ends the guest without asking it.
    async fn force_quit(&mut self) {
        self.asked = Some(Instant::now());
        let step = self.ending.force();
        self.take_step(step).await;
    }

    /// Disarms the dead-man switch, because somebody asked for the end, which has its own limits.
    fn disarm(&mut self) {
        if let Some(switch) = &mut self.switch {
            switch.switch.disarm();
            switch.set_next_look();
        }
    }

    async fn take_step(&mut self, step: Step) {
        let name = &self.plan.name;
        let failed = match step {
            Step::PressPowerButton => {
                let left = self.ending.left().as_secs();
                let again = if left < self.plan.shutdown_timeout.into() { " again" } else { "" };
                tracing::info!(event = "powerdown", "asking {name} to power off{again}; it has {left} s");
                systemd_notify::stopping("asked the guest to power off");
                self.press_power_button().await
            }
            Step::Quit => {
                match self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                    true => tracing::warn!(event = "quit", "{name} did not power off in time; forcing QEMU to quit"),
                    false => tracing::warn!(event = "quit", "forcing QEMU to quit, without waiting for {name}"),
                }
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

    /// Presses the ACPI power button; a guest that is paused or sleeps would not notice it. One that wakes may not notice the
    /// first press either, but the second.
    async fn press_power_button(&mut self) -> Result<(), QmpError> {
        if self.state == machine_state::PAUSED {
            self.command(qmp::cont {}).await?;
        } else if self.state == machine_state::SUSPENDED
            && let Err(error) = self.command(qmp::system_wakeup {}).await
        {
            // It may have woken by itself.
            tracing::debug!("{error:#}");
        }
        self.command(qmp::system_powerdown {}).await
    }

    async fn command<C: qmp::QmpCommand>(&mut self, command: C) -> Result<(), QmpError> {
        match &mut self.qmp {
            Some(qmp) => qmp.execute_within(command, COMMAND_LIMIT).await.map(drop),
            None => Err(QmpError::Closed),
        }
    }

    async fn answer_client(&mut self, mut stream: tokio::net::UnixStream) {
        let Some(request) = control::read(&mut stream).await else { return };
        let (mut device, mut refused) = (None, None);
        match request {
            Request::Status => {}
            // A second `stop` may come from somebody else, so it does not count as a second request.
            Request::Stop if self.ending.requested() => {}
            Request::Stop => self.request_shutdown().await,
            Request::Alive => self.on_sign_of_life(Sign::Confirmed),
            Request::Force => {
                self.disarm();
                self.force_quit().await;
            }
            _ => match self.change_devices(&request).await {
                Ok(name) => device = Some(name),
                Err(error) => refused = Some(format!("{error:#}")),
            },
        }
        let stopping = self.ending.requested() && self.state == machine_state::RUNNING;
        let state = if stopping { machine_state::STOPPING } else { &self.state };
        let launcher = std::process::id() as i32;
        control::answer(stream, &Reply { state: state.to_owned(), launcher, qemu: self.qemu.pid(), device, refused })
            .await;
    }

    /// Gives the guest a device, takes one from it, or plugs its cables in or out; which it is.
    async fn change_devices(&mut self, request: &Request) -> Result<String> {
        let Self { plan, qmp, late, journal, .. } = self;
        let qmp = qmp.as_mut().context("QEMU has closed its monitor")?;
        let mut access = Access { plan, qmp, journal };
        match request {
            Request::Attach(device) => late.attach_usb(&mut access, device).await,
            Request::Detach(device) => late.detach(&mut access, &HostDevice::Usb(device.clone())).await,
            Request::Share(path) => late.attach_input(&mut access, path).await,
            Request::Unshare(path) => late.detach(&mut access, &HostDevice::Input(path.clone())).await,
            Request::AttachDisk(disk) => late.attach_disk(&mut access, disk).await,
            Request::DetachDisk(file) => late.detach(&mut access, &HostDevice::Disk(file.clone())).await,
            Request::Medium { drive, file, force } => {
                let medium = Medium { drive: drive.as_deref(), file: file.as_deref(), force: *force };
                medium::change(&mut access, medium).await
            }
            Request::Link { up } => {
                let cards = cables::set(plan, *up, access.qmp).await?;
                access.journal.append(Record::Link { up: *up })?;
                Ok(cards)
            }
            Request::Status | Request::Alive | Request::Stop | Request::Force => {
                bail!("this is no request for a device")
            }
        }
    }

    fn ended(mut self, log: Option<&Log>) -> Ended {
        let status = self.qemu.reap();
        // `ShutdownCause` of a restart: the guest's own, or one over QMP. Only a launcher that is its parent has a status.
        let restarts = matches!(self.reason.as_deref(), Some("guest-reset" | "host-qmp-system-reset"));
        let missed = self.switch.as_ref().and_then(|switch| switch.switch.missed());
        if self.plan.relaunch
            && restarts
            && status.is_none_or(|status| status.success())
            && !self.ending.requested()
            && missed.is_none()
        {
            return Ended::Restarts { switch: self.switch.take() };
        }
        Ended::For(self.outcome(status, log))
    }

    fn outcome(&self, status: Option<ExitStatus>, log: Option<&Log>) -> Outcome {
        let name = &self.plan.name;
        let quote = || match log {
            Some(log) => log.quote(),
            None => format!("\nthe log: {}", self.plan.paths.log.display()),
        };
        let missed = self.switch.as_ref().and_then(|switch| switch.switch.missed());
        if let Some(missed) = missed {
            return Outcome::Crashed(format!("{missed}, so {name} was ended and the host got its devices back"));
        }
        match self.reason.as_deref() {
            _ if self.ending.insisted() => {
                Outcome::Forced(format!("QEMU of {name} was forced to quit, as was asked for"))
            }
            _ if self.ending.forced() => {
                Outcome::Crashed(format!("{name} did not power off and QEMU was forced to quit"))
            }
            Some("guest-panic") => Outcome::Crashed(format!("the guest of {name} crashed")),
            Some("host-error" | "subsystem-reset") => {
                Outcome::Crashed(format!("QEMU stopped {name} because of an error:{}", quote()))
            }
            Some("host-signal") => Outcome::Crashed(format!("a signal ended QEMU of {name}")),
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
