//! From a plan to a guest whose every thread is in its place, and only then to its first instruction.

use std::fs::OpenOptions;
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::resource::{RLIM_INFINITY, Resource};
use qapi::qmp;

use crate::change::{Change, ChangeError, unattended};
use crate::child::{Command, Session};
use crate::host::Root;
use crate::host::pci::vfio;
use crate::journal::{Journal, MakeError, Record, Took};
use crate::plan::{Account, Cgroup, Helper, Plan, Trial};
use crate::qemu::Qmp;
use crate::run::kept::folders;
use crate::run::kept::log::Log;
use crate::run::process::{Watched, start_time};
use crate::run::signals::Signals;
use crate::run::starting::sockets::{self, Sockets};
use crate::run::starting::threads::place_all;
use crate::run::starting::{scope, trial};
use crate::run::supervising::console;
use crate::run::supervising::console::Console;
use crate::run::supervising::event_loop::{Running, Switch};
use crate::run::{Processes, hooks, report_undo, signals, systemd_notify};
use crate::units::Stage;

/// How long QEMU may take until it greets. It touches every page of the guest's memory first where that is reserved,
/// which takes about a second for 10 GiB; much more than that on a busy host, so the limit is far away.
const GREETING_LIMIT: Duration = Duration::from_secs(300);
/// How long a QEMU that closed its monitor may take to be gone.
const EXIT_LIMIT: Duration = Duration::from_secs(10);

/// The variables that QEMU's displays and sound need of the environment; it gets no others.
const PASSED_ON: [&str; 11] = [
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "DISPLAY",
    "XAUTHORITY",
    "WAYLAND_DISPLAY",
    "XDG_RUNTIME_DIR",
    "PIPEWIRE_RUNTIME_DIR",
    "PULSE_SERVER",
];

/// Carries the plan out up to the running guest. What was started is in `processes` also when this fails. Where the
/// plan has a dead-man switch and its time passes, the error is a [`crate::run::supervising::dead_man_switch::Missed`].
pub async fn start(
    plan: &Plan,
    root: &Root,
    journal: &mut Journal,
    signals: &mut Signals,
    processes: &mut Processes,
) -> Result<Running> {
    hooks::on_the_way(plan, Stage::Before, journal, signals).await?;
    folders::keep(&plan.paths, &plan.keep, plan.account.as_ref())?;
    if plan.uses_display_folder() {
        folders::private_folder(&plan.paths.display, plan.account.as_ref())?;
    }
    make_changes(plan, root, journal, signals, crate::plan::trial(plan), &mut |_, _, _| {}).await?;
    vfio::ask(root, &plan.leases).context("the guest cannot have its devices")?;
    hooks::on_the_way(plan, Stage::Ready, journal, signals).await?;

    let log = Log::open(&plan.paths.log, &plan.command)?;
    let Sockets { qemu: descriptors, qmp, mut helpers } = sockets::make(&plan.descriptors, &plan.paths.run)?;
    for helper in &plan.helpers {
        let end = helpers.iter().position(|(name, _)| *name == helper.name).context("a helper without its socket")?;
        let child = spawn_helper(helper, helpers.swap_remove(end).1, plan, &log)?;
        note_start(journal, &helper.name, &child)?;
        processes.helpers.push((helper.name.clone(), child));
    }
    let mut command = Command::new(&plan.command.binary);
    command.args(plan.command.argv());
    for (number, descriptor) in descriptors {
        command.fd(number, descriptor);
    }
    prepare(&mut command, plan, &log)?;
    // Others than root are held to their limit; the check has looked at it.
    if plan.lock_memory && nix::unistd::geteuid().is_root() {
        command.rlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    }
    // A black screen lasts from here on, whatever keeps QEMU from letting the guest go.
    let switch = plan.give_back_unless.map(Switch::new);
    let qemu = Watched::child(command.spawn()?.id() as i32)?;
    let qemu = processes.qemu.insert(qemu);
    note_start(journal, "qemu", qemu)?;
    let settling = settle(plan, root, journal, signals, processes, qmp, &log);
    let (qmp, console) = match &switch {
        Some(switch) => switch.in_time(settling).await??,
        None => settling.await?,
    };
    Ok(Running { qmp, log: Some(log), console, switch })
}

/// From QEMU's first instruction to the guest's.
async fn settle(
    plan: &Plan,
    root: &Root,
    journal: &mut Journal,
    signals: &mut Signals,
    processes: &Processes,
    qmp: UnixStream,
    log: &Log,
) -> Result<(Qmp, Option<Console>)> {
    let qemu = processes.qemu.as_ref().context("there is no QEMU to wait for")?;
    let mut qmp = tokio::select! {
        greeted = greet(qmp, qemu, log, GREETING_LIMIT) => greeted?,
        signal = signals.next() => bail!("{signal} came before the guest ran"),
    };
    if let Cgroup::Scope(name) = &plan.cgroup {
        let pids = [qemu].into_iter().chain(processes.helpers.iter().map(|(_, h)| h)).map(|p| p.pid() as u32);
        // After the greeting, so that a QEMU that refuses its arguments leaves no failed scope behind.
        if let Err(error) =
            scope::enter(name, &format!("Guest of vfio-run: {}", plan.name), &pids.collect::<Vec<_>>()).await
        {
            tracing::warn!("QEMU stays in the launcher's cgroup: {error:#}");
        }
    }
    let placed = place_all(&mut qmp, qemu.pid(), &plan.placement).await;
    placed.context("the guest was not started, because one of its threads could not be put in its place")?;
    for report in journal.settle(root) {
        report_undo(&report);
    }
    // Before the guest says anything.
    let console = console::join(plan, &mut qmp).await;
    journal.append(Record::Running)?;
    qmp.execute(qmp::cont {}).await.context("QEMU did not let the guest go")?;
    Ok((qmp, console))
}

