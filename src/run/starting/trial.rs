//! Starts the trial of a plan: QEMU must accept its command line while the host still has its screen.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use nix::sys::signal::Signal;
use qapi::qmp;
use rustix::fs::{MemfdFlags, memfd_create};

use super::contents::{self, Contents};
use super::greeting::wait_for_greeting;
use super::spawn::prepare;
use crate::child::Command;
use crate::plan::{Plan, Trial};
use crate::qemu::QmpError;
use crate::qemu::command::CommandLine;
use crate::run::kept::log::Log;
use crate::run::process::{KilledOnDrop, Watched};
use crate::run::signals::{Asked, Signals};

/// How long QEMU may take until it greets. It touches no memory of the guest's, so it is a matter of less than a second;
/// a QEMU that takes longer than this would leave the screen black for as long.
const LIMIT: Duration = Duration::from_secs(60);
/// How long it may take to be gone after `quit`: it closes the disks, which the run opens again.
const QUIT_LIMIT: Duration = Duration::from_secs(20);
/// How much of what it says about properties is read.
const WORDS: u64 = 64 * 1024;

/// Starts QEMU for a moment. An error is QEMU's refusal in its own words, or a signal that came meanwhile.
///
/// `log` has what QEMU says.
///
/// # Errors
/// With [`Asked`] in it, if a signal came.
pub async fn run_trial(
    trial: &Trial,
    plan: &Plan,
    log: &Log,
    contents: &Contents,
    signals: &mut Signals,
) -> Result<()> {
    tracing::debug!("a trial of QEMU's command line");
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = command(&trial.command, plan, log)?;
    command.fd(trial.monitor, theirs.into());
    for (number, content) in contents::again(contents)? {
        command.fd(number, content);
    }
    let qemu = KilledOnDrop(Watched::child(command.spawn()?.id() as i32)?);
    let tried = async {
        let (mut qmp, [status]) = wait_for_greeting(ours, &qemu.0, log, ["query-status"], LIMIT).await?;
        status.context("QEMU did not answer")?;
        match qmp.execute(qmp::quit {}).await {
            Ok(_) | Err(QmpError::Closed) => {}
            Err(error) => return Err(error).context("QEMU did not end"),
        }
        let ended = tokio::time::timeout(QUIT_LIMIT, qemu.0.ended()).await;
        ended.with_context(|| format!("QEMU did not end within {} s after `quit`", QUIT_LIMIT.as_secs()))?
    };
    or_signal(tried, &qemu, signals).await?;
    for line in &trial.properties {
        try_properties(line, plan, log, signals).await?;
    }
    Ok(())
}

/// Tries properties on a device that is not there: only that may be what QEMU does not like.
async fn try_properties(line: &CommandLine, plan: &Plan, log: &Log, signals: &mut Signals) -> Result<()> {
    let mut words = File::from(memfd_create("vfio-run-trial", MemfdFlags::CLOEXEC)?);
    let mut command = command(line, plan, log)?;
    command.stdout(words.try_clone()?).stderr(words.try_clone()?);
    let qemu = KilledOnDrop(Watched::child(command.spawn()?.id() as i32)?);
    let tried = async {
        let ended = tokio::time::timeout(LIMIT, qemu.0.ended()).await;
        ended.with_context(|| format!("QEMU did not check the properties within {} s", LIMIT.as_secs()))??;
        let mut said = Vec::new();
        words.rewind()?;
        words.take(WORDS).read_to_end(&mut said)?;
        let said = String::from_utf8_lossy(&said);
        match said.contains(Trial::NOWHERE) {
            true => Ok(()),
            false => Err(anyhow!("QEMU rejects the properties in `pci`: {}", said.trim())),
        }
    };
    or_signal(tried, &qemu, signals).await
}

fn command(line: &CommandLine, plan: &Plan, log: &Log) -> Result<Command> {
    let mut command = Command::new(&line.binary);
    command.args(line.argv());
    prepare(&mut command, plan, plan.account.as_ref(), log)?;
    command.death_signal(Signal::SIGKILL);
    Ok(command)
}

/// Waits for the end of a part of the trial, or for a signal; either way QEMU is gone then, and its disks are free,
/// unless the kernel holds it, which the error says.
async fn or_signal(part: impl Future<Output = Result<()>>, qemu: &KilledOnDrop, signals: &mut Signals) -> Result<()> {
    let tried = tokio::select! {
        tried = part => tried.context("QEMU rejected its command line (test start; nothing on the host was changed)"),
        signal = signals.next() => Err(Asked { signal, before: "QEMU had tried its command line" }.into()),
    };
    let Err(error) = tried else { return Ok(()) };
    match qemu.0.end("QEMU of the trial").await {
        Ok(()) => Err(error),
        Err(held) => Err(error.context(held)),
    }
}
