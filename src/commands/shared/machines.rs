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

/// The name of the machine that is meant by a name or by its file. The file may have been changed or removed while the machine
/// runs: then it is the one that is called as the file is.
pub fn named(text: &str) -> Result<String> {
    let path = Path::new(text);
    let is_there = |name: &str| crate::machine::is_name(name) && run::is_run_dir(&host::run_dir().join(name));
    if !(text.contains('/') || text.ends_with(".ron")) || is_there(text) {
        return Ok(text.to_owned());
    }
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    match crate::machine::read(path) {
        Ok(source) => Ok(source.machine.name),
        Err(_) if is_there(stem) => Ok(stem.to_owned()),
        Err(_) if !path.exists() => {
            bail!("there is no file {text}, and no machine of that name runs{}", others("", stem))
        }
        Err(refused) => Err(refused.into()),
    }
}

/// What is said of a machine that does not run: perhaps it is misspelt, or another user's.
pub fn does_not_run(name: &str) -> String {
    format!("{name} does not run{}", others(name, name))
}

/// What may have been meant: a machine that runs and is called nearly so, one of root's, else all that run but this.
pub fn others(but: &str, name: &str) -> String {
    const OF_ROOT: &str = "/run/vfio-run";
    let there = names().unwrap_or_default();
    let others: Vec<&str> = there.iter().map(String::as_str).filter(|other| *other != but).collect();
    let is_name = crate::machine::is_name(name);
    if is_name && host::run_dir() != Path::new(OF_ROOT) && Path::new(OF_ROOT).join(name).is_dir() {
        return format!("; root's machine {name} does: use sudo");
    }
    match nearest(name, &others) {
        Some(near) => format!("; did you mean {near}?"),
        None if others.is_empty() => String::new(),
        None => format!("; there are: {}", others.join(", ")),
    }
}

/// How long the machine's guest may take to power off, and the hooks after it.
pub fn shutdown_limit(run_dir: &Path) -> Duration {
    let plan = run::kept_plan(run_dir).ok();
    // The launcher also waits for the hooks that come after the guest.
    Duration::from_secs(plan.map_or(90, |p| u64::from(p.hooks_limit(false)) + u64::from(p.shutdown_timeout)))
}
