//! The machines that have a run directory, by name, and what their launchers do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::host;
use crate::journal::{self, Record};
use crate::machine::nearest;
use crate::run;
use crate::trusted;
use crate::units::machine_state;

/// What a launcher does that cannot be asked. Before the guest runs, or is taken over, there is no control socket yet, and
/// after it none any more.
pub fn state_without_answer(run_dir: &Path, records: &[Record]) -> &'static str {
    let ran = journal::guest_ran(records) && !run::guest_runs(run_dir);
    match ran {
        _ if records.contains(&Record::Rehearsal) => machine_state::REHEARSING,
        true => machine_state::ENDING,
        false => machine_state::STARTING,
    }
}

/// The machines that have a run directory, in order of their names.
pub fn names() -> Result<Vec<String>> {
    let folder = host::run_dir();
    trusted::way(&folder)?;
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", folder.display())),
    };
    let names = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
    // Whatever else somebody put there is no machine's, and must not be touched as one.
    let is_machine = |name: &String| crate::machine::is_name(name) && run::is_run_dir(&folder.join(name));
    let mut names: Vec<String> = names.filter(is_machine).collect();
    names.sort();
    Ok(names)
}

/// The run directory of the machine of this name.
pub fn run_dir(name: &str) -> Result<PathBuf> {
    if !crate::machine::is_name(name) {
        bail!("{name:?} is no machine's name");
    }
    let folder = host::run_dir().join(name);
    trusted::way(&folder)?;
    Ok(folder)
}

/// What is said of a machine that does not run: perhaps it was named by its file, or misspelt.
pub fn does_not_run(name: &str) -> String {
    let there = names().unwrap_or_default();
    let others: Vec<&str> = there.iter().map(String::as_str).filter(|other| *other != name).collect();
    let near = nearest(name, &others);
    let hint = match (name.strip_suffix(".ron"), near) {
        (Some(stem), _) => {
            format!("; a machine is told by its name, as in `vfio-run status {stem}`, and not by its file")
        }
        (None, Some(near)) => format!("; did you mean {near}?"),
        (None, None) => String::new(),
    };
    format!("{name} does not run{hint}")
}

/// How long the machine's guest may take to power off, and the hooks after it.
pub fn shutdown_limit(run_dir: &Path) -> Duration {
    let plan = run::kept_plan(run_dir).ok();
    // The launcher also waits for the hooks that come after the guest.
    Duration::from_secs(plan.map_or(90, |p| u64::from(p.hooks_limit(false)) + u64::from(p.shutdown_timeout)))
}
