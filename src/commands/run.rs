//! `vfio-run FILE`.

use anyhow::Result;

use super::{exit, moved, planned};
use crate::cli::{OutputArgs, RunArgs};
use crate::plan::{Plan, Verdict};
use crate::report;
use crate::run::{self, Outcome, Report};

/// Starts the machine and stays until it has ended.
pub fn run(args: &RunArgs, output: OutputArgs) -> Result<u8> {
    let mut plan = planned::plan(&args.file, None)?;
    if planned::blockers(&plan).next().is_some() {
        match output.json {
            true => report::error_line("refused", &refusal(&plan), "findings", serde_json::to_value(&plan.findings)?),
            false => refuse(&plan),
        }
        return Ok(exit::REFUSED);
    }
    tell_warnings(&plan);
    // Where it runs already, that is said here.
    if let Some(moves) = plan.moves.take()
        && run::Lock::owner(&plan.paths.run).is_none()
    {
        return moved::go_on(&moves, &plan, &args.file, output, moved::Errand::Run);
    }
    // Standard output is for scripts then; the port stays reachable at serial.sock.
    plan.console &= !output.json;
    let report = block_on(run::run(&plan, &planned::root()))?;
    Ok(tell(&plan.name, &report))
}

/// Says what forbids the start.
pub fn refuse(plan: &Plan) {
    report::complain(&report::findings(&plan.findings, false));
    tracing::error!("{}", refusal(plan));
}

/// That findings forbid the start, which are told beside it.
pub fn refusal(plan: &Plan) -> String {
    format!("{} was not started and nothing was touched", plan.name)
}

/// Says what is not as it should be and does not forbid the start.
pub fn tell_warnings(plan: &Plan) {
    for finding in plan.findings.iter().filter(|f| f.ok == Verdict::No) {
        let remedy = finding.remedy.as_ref().map_or_else(String::new, |r| format!(" → {r}"));
        tracing::warn!(event = "finding", key = finding.key, "{}{remedy}", finding.sentence());
    }
}

/// Says how a run went and returns its exit code.
pub fn tell(name: &str, report: &Report) -> u8 {
    let code = report.exit_code();
    match &report.outcome {
        Outcome::ShutDown(reason) => tracing::info!(event = "ended", code, "{name} has ended ({reason})"),
        Outcome::NotStarted(error) => tracing::error!(event = "ended", code, "{name} did not start: {error:#}"),
        Outcome::Crashed(words) => tracing::error!(event = "ended", code, "{words}"),
    }
    for warning in &report.warnings {
        tracing::warn!(event = "warning", "{warning}");
    }
    if report.left.is_empty() {
        tracing::info!(event = "restored", "the host is as it was");
    } else {
        for what in &report.left {
            tracing::error!(event = "left", "the host is not as it was: {what}");
        }
        tracing::error!("`vfio-run recover {name}` tries again");
    }
    code
}

/// Runs on this thread alone: QEMU's end, signals and sockets come in one event loop.
pub fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
