//! The user's own programs at the stages of a run: each in a process group of its own, with a limit, its output in the
//! machine's log.
//!
//! What a hook did before the guest, another undoes after it. So once the hooks of `ready` may have run, those of `ended`
//! must run, and once those of `before` may have run, those of `restored`: whatever fails in between, and also if
//! `recover` or another launcher restores the host.

use std::ffi::OsString;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::kept::log::Log;
use super::outcome::HookOutcome;
use super::process::Watched;
use super::signals::Signals;
use super::systemd_notify;
use crate::child::{Command, Session};
use crate::journal::{Journal, Record};
use crate::plan::{Plan, PlannedHook};
use crate::units::{InputHolder, Stage};

/// How long a hook that is to end may take after SIGTERM, and how long the kernel may take after SIGKILL.
const END_LIMIT: Duration = Duration::from_secs(5);

/// The variable that tells who has the shared keyboard.
const INPUT: &str = "VFIO_RUN_INPUT";

/// The hooks of one stage, with all that they need.
#[derive(Debug)]
struct Hooks {
    hooks: Vec<PlannedHook>,
    log: PathBuf,
    environment: Vec<(&'static str, Option<OsString>)>,
}

impl Hooks {
    fn of(plan: &Plan, stage: Stage, qemu: Option<i32>, outcome: Option<HookOutcome>) -> Self {
        let addresses: Vec<String> = plan.leases.iter().map(ToString::to_string).collect();
        let text = |text: &str| Some(OsString::from(text));
        let environment = vec![
            ("VFIO_RUN_NAME", text(&plan.name)),
            ("VFIO_RUN_UUID", text(&plan.uuid.to_string())),
            ("VFIO_RUN_STAGE", text(stage.name())),
            ("VFIO_RUN_FILE", plan.file.as_ref().map(OsString::from)),
            ("VFIO_RUN_RUN_DIR", Some(plan.paths.run.clone().into())),
            ("VFIO_RUN_PCI", text(&addresses.join(" "))),
            ("VFIO_RUN_QEMU_PID", qemu.map(|pid| pid.to_string().into())),
            ("VFIO_RUN_OUTCOME", outcome.map(|o| o.outcome.into())),
            ("VFIO_RUN_EXIT_CODE", outcome.map(|o| o.code.to_string().into())),
            // Only the launcher notifies systemd.
            ("NOTIFY_SOCKET", None),
        ];
        let hooks = plan.hooks.iter().filter(|hook| hook.stage == stage).cloned().collect();
        Self { hooks, log: plan.paths.log.clone(), environment }
    }

    /// Runs them up to the first that fails, or that `asked` ends.
    async fn until_one_fails(&self, mut asked: Pin<&mut impl Future<Output = &'static str>>) -> Result<()> {
        for hook in &self.hooks {
            self.run(hook, asked.as_mut()).await?;
        }
        Ok(())
    }

    /// Runs them all and returns what went wrong.
    async fn all(&self) -> Vec<String> {
        let mut failed = Vec::new();
        for hook in &self.hooks {
            let nobody = pin!(std::future::pending());
            if let Err(error) = self.run(hook, nobody).await {
                failed.push(format!("{error:#}"));
            }
        }
        failed
    }

    /// Runs one. This fails once `asked` has named what asks for its end, so `asked` is not polled again then.
    async fn run(&self, hook: &PlannedHook, asked: Pin<&mut impl Future<Output = &'static str>>) -> Result<()> {
        let shown = format!("the hook {hook}");
        tracing::info!(event = "hook", stage = hook.stage.name(), "{shown}");
        systemd_notify::status(&shown);
        // A full disk keeps no hook from its work: what one before the guest did, this one may have to undo.
        let log = Log::begin(&self.log, format!("vfio-run {} runs {shown}", env!("CARGO_PKG_VERSION")));
        let log = log.inspect_err(|error| tracing::warn!("the output of {shown} is lost: {error:#}")).ok();
        let quote = || log.as_ref().map_or_else(String::new, Log::quote);
        let child = self.start(hook, log.as_ref()).with_context(|| format!("{shown} could not be started"))?;
        let limit = Duration::from_secs(hook.timeout.into());
        let late = tokio::select! {
            ended = child.ended() => {
                ended?;
                None
            }
            () = tokio::time::sleep(limit) => Some(format!("did not end within {} s", limit.as_secs())),
            what = asked => Some(format!("was ended because of {what}")),
        };
        if let Some(why) = late {
            end(&child).await;
            bail!("{shown} {why}{}", quote());
        }
        match child.reap() {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("{shown} failed ({status}){}", quote()),
            None => bail!("{shown} ended and its exit status is lost"),
        }
    }

    fn start(&self, hook: &PlannedHook, log: Option<&Log>) -> Result<Watched> {
        let (program, arguments) = hook.argv.split_first().context("it names no program")?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir("/").session(Session::Own);
        // A hook must not go on working on a host that is being restored after its launcher died.
        command.death_signal(Signal::SIGTERM);
        match log {
            Some(log) => command.stdout(log.output()?).stderr(log.output()?),
            None => command.stdout(Stdio::null()).stderr(Stdio::null()),
        };
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let child = command.spawn().map_err(|error| match error.source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOEXEC) => anyhow::anyhow!("a script begins with its interpreter, such as #!/bin/sh"),
            // That it could not be started is said already.
            _ if error.step == "start it" => error.source.into(),
            _ => error.into(),
        })?;
        Watched::child(child.id() as i32)
    }
}

