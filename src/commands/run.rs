//! `vfio-run FILE`.

use anyhow::Result;

use super::shared::move_to_unit::{Task, move_to_unit};
use super::shared::outcome::{block_on, log_outcome, log_warnings, refusal, show_refusal};
use super::shared::planned;
use crate::cli::{OutputArgs, RunArgs};
use crate::units::exit;
use crate::{report, run};

/// Starts the machine and stays until it has ended.
pub fn run(args: &RunArgs, output: OutputArgs) -> Result<u8> {
    let mut plan = planned::plan(&args.file, None)?;
    if block_on(async { Ok(run::wait_for_display_manager(&plan, &planned::root()).await) })? {
        plan = planned::plan(&args.file, None)?;
    }
    if planned::blockers(&plan).next().is_some() {
        match output.json {
            true => report::error_line("refused", &refusal(&plan), "findings", serde_json::to_value(&plan.findings)?),
            false => show_refusal(&plan, output),
        }
        return Ok(exit::REFUSED);
    }
    log_warnings(&plan, output);
    plan.report |= args.report;
    // If the machine runs already, this process says so, and starts no unit.
    if let Some(moves) = plan.moves.take()
        && run::Lock::owner(&plan.paths.run).is_none()
    {
        return move_to_unit(&moves, &plan, &args.file, output, Task::Run { report: args.report });
    }
    // Standard output is for scripts then; the port stays reachable at serial.sock.
    plan.console &= !output.json;
    let report = block_on(run::run(&plan, &planned::root()))?;
    Ok(log_outcome(&plan.name, &report))
}
