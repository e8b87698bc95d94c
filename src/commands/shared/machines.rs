//! The machines that have a run directory, by name, and what their launchers do.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::wrong_argument::WrongArgument;
use crate::host;
use crate::journal::{self, Journal, Record};
use crate::machine::nearest;
use crate::run;
use crate::run::process::remedy_if_stopped;
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

/// What to tell of a machine of which it cannot be found out how it is. Its guest may run all the same, and can be ended.
pub fn about_unreadable(name: &str, error: &anyhow::Error) -> String {
    let runs = run_dir(name).is_ok_and(|run_dir| run::guest_runs(&run_dir));
    let end = if runs { format!("; its guest runs: `vfio-run stop --force {name}` ends it") } else { String::new() };
    format!("{error:#}{end}")
}

/// Fails if a signal has stopped the machine's QEMU: whoever talks to it would wait in vain.
pub fn refuse_stopped_qemu(name: &str, run_dir: &Path) -> Result<()> {
    let records = Journal::read(run_dir).ok().flatten().unwrap_or_default();
    let qemu = journal::last_qemu(&records).map(|(pid, _)| pid);
    remedy_if_stopped(&format!("QEMU of {name}"), qemu).map_or(Ok(()), |remedy| bail!(remedy))
}

/// The names of what looks like machines of this user's and cannot be looked at: their folders are another user's.
pub fn closed() -> Vec<String> {
    let folder = host::run_dir();
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| is_closed(name)).collect()
}

/// Whether the folder of this machine cannot be looked at.
pub fn is_closed(name: &str) -> bool {
    let file = host::run_dir().join(name).join(run::Lock::FILE);
    crate::machine::is_name(name) && file.symlink_metadata().is_err_and(|e| e.kind() == ErrorKind::PermissionDenied)
}

/// The machines that have a run directory, in order of their names.
pub fn names() -> Result<Vec<String>> {
    let folder = host::run_dir();
    trusted::way(&folder)?;
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", folder.display())),
    };
    let names = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
    // Whatever else somebody put there is no machine's, and must not be touched as one.
    let is_machine = |name: &String| crate::machine::is_name(name) && run::is_run_dir(&folder.join(name));
    let mut names: Vec<String> = names.filter(is_machine).collect();
    names.sort();
    Ok(names)
}

/// The run directory of the machine of this name, which may not be there.
pub fn run_dir(name: &str) -> Result<PathBuf> {
    check_name(name)?;
    let folder = host::run_dir().join(name);
    trusted::way(&folder)?;
    if let (true, Ok(found)) = (is_closed(name), folder.symlink_metadata()) {
        let (shown, user) = (folder.display(), found.uid());
        bail!("{shown} cannot be read: it is user {user}'s, and only that user and root may look at the machine");
    }
    Ok(folder)
}

fn check_name(name: &str) -> Result<()> {
    if crate::machine::is_name(name) {
        return Ok(());
    }
    let message = format!("{name:?} is no machine's name; allowed: {}", crate::machine::name_rule());
    bail!(WrongArgument::new("NAME", message))
}

/// The log of the machine of this name.
pub fn log(name: &str) -> PathBuf {
    host::log_dir().join(format!("{name}.log"))
}

/// The name of the machine that is meant by a name or by its file. The file may have been changed or removed while the machine
/// runs: then it is the one that is called as the file is.
pub fn named(text: &str) -> Result<String> {
    let path = Path::new(text);
    let is_there = |name: &str| crate::machine::is_name(name) && run::is_run_dir(&host::run_dir().join(name));
    let is_file = text.ends_with(".ron");
    if text.contains('/') && !is_file {
        let message = format!("{text:?} is neither a machine's name nor its file, which ends in `.ron`");
        bail!(WrongArgument::new("NAME", message));
    }
    if !is_file || is_there(text) {
        return check_name(text).map(|()| text.to_owned());
    }
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let refused = match crate::machine::read(path) {
        Ok(source) => return Ok(source.machine.name),
        Err(refused) => refused,
    };
    // The name may stand in the file, or in its base.
    if let Some(name) = that_runs_from(path) {
        return Ok(name);
    }
    if is_there(stem) {
        return match file_of(stem) {
            Some(file) if !is_same(&file, path) => {
                bail!("{stem} runs from {}, not from {}", file.display(), path.display())
            }
            _ => Ok(stem.to_owned()),
        };
    }
    if matches!(path.try_exists(), Ok(false)) {
        bail!("there is no file {text}, and no machine of that name runs{}", others("", stem));
    }
    Err(refused.into())
}

