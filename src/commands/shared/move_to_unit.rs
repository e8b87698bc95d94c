//! Has a systemd unit do what the user asked for when it would end the session that the user asked from.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::outcome::block_on;
use crate::cli::OutputArgs;
use crate::plan::{Move, Plan};
use crate::report;
use crate::run::transient_unit::{self, Service, Started, Until, Waits};
use crate::units::exit;

/// What the unit is to do.
#[derive(Debug, Clone, Copy)]
pub enum Task {
    /// Run the machine.
    Run {
        /// With a report after it, whatever the machine file says.
        report: bool,
    },
    /// Rehearse its handover.
    Rehearse {
        /// So many times.
        rounds: u32,
        /// With its hooks.
        hooks: bool,
    },
}

/// Has a systemd unit do the task, and waits until the guest runs there, or the rehearsal has ended. The session may end
/// before that.
pub fn move_to_unit(moves: &Move, plan: &Plan, file: &Path, output: OutputArgs, task: Task) -> Result<u8> {
    let name = &plan.name;
    let moves = match task {
        Task::Run { .. } => moves.clone(),
        // No machine's name has a colon. An installed unit would start the guest.
        Task::Rehearse { .. } => {
            Move { unit: format!("vfio-run-{name}:rehearsal.service"), installed: false, ..moves.clone() }
        }
    };
    let unit = moves.unit.trim_end_matches(".service");
    let what = match task {
        Task::Run { .. } => {
            format!("{name} goes on in {unit}; follow it with `journalctl -fu {unit}` or `vfio-run status {name}`")
        }
        Task::Rehearse { .. } => format!(
            "{name} is rehearsed in {unit}; follow it with `journalctl -fu {unit}`, which also shows its result"
        ),
    };
    let why = &moves.why;
    tracing::info!(event = "moved", unit = moves.unit.as_str(), "{why}, so {what}, end it with `vfio-run stop {name}`");
    let file = std::fs::canonicalize(file)?;
    let program = std::env::current_exe().context("cannot find out the path of this program")?;
    let file = file.to_str().with_context(|| format!("{} is not UTF-8, which a unit must be", file.display()))?;
    let mut arguments = match task {
        Task::Run { .. } => vec!["run".to_owned(), file.to_owned()],
        Task::Rehearse { rounds, .. } => {
            ["rehearse", file, "--rounds", &rounds.to_string()].map(str::to_owned).to_vec()
        }
    };
    arguments.extend(matches!(task, Task::Rehearse { hooks: true, .. }).then(|| "--hooks".to_owned()));
    arguments.extend(matches!(task, Task::Run { report: true }).then(|| "--report".to_owned()));
    arguments.extend((0..output.verbose).map(|_| "--verbose".to_owned()));
    arguments.extend(output.quiet.then(|| "--quiet".to_owned()));
    arguments.extend(output.json.then(|| "--json".to_owned()));
    let waits = Waits { guest: plan.shutdown_timeout, start: plan.hooks_limit(true), end: plan.hooks_limit(false) };
    let until = if matches!(task, Task::Run { .. }) { Until::GuestRuns } else { Until::Ended };
    let service = Service { name, program: &program, arguments: &arguments, waits, until };
    match block_on(transient_unit::go_on_in_unit(&moves, &service))? {
        Started::Well => {
            if until == Until::Ended {
                tracing::info!("{name} was rehearsed; `journalctl -u {unit}` shows its result");
            }
            Ok(exit::OK)
        }
        Started::Failed { code, messages } => {
            // What is meant for programs is one value, of which these would be the last lines.
            if !(output.json && until == Until::Ended) {
                messages.iter().for_each(|line| report::complain(line));
            }
            tracing::error!("{name} failed in {unit}; `journalctl -u {unit}` has more");
            Ok(code.filter(|code| *code != exit::OK).unwrap_or(exit::NOT_STARTED))
        }
    }
}
