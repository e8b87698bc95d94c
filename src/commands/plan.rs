//! `vfio-run plan FILE`.

use std::io::IsTerminal as _;

use anyhow::Result;

use super::shared::planned;
use crate::cli::{OutputArgs, PlanArgs};
use crate::report;
use crate::units::exit;

/// Shows what `run` would do. Ends with the code that `run` would refuse with.
pub fn plan(args: &PlanArgs, output: OutputArgs) -> Result<u8> {
    let plan = planned::plan(&args.file, args.host.as_deref())?;
    if output.json {
        report::json(&plan)?;
    } else if args.argv {
        let line = report::shell_line(&plan);
        match std::io::stdout().is_terminal() {
            true => report::say(&line),
            // A shell needs each character of a name.
            false => report::print(format!("{line}\n").as_bytes()),
        }
    } else if args.explain {
        report::say(&report::explained(&plan, report::wrap_width()));
    } else {
        report::say(&report::summary(&plan, report::wrap_width()));
    }
    Ok(if planned::blockers(&plan).next().is_some() { exit::REFUSED } else { exit::OK })
}
