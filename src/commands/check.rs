//! `vfio-run check FILE`.

use anyhow::Result;

use super::shared::outcome::block_on;
use super::shared::planned;
use crate::cli::{CheckArgs, OutputArgs};
use crate::plan::{Finding, Plan, Severity, Verdict};
use crate::run::process::remedy_if_stopped;
use crate::run::{Asked, LastFailure, Lock, Owner};
use crate::units::exit;
use crate::{report, run};

/// Go or no-go, with reasons.
pub fn check(args: &CheckArgs, output: OutputArgs) -> Result<u8> {
    let mut plan = planned::plan(&args.file, None)?;
    if args.try_qemu && planned::blockers(&plan).next().is_none() {
        let tried = tried(&plan)?;
        plan.findings.push(tried);
    }
    let blocked = planned::blockers(&plan).count();
    let last_failure = LastFailure::of(&plan.paths.log);
    let running = Lock::owner(&plan.paths.run);
    let width = report::wrap_width();
    if output.json {
        let findings = &plan.findings;
        report::json(&serde_json::json!({
            "name": plan.name, "go": blocked == 0, "last_failure": last_failure, "findings": findings,
            "launcher": running.and_then(|owner| owner.pid),
        }))?;
    } else if output.quiet {
        // As every command: nothing if nothing is wrong.
        let forbids: Vec<_> = planned::blockers(&plan).cloned().collect();
        if !forbids.is_empty() {
            report::say(&report::findings(&forbids, false, width));
        }
        if blocked > 0 || running.is_some() {
            report::say(&report::hanging("", &verdict(&plan.name, blocked, running)));
        }
    } else {
        if let Some(failure) = last_failure {
            report::say(&report::each_within(width, &failure.describe(&plan.name)));
        }
        report::say(&report::findings(&plan.findings, true, width));
        report::say(&report::hanging("", &verdict(&plan.name, blocked, running)));
    }
    Ok(if blocked == 0 { exit::OK } else { exit::REFUSED })
}

/// What QEMU says of the machine's command line; an error if a signal came before it did, which says nothing of the machine.
fn tried(plan: &Plan) -> Result<Finding> {
    let (ok, detail) = match block_on(run::try_out(plan, &planned::root())) {
        Ok(()) => (Verdict::Yes, "QEMU accepts the machine's command line".to_owned()),
        Err(error) if error.is::<Asked>() => return Err(error.context("the check was interrupted")),
        Err(error) => (Verdict::No, format!("the trial failed: {error:#}")),
    };
    let key = "qemu.accepts".to_owned();
    Ok(Finding { key, severity: Severity::Hard, ok, detail, remedy: None, origin: None, place: None })
}

/// Go or no-go, in a sentence.
fn verdict(name: &str, blocked: usize, running: Option<Owner>) -> String {
    let launched = |owner: Owner| owner.pid.map_or_else(String::new, |pid| format!(", launched by process {pid}"));
    match (blocked, running) {
        (0, None) => format!("{name} can start"),
        (0, Some(owner)) => remedy_if_stopped(&format!("{name} runs already, and its launcher"), owner.pid)
            .unwrap_or_else(|| {
                format!("{name} runs already{}; `vfio-run stop {name}` ends it, then it can start", launched(owner))
            }),
        (1, _) => format!("{name} cannot start: one of the findings above forbids it"),
        (n, _) => format!("{name} cannot start: {n} of the findings above forbid it"),
    }
}
