//! Holds: what ends by itself when a descriptor closes. QEMU inherits that descriptor, so a hold stands exactly as long as
//! the guest, also when the launcher dies, and needs no journal and no undo. The delay of a shutdown alone is the launcher's:
//! it stands until the host is restored.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Cgroup;
use super::Severity::{Hard, Soft};
use super::draft::{Draft, by_default};
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
    /// Whether the machine starts without it too, with a warning.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
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
    /// A shutdown of the host waits for the guest as long as logind lets it, and the launcher is told of it.
    DelayShutdown,
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
            Self::DelayShutdown => {
                f.write_str("if the host shuts down, the guest is asked to end first (logind inhibitor)")
            }
        }
    }
}

/// The holds of the machine, and whether the host lets us have them.
pub(super) fn decide(draft: &mut Draft, cgroup: &Cgroup) -> Vec<PlannedHold> {
    let wanted = &draft.machine.host;
    let mut holds = Vec::new();
    if let Some(microseconds) = wanted.cpu_latency_us {
        let field = "host.cpu_latency_us";
        check_node(draft, field);
        let origin = draft.file(field);
        holds.push(PlannedHold { hold: Hold::CpuLatency { microseconds }, origin, optional: false });
    }
    holds.extend(no_sleep(draft));
    holds.extend(delay_shutdown(draft, cgroup));
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

/// The host stays awake if the machine file says so, or if devices of it are the guest's.
fn no_sleep(draft: &mut Draft) -> Option<PlannedHold> {
    const KEY: &str = "hold.no_sleep";
    let field = "host.no_sleep";
    let (written, passes) = (draft.machine.host.no_sleep, !draft.machine.pci.is_empty());
    if !written.unwrap_or(passes) {
        return None;
    }
    let runs = draft.host.logind.as_ref().map(|logind| logind.runs);
    let severity = if written.is_some() { Hard } else { Soft };
    match runs {
        Some(true) => draft.yes(KEY, severity, "systemd-logind runs, which keeps the host from suspending"),
        Some(false) => {
            let detail = "systemd-logind, which keeps the host from suspending, does not run";
            match written {
                Some(_) => {
                    draft.no(KEY, severity, detail, "leave `host.no_sleep` out, or start systemd-logind");
                    draft.about(field);
                }
                None => {
                    let detail = format!("{detail}; the guest's devices may not survive a suspend of the host");
                    draft.no(
                        KEY,
                        severity,
                        detail,
                        "do not suspend the host while the guest runs, or start systemd-logind",
                    );
                }
            }
        }
        None if written.is_some() => draft.unknown(KEY, severity, "vfio-run did not look for systemd-logind"),
        None => {}
    }
    let origin = match written {
        Some(_) => draft.file(field),
        None => by_default("devices that are passed through may not survive a suspend of the host"),
    };
    let wanted = written.is_some() || runs == Some(true);
    wanted.then_some(PlannedHold { hold: Hold::NoSleep, origin, optional: written.is_none() })
}

/// A host that shuts down asks the guest first. Below a unit of our own systemd does that; elsewhere it ends what is in QEMU's
/// cgroup, and the session around the launcher, at once.
fn delay_shutdown(draft: &mut Draft, cgroup: &Cgroup) -> Option<PlannedHold> {
    const KEY: &str = "hold.shutdown";
    let logind = draft.host.logind.clone().filter(|logind| logind.runs)?;
    let limit = draft.machine.shutdown_timeout().as_secs();
    if matches!(cgroup, Cgroup::Made(_)) {
        return None;
    }
    let short = logind.delay.is_some_and(|delay| delay < limit);
    let held = match logind.delay {
        Some(delay) => format!("for {delay} s"),
        None => "for a time that vfio-run could not read".to_owned(),
    };
    let detail = format!(
        "a host that shuts down asks the guest first; {held} logind holds up all else (`InhibitDelayMaxSec=`), and the guest \
         has {limit} s"
    );
    let remedy = format!(
        "if the guest needs the host's network, sound or helpers to end, write `[Login]` and `InhibitDelayMaxSec={limit}` \
         into /etc/systemd/logind.conf.d/vfio-run.conf"
    );
    // In a session of its own user, the helpers get systemd's signal with everybody else.
    if short && *cgroup == Cgroup::Ours && !draft.helpers.is_empty() {
        let names: Vec<&str> = draft.helpers.iter().map(|helper| helper.name.as_str()).collect();
        let detail = format!("{detail}; what it needs ends before that: {}", names.join(", "));
        draft.no(KEY, Soft, detail, &remedy);
    } else {
        draft.yes(KEY, Soft, detail);
        if short {
            draft.remedy(&remedy);
        }
    }
    let origin = by_default("a guest whose host switches off should not lose its power");
    Some(PlannedHold { hold: Hold::DelayShutdown, origin, optional: true })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{FileFact, FileKind, Logind};
    use crate::plan::sample::{self, Shape};
    use crate::plan::{Plan, Verdict};

    const BOTH: &str = "host: (cpu_latency_us: 20, no_sleep: true)";

    fn plan(uid: u32, node: Option<FileFact>, logind: Option<Logind>, fields: &str) -> Plan {
        let mut host = sample::host(Shape::simple(4, 2));
        (host.process.uid, host.process.gid) = (uid, uid);
        host.files.insert(HostTuning::CPU_LATENCY_NODE.into(), node.unwrap_or_default());
        host.logind = logind;
        sample::plan(&format!("(guest: Linux, memory: (size: \"1 GiB\"), {fields})"), &host)
    }

    fn logind(runs: bool, delay: u64) -> Option<Logind> {
        Some(Logind { runs, delay: runs.then_some(delay) })
    }

    fn answer(plan: &Plan, key: &str) -> Option<Verdict> {
        Some(plan.findings.iter().find(|finding| finding.key == key)?.ok)
    }

    fn kinds(plan: &Plan) -> Vec<Hold> {
        plan.holds.iter().map(|planned| planned.hold).collect()
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
            let plan = plan(uid, fact.clone(), logind(true, 5), BOTH);
            assert_eq!(answer(&plan, "hold.cpu_latency"), Some(expected), "{uid} {fact:?}");
            assert_eq!(answer(&plan, "hold.no_sleep"), Some(Verdict::Yes));
            assert_eq!(kinds(&plan), [Hold::CpuLatency { microseconds: 20 }, Hold::NoSleep, Hold::DelayShutdown]);
        }
        let without = plan(0, None, logind(false, 0), BOTH);
        assert!(without.findings.iter().any(|finding| finding.key == "hold.no_sleep" && finding.blocks()));
        assert_eq!(answer(&plan(0, None, None, BOTH), "hold.no_sleep"), Some(Verdict::Unknown));
        let text = serde_json::to_value(&plan(0, None, logind(true, 5), BOTH).holds).unwrap();
        assert_eq!(text[0]["hold"], serde_json::json!({ "cpu_latency": { "microseconds": 20 } }));
        assert_eq!((&text[1]["hold"], &text[1]["optional"]), (&"no_sleep".into(), &serde_json::Value::Null));
        assert_eq!((&text[2]["hold"], &text[2]["optional"]), (&"delay_shutdown".into(), &true.into()));
    }

    #[test]
    fn a_host_whose_devices_are_the_guests_stays_awake_unless_the_file_says_no() {
        const GIVEN: &str = "pci: [\"01:00.*\"]";
        let awake = plan(0, None, logind(true, 5), GIVEN);
        assert!(kinds(&awake).contains(&Hold::NoSleep) && awake.holds[0].optional, "{:?}", awake.holds);
        let may_sleep = plan(0, None, logind(true, 5), &format!("{GIVEN}, host: (no_sleep: false)"));
        assert_eq!((kinds(&may_sleep).contains(&Hold::NoSleep), answer(&may_sleep, "hold.no_sleep")), (false, None));
        let nobody = plan(0, None, logind(false, 0), GIVEN);
        let finding = nobody.findings.iter().find(|finding| finding.key == "hold.no_sleep").unwrap();
        assert!(finding.ok == Verdict::No && !finding.blocks() && nobody.holds.is_empty(), "{finding:?}");
        assert_eq!(kinds(&plan(0, None, logind(true, 5), "networks: []")), [Hold::DelayShutdown]);
    }

    #[test]
    fn the_time_that_logind_gives_is_told_beside_the_guests() {
        let finding = |logind, fields: &str| {
            let plan = plan(1000, None, logind, fields);
            let finding = plan.findings.iter().find(|finding| finding.key == "hold.shutdown").cloned();
            finding.map(|finding| (finding.ok, finding.remedy.unwrap_or_default()))
        };
        let (ok, remedy) = finding(logind(true, 5), "networks: []").unwrap();
        assert!(ok == Verdict::Yes && remedy.contains("`InhibitDelayMaxSec=90`"), "{remedy}");
        let (ok, remedy) = finding(logind(true, 90), "networks: []").unwrap();
        assert_eq!((ok, remedy.as_str()), (Verdict::Yes, ""));
        let (ok, remedy) = finding(logind(true, 30), "tpm: V2(), shutdown_timeout: 60").unwrap();
        assert!(ok == Verdict::No && remedy.contains("`InhibitDelayMaxSec=60`"), "{remedy}");
        assert_eq!(finding(logind(false, 0), "networks: []"), None);
    }
}
