//! `vfio-run status [NAME]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use super::exit;
use crate::cli::{NameArgs, OutputArgs};
use crate::host;
use crate::journal::{Journal, Record, open_changes};
use crate::plan::Plan;
use crate::report::{self, Table};
use crate::run::control::{Request, ask};
use crate::run::{self, LastFailure, PLAN_FILE};

/// One machine that runs, was left behind, or failed to start.
#[derive(Debug, Serialize)]
struct Status {
    name: String,
    /// `running`, `paused`, `stopping`, `starting`, `ending`, `rehearsing`, `unsupervised`, `left-behind`, `unreadable`, or
    /// `failed`: it does not run, and its last start failed.
    state: String,
    launcher: Option<i32>,
    qemu: Option<i32>,
    /// Changes to the host that stand.
    changes: Vec<String>,
    /// What to do, where something should be done.
    remedy: Option<String>,
    /// Why its last start failed, until one succeeds.
    last_failure: Option<LastFailure>,
}

impl Status {
    fn new(name: &str, state: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: state.to_owned(),
            launcher: None,
            qemu: None,
            changes: Vec::new(),
            remedy: None,
            last_failure: LastFailure::of(&host::log_dir().join(format!("{name}.log"))),
        }
    }

    /// Whether there is anything of it but the memory of a failure.
    fn is_there(&self) -> bool {
        self.state != FAILED
    }
}

const FAILED: &str = "failed";
/// Its guest has ended, and the host is being put back.
pub const ENDING: &str = "ending";

/// Shows the machines that run, or were left behind, and first of all which failed to start. Ends with 1 where a machine
/// was named and is not there.
pub fn status(args: &NameArgs, output: OutputArgs) -> Result<u8> {
    let names = match &args.name {
        Some(name) => vec![name.clone()],
        None => {
            let mut names = names()?;
            names.extend(LastFailure::names(&host::log_dir()));
            names.sort();
            names.dedup();
            names
        }
    };
    let mut all = Vec::new();
    for name in &names {
        // One journal that cannot be read must not hide the other machines.
        let unreadable =
            |error: anyhow::Error| Status { remedy: Some(format!("{error:#}")), ..Status::new(name, "unreadable") };
        let found = look(name).unwrap_or_else(|error| Some(unreadable(error)));
        all.extend(found.or_else(|| Some(Status::new(name, FAILED)).filter(|status| status.last_failure.is_some())));
    }
    let there = all.iter().any(Status::is_there);
    if output.json {
        report::json(&all)?;
    } else {
        for status in &all {
            if let Some(failure) = &status.last_failure {
                report::say(&failure.tell(&status.name));
            }
        }
        all.retain(Status::is_there);
        if there {
            report::say(&render(&all));
        } else {
            let nobody = || "no machine runs".to_owned();
            report::say(&args.name.as_ref().map_or_else(nobody, |name| format!("{name} does not run")));
        }
    }
    Ok(if args.name.is_some() && !there { exit::NOT_STARTED } else { exit::OK })
}

fn render(all: &[Status]) -> String {
    let number = |n: Option<i32>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let mut table = Table::new(&["NAME", "STATE", "LAUNCHER", "QEMU", "HOST CHANGES"]);
    for s in all {
        let cells = [s.name.clone(), s.state.clone(), number(s.launcher), number(s.qemu), s.changes.len().to_string()];
        table.row(cells);
    }
    let mut text = table.to_string();
    for s in all {
        for line in s.changes.iter().map(|c| format!("\n{}: {c}", s.name)) {
            text.push_str(&line);
        }
        if let Some(remedy) = &s.remedy {
            text.push_str(&format!("\n{}: → {remedy}", s.name));
        }
    }
    text
}

fn look(name: &str) -> Result<Option<Status>> {
    let run_dir = run_dir(name)?;
    let Some(records) = Journal::read(&run_dir)? else { return Ok(None) };
    let changes = open_changes(&records).iter().map(|o| o.change.to_string()).collect();
    let qemu = records.iter().rev().find_map(|r| match r {
        Record::Started { name, pid, .. } if name == "qemu" => Some(*pid),
        _ => None,
    });
    let mut status = Status { qemu, changes, ..Status::new(name, "") };
    if let Some(owner) = run::Lock::owner(&run_dir) {
        match ask(&run_dir, Request::Status) {
            Ok(Some(reply)) => {
                status.state = reply.state;
                status.launcher = Some(reply.launcher);
                status.qemu = Some(reply.qemu);
            }
            Ok(None) | Err(_) => {
                status.state = unattended(&run_dir, &records).to_owned();
                status.launcher = owner.pid;
            }
        }
    } else if run::sockets::guest_lives(&run_dir) {
        status.state = "unsupervised".to_owned();
        status.remedy = Some(format!("its launcher was killed; `vfio-run recover --adopt {name}` supervises it again"));
    } else {
        status.state = "left-behind".to_owned();
        status.qemu = None;
        status.remedy = Some(format!("its launcher was killed; `vfio-run recover {name}` puts the host back"));
    }
    Ok(Some(status))
}

/// What a launcher does that cannot be asked. Before the guest runs, or is taken over, there is no control socket yet, and
/// after it none any more.
pub fn unattended(run_dir: &Path, records: &[Record]) -> &'static str {
    let ran = records.contains(&Record::Running) && !run::sockets::guest_lives(run_dir);
    match ran {
        _ if records.contains(&Record::Rehearsal) => "rehearsing",
        true => ENDING,
        false => "starting",
    }
}

/// The machines that have a run directory, in order of their names.
pub fn names() -> Result<Vec<String>> {
    let folder = host::run_dir();
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
    Ok(host::run_dir().join(name))
}

/// How long the machine's guest may take to power off, and the hooks after it.
pub fn shutdown_limit(run_dir: &Path) -> Duration {
    let plan = std::fs::read(run_dir.join(PLAN_FILE)).ok().and_then(|t| serde_json::from_slice::<Plan>(&t).ok());
    // The launcher also waits for the hooks that come after the guest.
    Duration::from_secs(plan.map_or(90, |p| u64::from(p.hooks_limit(false)) + u64::from(p.shutdown_timeout)))
}
