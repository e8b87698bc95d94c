//! `vfio-run status [NAME]`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use super::shared::machines::{does_not_run, names, run_dir, state_without_answer};
use crate::cli::{OutputArgs, StatusArgs};
use crate::host::activity::{Activity, MemoryUse, Since};
use crate::host::{self, Root};
use crate::journal::{Journal, Record, open_changes};
use crate::report::{self, Table};
use crate::run::control::{Request, ask};
use crate::run::{self, LastFailure};
use crate::units::{CGROUPS, CpuSet, exit, machine_state};

/// One machine that runs, was left behind, or failed to start.
#[derive(Debug, Serialize)]
struct Status {
    name: String,
    /// One of [`machine_state::ALL`], or a run state of QEMU's own that is not among them.
    state: String,
    launcher: Option<i32>,
    qemu: Option<i32>,
    /// Changes to the host that stand.
    changes: Vec<String>,
    /// What the user should do, if anything.
    remedy: Option<String>,
    /// What happens on the guest's CPUs, if this machine was asked for by name and its guest runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    activity: Option<Details>,
    /// Why its last start failed, until one succeeds.
    last_failure: Option<LastFailure>,
}

/// What happens on the guest's CPUs.
#[derive(Debug, Serialize)]
struct Details {
    /// Since the guest's first second; without a look then, since its threads were made.
    #[serde(flatten)]
    since: Since,
    /// What its memory lies on.
    memory: MemoryUse,
    /// The cgroup of its first vCPU.
    cgroup: Option<String>,
    /// What that group says of its CPUs (`cpuset.cpus.partition`): `isolated`, `root invalid (…)`; `member` for none of its own.
    partition: Option<String>,
    /// The CPUs of the host's slices that leave the vCPUs' CPUs, if that is how these are the guest's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    slices: Option<BTreeMap<String, CpuSet>>,
}

impl Details {
    fn read(run_dir: &Path, qemu: i32) -> Self {
        let root = Root::new("/");
        let first = run::first_look(run_dir);
        // Without a first look nobody knows what came before the guest.
        let plan = run::kept_plan(run_dir).ok();
        let guest = first.as_ref().and_then(|_| plan.as_ref()?.placement.guest_cpus());
        let now = Activity::read(&root, qemu, guest.as_ref());
        let (cgroup, of_group) = now.cgroup(&root, qemu);
        // Where the partition is a whole slice, the group's own file says nothing of it.
        let made = plan.as_ref().and_then(|plan| plan.isolation.as_ref()?.partition());
        let partition = made.and_then(|group| root.text(group.join("cpuset.cpus.partition"))).or(of_group);
        let units = plan.as_ref().and_then(|plan| plan.isolation.as_ref()?.of_slices());
        let has = |unit: &String| Some((unit.clone(), root.list(format!("{CGROUPS}/{unit}/cpuset.cpus.effective"))?));
        let slices = units.map(|units| units.iter().filter_map(has).collect());
        let memory = MemoryUse::read(&root, qemu);
        Self { since: now.since(&first.unwrap_or_default()), memory, cgroup, partition, slices }
    }

    fn text(&self) -> String {
        let mut text = format!("{}\n{}", report::activity(&self.since), report::memory_use(&self.memory));
        if let Some(cgroup) = &self.cgroup {
            let partition = self.partition.as_deref().unwrap_or("no cpuset of its own");
            text.push_str(&format!("\ncgroup of the vCPUs: {cgroup} ({partition})"));
        }
        for (unit, cpus) in self.slices.iter().flatten() {
            text.push_str(&format!("\n{unit} of the host: {}", cpus.numbered()));
        }
        text
    }
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
            activity: None,
            last_failure: LastFailure::of(&host::log_dir().join(format!("{name}.log"))),
        }
    }

    /// Whether there is anything of it but the memory of a failure.
    fn is_there(&self) -> bool {
        self.state != machine_state::FAILED
    }
}

/// Shows the machines that run, or were left behind, and first of all which failed to start. Ends with 1 if a machine
/// was named and is not there.
pub fn status(args: &StatusArgs, output: OutputArgs) -> Result<u8> {
    if args.names {
        names()?.iter().for_each(|name| report::say(name));
        return Ok(exit::OK);
    }
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
        let unreadable = |error: anyhow::Error| Status {
            remedy: Some(format!("{error:#}")),
            ..Status::new(name, machine_state::UNREADABLE)
        };
        let found = look(name, args.name.is_some()).unwrap_or_else(|error| Some(unreadable(error)));
        all.extend(
            found.or_else(|| {
                Some(Status::new(name, machine_state::FAILED)).filter(|status| status.last_failure.is_some())
            }),
        );
    }
    let there = all.iter().any(Status::is_there);
    if output.json {
        report::json(&all)?;
    } else {
        for status in &all {
            if let Some(failure) = &status.last_failure {
                report::say(&failure.describe(&status.name));
            }
        }
        all.retain(Status::is_there);
        if there {
            report::say(&render(&all));
        } else {
            let no_name = || "no machine runs".to_owned();
            report::say(&args.name.as_ref().map_or_else(no_name, |name| does_not_run(name)));
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
        if let Some(activity) = &s.activity {
            text.push_str(&format!("\n\n{}", activity.text()));
        }
        if let Some(remedy) = &s.remedy {
            text.push_str(&format!("\n{}: → {remedy}", s.name));
        }
    }
    text
}

fn look(name: &str, closely: bool) -> Result<Option<Status>> {
    let run_dir = run_dir(name)?;
    let Some(records) = Journal::read(&run_dir)? else { return Ok(None) };
    let changes = open_changes(&records).iter().map(|o| o.change.to_string()).collect();
    let qemu = records.iter().rev().find_map(|r| match r {
        Record::Started { name, pid, .. } if name == "qemu" => Some(*pid),
        _ => None,
    });
    let mut status = Status { qemu, changes, ..Status::new(name, "") };
    if let Some(owner) = run::Lock::owner(&run_dir) {
        match ask(&run_dir, &Request::Status) {
            Ok(Some(reply)) => {
                status.state = reply.state;
                status.launcher = Some(reply.launcher);
                status.qemu = Some(reply.qemu);
            }
            Ok(None) | Err(_) => {
                status.state = state_without_answer(&run_dir, &records).to_owned();
                status.launcher = owner.pid;
            }
        }
    } else if run::guest_runs(&run_dir) {
        status.state = machine_state::UNSUPERVISED.to_owned();
        status.remedy = Some(format!("its launcher was killed; `vfio-run recover --adopt {name}` supervises it again"));
    } else {
        status.state = machine_state::LEFT_BEHIND.to_owned();
        status.qemu = None;
        status.remedy = Some(format!("its launcher was killed; `vfio-run recover {name}` restores the host"));
    }
    status.activity =
        status.qemu.filter(|_| closely && run::guest_runs(&run_dir)).map(|qemu| Details::read(&run_dir, qemu));
    Ok(Some(status))
}
