//! How a machine is: what its launcher, its journal, its plan and the kernel tell.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::commands::shared::guest_agent::{self, Interface};
use crate::commands::shared::machines::{log, run_dir, state_without_answer};
use crate::commands::shared::{outcome::block_on, planned};
use crate::host::activity::{Activity, MemoryUse, Seen, Since, SinceInterrupt, SinceThread};
use crate::host::neighbours;
use crate::journal::{Journal, last_qemu, open_changes};
use crate::plan::{Plan, Reach};
use crate::qemu::command::OptionValue;
use crate::report;
use crate::run::control::{Answer, ask_status};
use crate::run::process::remedy_if_stopped;
use crate::run::{self, LastFailure};
use crate::units::{CGROUPS, CpuSet, machine_state};

/// How long the guest's agent may take to tell the addresses, and QEMU, whether there is one.
const AGENT_LIMIT: Duration = Duration::from_secs(1);

/// One machine that runs, was left behind, or failed to start.
#[derive(Debug, Serialize)]
pub struct Status {
    pub name: String,
    /// One of [`machine_state::ALL`], or a run state of QEMU's own that is not among them.
    pub state: String,
    pub launcher: Option<i32>,
    pub qemu: Option<i32>,
    /// Changes to the host that stand.
    pub changes: Vec<String>,
    /// What the user should do, if anything.
    pub remedy: Option<String>,
    /// How the guest is reached, if it runs.
    pub reach: Option<Reach>,
    /// The guest's addresses: those that the host gives it or has spoken to and, of a machine that was asked for by name, those
    /// that its agent tells.
    pub addresses: Vec<String>,
    /// What happens on the guest's CPUs, if this machine was asked for by name and its guest runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activity: Option<Details>,
    /// Why its last start failed, until one succeeds.
    pub last_failure: Option<LastFailure>,
}

/// What happens on the guest's CPUs.
#[derive(Debug, Serialize)]
pub struct Details {
    #[serde(flatten)]
    happened: Happened,
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

/// What has happened up to now.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Happened {
    /// Since the guest's first second.
    Since(Since),
    /// Before a look then: what its threads did since they were made, and of all else nothing.
    NotYet(NotYet),
}

/// The fields of [`Since`], of which only the threads are known.
#[derive(Debug, Default, Serialize)]
struct NotYet {
    threads: Vec<SinceThread>,
    seconds: Option<f64>,
    foreign: Option<Vec<Seen>>,
    interrupts: Option<Vec<SinceInterrupt>>,
    memory_stall_ms: Option<f64>,
}

impl Happened {
    fn of(first: Option<&Activity>, now: &Activity) -> Self {
        match first {
            Some(first) => Self::Since(now.since(first)),
            None => {
                let threads = now.since(&Activity::default()).threads;
                Self::NotYet(NotYet { threads, ..NotYet::default() })
            }
        }
    }

    fn text(&self, width: usize) -> String {
        match self {
            Self::Since(since) => report::activity(since, width),
            Self::NotYet(NotYet { threads, .. }) => report::activity_before_first_look(threads, width),
        }
    }
}

impl Details {
    fn read(run_dir: &Path, plan: Option<&Plan>, qemu: i32) -> Self {
        let root = planned::root();
        let first = run::first_look(run_dir);
        // Without a first look nobody knows what came before the guest.
        let guest = first.as_ref().and_then(|_| plan?.placement.guest_cpus());
        let now = Activity::read(&root, qemu, guest.as_ref());
        let (cgroup, of_group) = now.cgroup(&root, qemu);
        // Where the partition is a whole slice, the group's own file says nothing of it.
        let made = plan.and_then(|plan| plan.isolation.as_ref()?.partition());
        let partition = made.and_then(|group| root.text(group.join("cpuset.cpus.partition"))).or(of_group);
        let units = plan.and_then(|plan| plan.isolation.as_ref()?.of_slices());
        let has = |unit: &String| Some((unit.clone(), root.list(format!("{CGROUPS}/{unit}/cpuset.cpus.effective"))?));
        let slices = units.map(|units| units.iter().filter_map(has).collect());
        let memory = MemoryUse::read(&root, qemu);
        Self { happened: Happened::of(first.as_ref(), &now), memory, cgroup, partition, slices }
    }

    /// For people, who read in so many columns.
    pub fn text(&self, width: usize) -> String {
        let mut text = format!("{}\n{}", self.happened.text(width), report::memory_use(&self.memory, width));
        let mut add = |line: &str| text.push_str(&format!("\n{}", report::each_within(width, line)));
        if let Some(cgroup) = &self.cgroup {
            let partition = self.partition.as_deref().unwrap_or("no cpuset of its own");
            add(&format!("cgroup of the vCPUs: {cgroup} ({partition})"));
        }
        for (unit, cpus) in self.slices.iter().flatten() {
            add(&format!("{unit} of the host: {}", cpus.numbered()));
        }
        text
    }
}

