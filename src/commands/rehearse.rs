//! `vfio-run rehearse FILE`.

use anyhow::Result;

use super::shared::move_to_unit::{Task, move_to_unit};
use super::shared::outcome::{block_on, log_warnings, refusal, show_refusal};
use super::shared::planned;
use crate::cli::{OutputArgs, RehearseArgs};
use crate::plan::Plan;
use crate::units::{counted, exit};
use crate::{report, run};

/// Hands the host's devices over and takes them back, without a guest.
pub fn rehearse(args: &RehearseArgs, output: OutputArgs) -> Result<u8> {
    let plan = planned::plan(&args.file, None)?;
    if planned::blockers(&plan).next().is_some() {
        if output.json {
            report::json(&serde_json::json!({ "name": plan.name, "findings": plan.findings }))?;
            tracing::error!("{}", refusal(&plan));
        } else {
            show_refusal(&plan, output);
        }
        return Ok(exit::REFUSED);
    }
    log_warnings(&plan, output);
    if let Some(words) = little(&plan) {
        tracing::info!("{words}");
    }
    // If the machine runs already, this process says so, and starts no unit.
    if let Some(moves) = &plan.moves
        && run::Lock::owner(&plan.paths.run).is_none()
    {
        let task = Task::Rehearse { rounds: args.rounds, hooks: args.hooks };
        return move_to_unit(moves, &plan, &args.file, output, task);
    }
    let rehearsal = block_on(run::rehearse(&plan, &planned::root(), args.rounds, args.hooks))?;
    if output.json {
        report::json(&rehearsal)?;
    } else {
        report::say(&report::rehearsal(&rehearsal, report::wrap_width()));
    }
    for warning in &rehearsal.warnings {
        tracing::warn!("{warning}");
    }
    if let Some(failed) = &rehearsal.failed {
        tracing::error!("{failed}");
    }
    for what in &rehearsal.left {
        tracing::error!("the host is not as it was: {what}");
    }
    match (rehearsal.left.is_empty(), rehearsal.leaks.is_empty()) {
        (true, true) => tracing::info!("the host is as it was"),
        (true, false) => tracing::error!("the host is not as it was: something leaked, as named above"),
        (false, _) => tracing::error!("`vfio-run recover {}` tries again", plan.name),
    }
    Ok(rehearsal.exit_code())
}

/// A message if the plan has little that a rehearsal could do.
fn little(plan: &Plan) -> Option<String> {
    let name = &plan.name;
    match (plan.leases.is_empty(), plan.changes.len()) {
        (false, _) => None,
        (true, 0) => Some(format!("{name} takes no device and changes nothing on the host: little to rehearse")),
        (true, n) => {
            let changes = counted(n, "change", "changes");
            Some(format!("{name} takes no device: little to rehearse but {changes} to the host"))
        }
    }
}
