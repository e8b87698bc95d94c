//! Starts the helpers. That happens before anything is taken from the host, so one that ends at once is a refusal while
//! the screen is still there.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::timeout;

use super::greeting::wait_for_greeting;
use super::spawn::{note_start, prepare};
use crate::child::Command;
use crate::journal::Journal;
use crate::plan::{Helper, Plan};
use crate::qemu::Qmp;
use crate::qemu::qmp::Answer;
use crate::run::kept::guest_lock;
use crate::run::kept::log::Log;
use crate::run::process::Watched;
use crate::run::processes::Processes;
use crate::units::run_files;

/// The first descriptor of a helper after the standard ones.
const LOWEST: i32 = 3;
/// How long a QEMU may take to exit that ended a helper with its own end: it has closed its sockets already.
const QEMU_LIMIT: Duration = Duration::from_secs(2);

/// Starts the plan's helpers, each with what it inherits.
pub(in crate::run) fn start_helpers(
    plan: &Plan,
    inherits: Vec<Vec<(i32, OwnedFd)>>,
    journal: &mut Journal,
    processes: &mut Processes,
) -> Result<()> {
    if plan.helpers.is_empty() {
        return Ok(());
    }
    let log = Log::of_helpers(&plan.paths.log, &plan.helpers)?;
    // What is left of helpers that have ended, while QEMU is started anew, is in nobody's way.
    drop(std::fs::remove_file(plan.paths.run.join(run_files::HELPERS_LOCK)));
    let lock = guest_lock::take(&plan.paths.run, run_files::HELPERS_LOCK)?;
    for (helper, mut inherits) in plan.helpers.iter().zip(inherits) {
        // One whose launcher dies before it has noted its number is found by this. swtpm, whose QEMU never came, waits for ever.
        let free = inherits.iter().map(|(number, _)| number + 1).max().unwrap_or(LOWEST);
        inherits.push((free, lock.try_clone()?));
        let child = start(helper, inherits, plan, &log)?;
        let noted = note_start(journal, &helper.name, &child);
        // Also one whose start could not be noted is to be ended.
        processes.helpers.push((helper.name.clone(), child));
        noted?;
    }
    processes.helpers_log = Some(log);
    Ok(())
}

fn start(helper: &Helper, inherits: Vec<(i32, OwnedFd)>, plan: &Plan, log: &Log) -> Result<Watched> {
    let (program, arguments) = helper.argv.split_first().context("a helper without a program")?;
    let mut command = Command::new(program);
    command.args(arguments);
    for (number, descriptor) in inherits {
        command.fd(number, descriptor);
    }
    prepare(&mut command, plan, helper.runs_as(plan.account.as_ref()), log)?;
    Watched::child(command.spawn()?.id() as i32)
}

/// Waits until QEMU answers these commands on its monitor, or fails with the words of a helper that ends meanwhile: QEMU would wait for
/// such a one without end.
pub(in crate::run) async fn wait_for_qemu<const N: usize>(
    stream: UnixStream,
    processes: &Processes,
    log: &Log,
    commands: [&str; N],
    limit: Duration,
) -> Result<(Qmp, [Answer; N])> {
    let qemu = processes.qemu.as_ref().context("there is no QEMU to wait for")?;
    let answered = wait_for_greeting(stream, qemu, log, commands, limit);
    tokio::pin!(answered);
    tokio::select! {
        biased;
        answered = &mut answered => match (answered, processes.early_end()) {
            (Err(_), Some(failed)) if failed.is_failure => Err(failed.into()),
            (answered, _) => answered,
        },
        _ = processes.first_helper_ended() => match (timeout(QEMU_LIMIT, answered).await, processes.early_end()) {
            // A helper that is content with its end has it from QEMU's.
            (Ok(Err(error)), Some(ended)) if !ended.is_failure => Err(error),
            (_, Some(ended)) => Err(ended.into()),
            (Ok(answered), None) => answered,
            (Err(_), None) => Err(anyhow::anyhow!("a helper ended before the guest ran")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a start comes to whose QEMU and helper are these scripts; both write to the log.
    async fn failed(qemu: &str, helper: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let (ours, theirs) = UnixStream::pair().unwrap();
        let log = Log::begin(&path, "QEMU".to_owned()).unwrap();
        let helpers_log = Log::begin(&path, "helpers".to_owned()).unwrap();
        let start = |script: &str, monitor: Option<UnixStream>| {
            let mut command = Command::new("sh");
            command.args(["-c", script]).stdout(log.output().unwrap()).stderr(log.output().unwrap());
            if let Some(monitor) = monitor {
                command.fd(3, monitor.into());
            }
            Watched::child(command.spawn().unwrap().id() as i32).unwrap()
        };
        let mut processes = Processes { qemu: Some(start(qemu, Some(theirs))), ..Processes::default() };
        processes.helpers.push(("passt".to_owned(), start(helper, None)));
        processes.helpers_log = Some(helpers_log);
        let error = wait_for_qemu(ours, &processes, &log, [], Duration::from_secs(60)).await.unwrap_err();
        processes.end_all().await;
        format!("{error:#}")
    }

    #[tokio::test]
    async fn a_helper_that_fails_is_the_reason_also_if_qemu_waits_for_it_or_fails_with_it() {
        let expected = "passt ended before the guest ran (exit status: 3):\n  port 80 is taken\n";
        let waits = failed("sleep 60", "echo port 80 is taken; exit 3").await;
        assert!(waits.starts_with(expected), "{waits}");
        let fails = failed("sleep 0.1; exit 1", "echo port 80 is taken; exit 3").await;
        assert!(fails.starts_with(expected), "{fails}");
    }

    #[tokio::test]
    async fn a_helper_that_ends_with_qemu_hides_nothing_of_what_qemu_said() {
        let said = failed("echo no such device; exit 1", "exit 0").await;
        assert!(
            said.contains("QEMU did not start (exit status: 1):") && said.contains("\n  no such device\n"),
            "{said}"
        );
    }
}