/// The file that a machine with a run directory was started from.
fn file_of(name: &str) -> Option<PathBuf> {
    run::kept_plan(&host::run_dir().join(name)).ok()?.file
}

/// The machine with a run directory that was started from this file.
fn that_runs_from(path: &Path) -> Option<String> {
    names().ok()?.into_iter().find(|name| file_of(name).is_some_and(|file| is_same(&file, path)))
}

/// Whether both are the path of one file, which need not be there any more.
fn is_same(one: &Path, other: &Path) -> bool {
    let whole = |path: &Path| {
        let path = std::path::absolute(path).ok()?;
        Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?))
    };
    whole(one).is_some_and(|one| whole(other) == Some(one))
}

/// What is said of a machine that does not run: it was left behind, or perhaps it is misspelt, or another user's.
pub fn does_not_run(name: &str) -> String {
    let run_dir = host::run_dir().join(name);
    if crate::machine::is_name(name) && run::is_run_dir(&run_dir) && run::Lock::owner(&run_dir).is_none() {
        if let Err(error) = Journal::read(&run_dir) {
            return format!("{name} does not run, and what its last run left behind is not known: {error}");
        }
        return format!("{name} does not run: its launcher was killed; `vfio-run recover {name}` restores the host");
    }
    format!("{name} does not run{}", others(name, name))
}

/// Whether a machine of this name ran on this host, or failed to: then the name is no misspelt one.
fn is_known(name: &str) -> bool {
    let log = log(name);
    crate::machine::is_name(name) && (log.exists() || run::LastFailure::of(&log).is_some())
}

/// The name that was probably meant. One that has other digits is another machine's (win10, win11), and never meant.
fn meant<'a>(name: &str, there: &[&'a str]) -> Option<&'a str> {
    let without_digits = |name: &str| name.replace(|c: char| c.is_ascii_digit(), "").to_lowercase();
    nearest(name, there).filter(|near| without_digits(near) != without_digits(name))
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
    if is_known(name) {
        return String::new();
    }
    match meant(name, &others) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_other_digits_is_another_machine() {
        let there = ["win11", "server"];
        for (name, near) in [("wni11", Some("win11")), ("servr", Some("server")), ("win10", None), ("win1", None)] {
            assert_eq!(meant(name, &there), near, "{name}");
        }
    }

    #[test]
    fn what_is_neither_a_name_nor_a_machine_file_is_refused() {
        for text in ["a b", "a\nb", "a\u{1b}[2Jb", "", "./win11.raw", "/vm/win11", "../win11.qcow2"] {
            let error = named(text).unwrap_err();
            assert!(error.is::<WrongArgument>(), "{error}");
            let error = error.to_string();
            assert!(error.contains("machine's name"), "{error}");
            assert!(!error.contains(char::is_control), "{error:?}");
        }
        assert_eq!(named("win11").unwrap(), "win11");
    }

    #[test]
    fn a_file_that_cannot_be_looked_at_is_not_said_to_be_missing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let error = |path: &str| named(dir.path().join(path).to_str().unwrap()).unwrap_err().to_string();
        assert!(error("a.ron").contains("there is no file"), "{}", error("a.ron"));
        assert!(error("file/a.ron").contains("Not a directory"), "{}", error("file/a.ron"));
    }

    #[test]
    fn a_file_is_the_same_also_when_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::os::unix::fs::symlink(dir.path(), at("link")).unwrap();
        assert!(is_same(&at("a.ron"), &at("link/a.ron")));
        assert!(!is_same(&at("a.ron"), &at("b.ron")));
    }
}
