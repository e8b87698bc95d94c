//! `vfio-run check FILE`.

use anyhow::Result;

use super::shared::planned;
use crate::cli::{FileArgs, OutputArgs};
use crate::report;
use crate::run::LastFailure;
use crate::units::exit;

/// Go or no-go, with reasons.
pub fn check(args: &FileArgs, output: OutputArgs) -> Result<u8> {
    let plan = planned::plan(&args.file, None)?;
    let blocked = planned::blockers(&plan).count();
    let last_failure = LastFailure::of(&plan.paths.log);
    if output.json {
        let findings = &plan.findings;
        report::json(&serde_json::json!({
            "name": plan.name, "go": blocked == 0, "last_failure": last_failure, "findings": findings,
        }))?;
    } else {
        if let Some(failure) = last_failure {
            report::say(&failure.describe(&plan.name));
        }
        report::say(&report::findings(&plan.findings, !output.quiet));
        report::say(&match blocked {
            0 => format!("{} can start", plan.name),
            n => format!("{} cannot start: {n} of the findings above forbid it", plan.name),
        });
    }
    Ok(if blocked == 0 { exit::OK } else { exit::REFUSED })
}
