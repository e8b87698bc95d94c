//! How a start, a run or a takeover went, in messages and as an exit code.

use anyhow::Result;

use super::stutter;
use crate::cli::OutputArgs;
use crate::plan::{Plan, Verdict};
use crate::report;
use crate::run::{Outcome, Report};

/// Shows the findings that forbid the start, and unless `-q` asks for no advice, those that warn.
pub fn show_refusal(plan: &Plan, output: OutputArgs) {
    let shown: Vec<_> = plan.findings.iter().filter(|f| !output.quiet || f.blocks()).cloned().collect();
    report::complain(&report::findings(&shown, false, report::messages_width()));
    tracing::error!("{}", refusal(plan));
}

/// The message beside those findings.
pub fn refusal(plan: &Plan) -> String {
    format!("{} was not started and nothing was touched", plan.name)
}

/// Logs the findings that warn and do not forbid the start. They are advice: with `-q`, by which one asks for what went wrong,
/// nothing is said.
pub fn log_warnings(plan: &Plan, output: OutputArgs) {
    if output.quiet {
        return;
    }
    for finding in plan.findings.iter().filter(|f| f.ok == Verdict::No) {
        let remedy = finding.remedy.as_ref().map_or_else(String::new, |r| format!(" → {r}"));
        tracing::warn!(event = "finding", key = finding.key, "{}{remedy}", finding.sentence());
    }
}

/// Logs how a run went and returns its exit code.
pub fn log_outcome(name: &str, report: &Report) -> u8 {
    let code = report.exit_code();
    match &report.outcome {
        Outcome::ShutDown(reason) => tracing::info!(event = "ended", code, "{name} has ended ({reason})"),
        Outcome::Forced(words) => tracing::warn!(event = "ended", code, "{words}"),
        Outcome::NotStarted(error) => tracing::error!(event = "ended", code, "{name} did not start: {error:#}"),
        Outcome::Crashed(words) => tracing::error!(event = "ended", code, "{words}"),
    }
    if let Some(stutter) = &report.stutter {
        stutter::show(name, stutter);
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
