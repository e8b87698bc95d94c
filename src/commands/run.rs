//! `vfio-run FILE`.

use anyhow::{Context as _, Result};

use super::{exit, planned};
use crate::cli::{OutputArgs, RunArgs};
use crate::plan::{Move, Plan, Verdict};
use crate::report;
use crate::run::session::{Service, Started, Waits};
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
        return go_on_in_unit(&moves, &plan, args, output);
    }
    // Standard output is for scripts then; the port stays reachable at serial.sock.
    plan.console &= !output.json;
    let report = block_on(run::run(&plan, &planned::root()))?;
    Ok(tell(&plan.name, &report))
}

/// Has a unit of systemd's do what was asked of us, and waits until the guest runs there. The session may end before.
fn go_on_in_unit(moves: &Move, plan: &Plan, args: &RunArgs, output: OutputArgs) -> Result<u8> {
    let (unit, name) = (moves.unit.trim_end_matches(".service"), &plan.name);
    tracing::info!(
        event = "moved",
        unit = moves.unit.as_str(),
        "{}, so {name} goes on in {unit}; follow it with `journalctl -fu {unit}` or `vfio-run status {name}`, end it with \
         `vfio-run stop {name}`",
        moves.why
    );
    let file = std::fs::canonicalize(&args.file)?;
    let program = std::env::current_exe().context("cannot tell where vfio-run is")?;
    let file = file.to_str().with_context(|| format!("{} is not UTF-8, which a unit must be", file.display()))?;
    let mut arguments = vec!["run".to_owned(), file.to_owned()];
    arguments.extend((0..output.verbose).map(|_| "--verbose".to_owned()));
    arguments.extend(output.quiet.then(|| "--quiet".to_owned()));
    arguments.extend(output.json.then(|| "--json".to_owned()));
    let waits = Waits { guest: plan.shutdown_timeout, start: plan.hooks_limit(true), end: plan.hooks_limit(false) };
    let service = Service { name, program: &program, arguments: &arguments, waits };
    match block_on(run::session::go_on_in_unit(moves, &service))? {
        Started::Well => Ok(exit::OK),
        Started::Failed { code, messages } => {
            messages.iter().for_each(|line| report::complain(line));
            tracing::error!("{name} failed in {unit}; `journalctl -u {unit}` has more");
            Ok(code.filter(|code| *code != exit::OK).unwrap_or(exit::NOT_STARTED))
        }
    }
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
