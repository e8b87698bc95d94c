//! `vfio-run report NAME`.

use std::path::Path;

use anyhow::{Result, bail};

use super::shared::machines;
use super::shared::svg_file::SvgFile;
use crate::cli::{OutputArgs, ReportArgs};
use crate::journal::{Journal, Record};
use crate::machine::nearest;
use crate::run::{self, RunReport};
use crate::units::exit;
use crate::{host, report};

/// Shows what the machine's last run came to, or how it started, if it runs.
pub fn report(args: &ReportArgs, output: OutputArgs) -> Result<u8> {
    let svg = args.svg.as_deref().map(|path| SvgFile::check(path, output)).transpose()?;
    let (kept, now) = find(&args.name)?;
    match svg {
        Some(file) => file.write(&report::run_report::svg(&kept, now.as_deref()))?,
        None if !output.json => {
            let (width, wrap) = (report::picture_width(), report::wrap_width());
            report::say(&report::run_report::text(&kept, now.as_deref(), width, wrap));
        }
        None => {}
    }
    if output.json {
        report::json(&kept)?;
    }
    Ok(exit::OK)
}

/// The report of the run that goes on, else of the last one, and how a machine is that has not ended.
fn find(name: &str) -> Result<(RunReport, Option<String>)> {
    let run_dir = machines::run_dir(name)?;
    // One that cannot be read says why.
    Journal::read(&run_dir)?;
    if run::is_run_dir(&run_dir) && !is_rehearsed(&run_dir) {
        let runs = run::guest_runs(&run_dir);
        let supervised = run::Lock::owner(&run_dir).is_some();
        if let Some(kept) = run::report_of_run(&run_dir)? {
            let now = match (supervised, runs) {
                (true, true) => "it runs".to_owned(),
                (true, false) => "it ends".to_owned(),
                (false, true) => {
                    format!("it runs without a launcher; `vfio-run recover --adopt {name}` supervises it again")
                }
                (false, false) => format!("its launcher was killed; `vfio-run recover {name}` restores the host"),
            };
            return Ok((kept, Some(now)));
        }
        match (supervised, runs) {
            (true, _) => {
                bail!("{name} starts: there is a report once its guest has run for a second, or the start has failed")
            }
            (false, true) => bail!(
                "the launcher of {name} was killed in the guest's first second, before it noted anything; `vfio-run recover --adopt \
                 {name}` supervises the guest again, and there is a report when it has ended"
            ),
            (false, false) => bail!(
                "the launcher of {name} was killed while it started; `vfio-run recover {name}` restores the host, and then there \
                 is a report"
            ),
        }
    }
    match run::read_report(&machines::log(name))? {
        Some(kept) => Ok((kept, None)),
        None if machines::log(name).exists() => {
            bail!("{name} has no report yet; what is known of its runs is in {}", machines::log(name).display())
        }
        None => bail!("no report of {name} is kept here{}", others(name)),
    }
}

fn is_rehearsed(run_dir: &Path) -> bool {
    Journal::read(run_dir).ok().flatten().is_some_and(|records| records.contains(&Record::Rehearsal))
}

/// Who has a report.
fn others(name: &str) -> String {
    const OF_ROOT: &str = "/var/log/vfio-run";
    let folder = host::log_dir();
    let of_root = run::report_path(&Path::new(OF_ROOT).join(format!("{name}.log")));
    if folder != Path::new(OF_ROOT) && of_root.exists() {
        return format!("; root's machine {name} has one: use sudo");
    }
    let mut known = run::report_names(&folder);
    known.extend(machines::names().unwrap_or_default());
    known.sort();
    known.dedup();
    match nearest(name, &known.iter().map(String::as_str).collect::<Vec<_>>()) {
        Some(near) => format!("; did you mean {near}?"),
        None if known.is_empty() => ": no machine of this user's has one yet".to_owned(),
        None => format!("; there are reports of: {}", known.join(", ")),
    }
}