/// Ends a hook and all that it started in its process group: with SIGTERM, then with SIGKILL.
async fn end(child: &Watched) {
    // Its group has the leader's number, which nobody else gets before the leader is reaped.
    let group = Pid::from_raw(child.pid());
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let _ = killpg(group, signal);
        if tokio::time::timeout(END_LIMIT, child.ended()).await.is_err() && signal == Signal::SIGKILL {
            tracing::warn!("process {group} does not exit after SIGKILL: the kernel is stuck in it");
        }
    }
    child.reap();
}

/// Runs the hooks of a stage before the guest; the first that fails stops the start, and a signal ends the one that runs.
pub(super) async fn run_before_guest(
    plan: &Plan,
    stage: Stage,
    journal: &mut Journal,
    signals: &mut Signals,
) -> Result<()> {
    if plan.hooks.is_empty() {
        return Ok(());
    }
    journal.append(Record::Hooks { stage })?;
    let asked = pin!(signals.next());
    Hooks::of(plan, stage, None, None).until_one_fails(asked).await
}

/// Runs the hooks of a stage after the guest, if they must run; returns what went wrong. The journal notes them as done
/// only when all of them were run, so that after a launcher that died in between they are run again.
pub(super) async fn run_after_guest(
    plan: &Plan,
    stage: Stage,
    journal: &mut Journal,
    outcome: HookOutcome,
) -> Vec<String> {
    if !must_run(journal.records(), stage) {
        return Vec::new();
    }
    let mut failed = Hooks::of(plan, stage, None, Some(outcome)).all().await;
    if let Err(error) = journal.append(Record::HooksDone { stage }) {
        failed.push(format!("cannot note that the hooks of `{stage}` were run: {error}"));
    }
    failed
}

/// Whether the hooks of a stage after the guest must run: the stage before the guest that they belong to was reached.
fn must_run(records: &[Record], stage: Stage) -> bool {
    let reached = match stage {
        Stage::Ended => Stage::Ready,
        Stage::Restored => Stage::Before,
        Stage::Before | Stage::Ready | Stage::Running | Stage::Toggled => return false,
    };
    records.contains(&Record::Hooks { stage: reached }) && !records.contains(&Record::HooksDone { stage })
}

/// The hooks of `running`, while the guest runs.
#[derive(Debug)]
pub(super) struct RunningHooks {
    hooks: JoinHandle<Vec<String>>,
    stop: watch::Sender<bool>,
}

impl RunningHooks {
    /// Starts them.
    pub fn start(plan: &Plan, qemu: Option<i32>) -> Self {
        let hooks = Hooks::of(plan, Stage::Running, qemu, None);
        let (stop, mut stopped) = watch::channel(false);
        let run = async move {
            let mut failed = Vec::new();
            for hook in &hooks.hooks {
                if *stopped.borrow() {
                    break;
                }
                let asked = pin!(async {
                    drop(stopped.wait_for(|stop| *stop).await);
                    "the guest's end"
                });
                if let Err(error) = hooks.run(hook, asked).await {
                    // A guest may run for days, so this is said now and not only at its end.
                    tracing::warn!("{error:#}");
                    failed.push(format!("{error:#}"));
                }
            }
            failed
        };
        Self { hooks: tokio::spawn(run), stop }
    }

    /// The guest has ended: ends the one that still runs, and returns what went wrong.
    pub async fn end(self) -> Vec<String> {
        // Fails if they have all ended.
        let _ = self.stop.send(true);
        self.hooks.await.unwrap_or_else(|error| vec![format!("the hooks of `running` failed: {error}")])
    }
}

/// The hooks of `toggled`, while the guest runs. If the devices change hands again while they run, they run once more after
/// that, for who has them then.
#[derive(Debug)]
pub(super) struct ToggledHooks {
    hooks: JoinHandle<()>,
    holder: watch::Sender<Option<InputHolder>>,
}

impl ToggledHooks {
    /// Waits with them; `None` if there are none.
    pub fn wait(plan: &Plan, qemu: i32) -> Option<Self> {
        let mut hooks = Hooks::of(plan, Stage::Toggled, Some(qemu), None);
        if hooks.hooks.is_empty() {
            return None;
        }
        let (holder, mut changes) = watch::channel(None::<InputHolder>);
        let run = async move {
            while changes.changed().await.is_ok() {
                let Some(holder) = *changes.borrow_and_update() else { continue };
                hooks.environment.retain(|(name, _)| *name != INPUT);
                hooks.environment.push((INPUT, Some(holder.name().into())));
                for hook in &hooks.hooks {
                    let mut ended = changes.clone();
                    let asked = pin!(async {
                        while ended.changed().await.is_ok() {}
                        "the guest's end"
                    });
                    if let Err(error) = hooks.run(hook, asked).await {
                        tracing::warn!("{error:#}");
                    }
                }
            }
        };
        Some(Self { hooks: tokio::spawn(run), holder })
    }

    /// The devices have changed hands.
    pub fn toggled(&self, holder: InputHolder) {
        self.holder.send_replace(Some(holder));
    }

    /// The guest has ended: ends the one that still runs.
    pub async fn end(self) {
        drop(self.holder);
        if let Err(error) = self.hooks.await {
            tracing::warn!("the hooks of `toggled` failed: {error}");
        }
    }
}