/// Makes the plan's changes, and tells of each, by its place among them, how long it took. The trial comes before the
/// first that takes something from the host.
pub(in crate::run) async fn make_changes(
    plan: &Plan,
    root: &Root,
    journal: &mut Journal,
    signals: &mut Signals,
    mut trial: Option<Trial>,
    made: &mut dyn FnMut(usize, &Change, Took),
) -> Result<()> {
    for (index, planned) in plan.changes.iter().enumerate() {
        let change = &planned.change;
        if let Some(signal) = signals.pending().await {
            bail!("{signal} came before all changes to the host were made");
        }
        if change.takes_from_host()
            && let Some(trial) = trial.take()
        {
            trial::run(&trial, plan, signals).await?;
        }
        tracing::debug!("{change}");
        let result = match change {
            Change::HugePages { .. } => signals::listening(|signal| make_long(root, journal, change, signal)),
            _ => journal.make(root, change, &unattended),
        };
        if let Err(MakeError::Change(ChangeError::Stopped)) = result {
            let signal = signals.pending().await.unwrap_or("a signal");
            bail!("{signal} came before all changes to the host were made");
        }
        made(index, change, result.with_context(|| format!("could not {change}"))?);
    }
    Ok(())
}

/// Makes a change that takes long enough to be watched, and to be stopped by a signal.
fn make_long(
    root: &Root,
    journal: &mut Journal,
    change: &Change,
    signal: &dyn Fn() -> Option<&'static str>,
) -> Result<Took, MakeError> {
    journal.make(root, change, &|done, of| {
        let text = format!("{change}: {done} of {of}");
        systemd_notify::status(&text);
        tracing::info!("{text}");
        if signal().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
}

fn note_start(journal: &mut Journal, name: &str, process: &Watched) -> Result<()> {
    let pid = process.pid();
    // A process that is gone already shows itself a moment later; 0 matches nobody.
    let start_time = start_time(pid).unwrap_or(0);
    journal.append(Record::Started { name: name.to_owned(), pid, start_time })?;
    Ok(())
}

fn spawn_helper(helper: &Helper, end: std::os::fd::OwnedFd, plan: &Plan, log: &Log) -> Result<Watched> {
    let (program, arguments) = helper.argv.split_first().context("a helper without a program")?;
    let mut command = Command::new(program);
    command.args(arguments).fd(helper.fd, end);
    prepare(&mut command, plan, log)?;
    Watched::child(command.spawn()?.id() as i32)
}

/// What QEMU and the helpers have in common: no terminal, no signals of ours, no environment of ours, their own user,
/// born on the emulator's CPUs in the guest's cgroup, output into the log.
pub(in crate::run) fn prepare(command: &mut Command, plan: &Plan, log: &Log) -> Result<()> {
    command.env_clear().session(Session::Own).umask(0o077).affinity(&plan.placement.emulator);
    command.current_dir(Path::new("/"));
    if let Cgroup::Made(path) = &plan.cgroup {
        let procs = path.join("cgroup.procs");
        let procs =
            OpenOptions::new().write(true).open(&procs).with_context(|| format!("cannot open {}", procs.display()))?;
        command.cgroup_procs(procs.into());
    }
    for name in PASSED_ON {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.stdout(Stdio::from(log.output()?)).stderr(Stdio::from(log.output()?));
    if let Some(Account { uid, gid, groups }) = &plan.account {
        command.user(*uid, *gid, groups);
    }
    Ok(())
}

/// Waits for QEMU's greeting; where QEMU goes instead, its own words tell why.
pub(in crate::run) async fn greet(stream: UnixStream, qemu: &Watched, log: &Log, limit: Duration) -> Result<Qmp> {
    stream.set_nonblocking(true)?;
    let stream = tokio::net::UnixStream::from_std(stream)?;
    let error = tokio::select! {
        greeted = Qmp::negotiate(stream, limit) => match greeted {
            Ok(qmp) => return Ok(qmp),
            Err(e) => anyhow::Error::new(e),
        },
        ended = qemu.ended() => match ended {
            Ok(()) => anyhow::anyhow!("it left before its monitor answered"),
            Err(e) => e,
        },
    };
    // Its last words are in the log only when it is gone.
    let _ = tokio::time::timeout(EXIT_LIMIT, qemu.ended()).await;
    match qemu.reap() {
        Some(status) => bail!("QEMU did not start ({status}):{}", log.quote()),
        None => Err(error.context(format!("QEMU did not start:{}", log.quote()))),
    }
}
