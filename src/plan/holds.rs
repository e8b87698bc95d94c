//! Holds: what the kernel itself ends when a descriptor closes. QEMU inherits that descriptor, so a hold stands exactly as
//! long as the guest, also when the launcher dies, and needs no journal and no undo.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Severity::Hard;
use super::draft::Draft;
use super::process::permission::may_open;
use crate::machine::HostTuning;
use crate::units::Origin;

/// A hold with the reason that it is in the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedHold {
    /// What is held.
    pub hold: Hold,
    /// Why.
    pub origin: Origin,
}

/// What is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// The host's CPUs wake from idle within a time (the kernel's `Documentation/power/pm_qos_interface.rst`).
    CpuLatency {
        /// That time.
        microseconds: u32,
    },
    /// The host does not suspend or hibernate (org.freedesktop.login1(5), `Inhibit`).
    NoSleep,
}

impl Hold {
    /// The device node of [`Hold::CpuLatency`].
    pub const CPU_LATENCY_NODE: &str = HostTuning::CPU_LATENCY_NODE;
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CpuLatency { microseconds } => {
                write!(f, "the host's CPUs wake from idle within {microseconds} µs ({})", Self::CPU_LATENCY_NODE)
            }
            Self::NoSleep => f.write_str("the host does not suspend or hibernate (logind inhibitor)"),
        }
    }
}

/// The holds of the machine, and whether the host lets us have them.
pub(super) fn decide(draft: &mut Draft) -> Vec<PlannedHold> {
    let wanted = &draft.machine.host;
    let mut holds = Vec::new();
    if let Some(microseconds) = wanted.cpu_latency_us {
        let field = "host.cpu_latency_us";
        check_node(draft, field);
        holds.push(PlannedHold { hold: Hold::CpuLatency { microseconds }, origin: draft.file(field) });
    }
    if wanted.no_sleep {
        let field = "host.no_sleep";
        check_logind(draft, field);
        holds.push(PlannedHold { hold: Hold::NoSleep, origin: draft.file(field) });
    }
    holds
}

fn check_node(draft: &mut Draft, field: &str) {
    const KEY: &str = "hold.cpu_latency";
    let node = Hold::CPU_LATENCY_NODE;
    let Some(file) = draft.host.files.get(Path::new(node)).cloned() else {
        return draft.unknown(KEY, Hard, format!("vfio-run did not look for {node}"));
    };
    match file.kind.map(|_| may_open(&file, &draft.host.process)) {
        None => draft.no(KEY, Hard, format!("this host has no {node}"), "leave `host.cpu_latency_us` out"),
        Some(Some(true)) => return draft.yes(KEY, Hard, format!("{node} is there")),
        Some(None) => {
            return draft.unknown(KEY, Hard, format!("whether you can open {node} depends on your groups"));
        }
        Some(Some(false)) => {
            let detail = format!("you cannot open {node} (owner {}, group {})", file.uid, file.gid);
            draft.no(KEY, Hard, detail, "start as root, or give your account access to it with a udev rule");
        }
    }
    draft.about(field);
}

fn check_logind(draft: &mut Draft, field: &str) {
    const KEY: &str = "hold.no_sleep";
    let Some(folder) = draft.host.files.get(Path::new(HostTuning::LOGIND_FOLDER)) else {
        return draft.unknown(KEY, Hard, "vfio-run did not look for systemd-logind");
    };
    if folder.kind.is_some() {
        return draft.yes(KEY, Hard, "systemd-logind runs, which keeps the host from suspending");
    }
    let detail = "systemd-logind, which keeps the host from suspending, does not run";
    draft.no(KEY, Hard, detail, "leave `host.no_sleep` out, or start systemd-logind");
    draft.about(field);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{FileFact, FileKind};
    use crate::plan::sample::{self, Shape};
    use crate::plan::{Plan, Verdict};

    fn plan(uid: u32, node: Option<FileFact>, logind: bool) -> Plan {
        let mut host = sample::host(Shape::simple(4, 2));
        (host.process.uid, host.process.gid) = (uid, uid);
        host.files.insert(HostTuning::CPU_LATENCY_NODE.into(), node.unwrap_or_default());
        let kind = logind.then_some(FileKind::Other);
        host.files.insert(HostTuning::LOGIND_FOLDER.into(), FileFact { kind, ..FileFact::default() });
        sample::plan("(guest: Linux, memory: (size: \"1 GiB\"), host: (cpu_latency_us: 20, no_sleep: true))", &host)
    }

    fn answer(plan: &Plan, key: &str) -> Verdict {
        plan.findings.iter().find(|finding| finding.key == key).unwrap().ok
    }

    #[test]
    fn a_hold_that_the_host_does_not_give_forbids_the_start() {
        let node = |mode, gid| FileFact { kind: Some(FileKind::Character), mode, gid, ..FileFact::default() };
        for (uid, fact, expected) in [
            (0, Some(node(0o600, 0)), Verdict::Yes),
            (1000, Some(node(0o600, 0)), Verdict::No),
            (1000, Some(node(0o660, 44)), Verdict::Unknown),
            (1000, Some(node(0o666, 0)), Verdict::Yes),
            (0, None, Verdict::No),
        ] {
            let plan = plan(uid, fact.clone(), true);
            assert_eq!(answer(&plan, "hold.cpu_latency"), expected, "{uid} {fact:?}");
            assert_eq!(answer(&plan, "hold.no_sleep"), Verdict::Yes);
            assert_eq!(plan.holds.len(), 2);
        }
        assert_eq!(answer(&plan(0, None, false), "hold.no_sleep"), Verdict::No);
        let text = serde_json::to_value(&plan(0, None, true).holds).unwrap();
        assert_eq!(text[0]["hold"], serde_json::json!({ "cpu_latency": { "microseconds": 20 } }));
        assert_eq!(text[1]["hold"], "no_sleep");
    }
}