impl Status {
    /// A machine of which nothing is known but this, and why its last start failed.
    pub fn new(name: &str, state: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: state.to_owned(),
            launcher: None,
            qemu: None,
            changes: Vec::new(),
            remedy: None,
            reach: None,
            addresses: Vec::new(),
            activity: None,
            last_failure: LastFailure::of(&log(name)),
        }
    }

    /// Whether there is anything of it but the memory of a failure.
    pub fn is_there(&self) -> bool {
        self.state != machine_state::FAILED
    }
}

/// How the machine of this name is; `None` if nothing is there. `closely`: also what takes a moment to find out.
pub fn look(name: &str, closely: bool) -> Result<Option<Status>> {
    let run_dir = run_dir(name)?;
    let Some(records) = Journal::read(&run_dir)? else { return Ok(None) };
    let changes = open_changes(&records).iter().map(|o| o.change.to_string()).collect();
    let qemu = last_qemu(&records).map(|(pid, _)| pid);
    let mut status = Status { qemu, changes, ..Status::new(name, "") };
    if let Some(owner) = run::Lock::owner(&run_dir) {
        status.launcher = owner.pid;
        let stopped = remedy_if_stopped("its launcher", owner.pid);
        // One that was stopped would be waited for in vain.
        let answer = if stopped.is_some() { Answer::Silent } else { ask_status(&run_dir) };
        match answer {
            Answer::Of(reply) => {
                status.state = reply.state;
                status.launcher = Some(reply.launcher);
                status.qemu = Some(reply.qemu);
            }
            Answer::NotThere => status.state = state_without_answer(&run_dir, &records).to_owned(),
            Answer::Silent => {
                status.state = machine_state::SILENT.to_owned();
                status.remedy = Some("its launcher does not answer: it is busy, so ask again in a moment".to_owned());
            }
        }
        if let Some(remedy) = stopped.or_else(|| remedy_if_stopped("QEMU", status.qemu)) {
            status.state = machine_state::SILENT.to_owned();
            status.remedy = Some(remedy);
        }
    } else if run::guest_runs(&run_dir) {
        status.state = machine_state::UNSUPERVISED.to_owned();
        status.remedy = Some(format!("its launcher was killed; `vfio-run recover --adopt {name}` supervises it again"));
    } else {
        status.state = machine_state::LEFT_BEHIND.to_owned();
        status.qemu = None;
        status.remedy = Some(format!("its launcher was killed; `vfio-run recover {name}` restores the host"));
    }
    if status.qemu.is_some() && run::guest_runs(&run_dir) {
        // A plan of another version may not be readable.
        let plan = run::kept_plan(&run_dir).ok();
        if let Some(plan) = &plan {
            let unsupervised = status.state == machine_state::UNSUPERVISED;
            let reach = if unsupervised { Reach::without_launcher(plan) } else { Reach::of(plan) };
            let asks = closely && status.state == machine_state::RUNNING;
            let asked = async { tokio::time::timeout(AGENT_LIMIT, guest_agent::look(name)).await? };
            let told = asks.then(|| block_on(asked));
            let (interfaces, frozen) = told.and_then(Result::ok).unwrap_or_default();
            if frozen {
                let remedy = format!("the guest's file systems are {}", guest_agent::until_thaw(name));
                status.remedy.get_or_insert(remedy);
            }
            status.addresses = addresses(plan, &reach, &interfaces);
            status.reach = Some(reach);
        }
        status.activity = status.qemu.filter(|_| closely).map(|qemu| Details::read(&run_dir, plan.as_ref(), qemu));
    }
    Ok(Some(status))
}

/// The guest's addresses, each once. Those that its agent tells come first: it knows them all.
fn addresses(plan: &Plan, reach: &Reach, interfaces: &[Interface]) -> Vec<String> {
    let others = |address: &String| !address.starts_with("127.") && !address.starts_with("::1");
    let plain = interfaces.iter().flat_map(|interface| &interface.addresses).filter_map(|a| a.split('/').next());
    let mut all: Vec<String> = plain.map(str::to_owned).filter(others).collect();
    let mac = |value: &OptionValue| match value {
        OptionValue::Json(object) => object.get("mac")?.as_str().map(str::to_owned),
        _ => None,
    };
    let macs = plan.command.options.iter().filter_map(|option| mac(&option.value));
    let seen = macs.flat_map(|mac| neighbours::addresses(&planned::root(), &mac));
    for address in seen.chain(reach.addresses.iter().copied()).map(|address| address.to_string()) {
        if !all.contains(&address) {
            all.push(address);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_has_looked_at_yet_is_null() {
        let now = Activity { uptime_ms: 90_000, ..Activity::default() };
        let told = |first| serde_json::to_value(Happened::of(first, &now)).unwrap();
        let null = serde_json::Value::Null;
        let before = told(None);
        assert_eq!((&before["seconds"], &before["foreign"], &before["interrupts"]), (&null, &null, &null));
        let first = Activity { uptime_ms: 88_000, ..Activity::default() };
        let since = told(Some(&first));
        assert_eq!((&since["seconds"], &since["foreign"]), (&2.0.into(), &serde_json::json!([])));
        let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let sorted = |mut keys: Vec<String>| {
            keys.sort();
            keys
        };
        assert_eq!(sorted(keys(&before)), sorted(keys(&since)));
    }
}
