//! Groups of processes that stand still while the guest runs, and those that must not.

use std::path::Path;

use super::Severity::{Hard, Soft};
use super::draft::Draft;
use super::{Cgroup, Inherited, PlannedChange};
use crate::change::{Change, Freeze, StopUnit, StopUserUnit};
use crate::host::Group;
use crate::units::CGROUPS;

/// Units that everything else waits for sooner or later, this program too: it asks systemd and logind over D-Bus, udev
/// answers when a device changes its driver, and who writes to a journal that stands still waits.
const NEEDED: [&str; 9] = [
    "init.scope",
    "dbus.service",
    "dbus-broker.service",
    "systemd-logind.service",
    "systemd-journald.service",
    "systemd-udevd.service",
    "elogind.service",
    "seatd.service",
    "polkit.service",
];
/// Sound servers of a user, by what is in the names of their units.
const SOUND: [&str; 3] = ["pipewire", "pulse", "wireplumber"];

/// Adds the changes. They come before the first that takes a device from the host, so that one that fails does not cost
/// the screen; all that is stopped and all that the guest needs must be decided already.
pub(super) fn decide(draft: &mut Draft, cgroup: &Cgroup) {
    let takes = |planned: &PlannedChange| planned.change.nature().takes_from_host();
    let mut place = draft.changes.iter().position(takes).unwrap_or(draft.changes.len());
    let mut frozen: Vec<&Path> = Vec::new();
    for (index, name) in draft.machine.host.quiet.iter().enumerate() {
        let field = format!("host.quiet[{index}]");
        let Some(group) = draft.host.groups.get(name) else {
            draft.unknown("host.quiet", Hard, format!("vfio-run did not look for the group {name}"));
            draft.about(&field);
            continue;
        };
        let Some(group) = group else {
            let detail = format!("no group of processes is called {name} now, so nothing of it is frozen");
            let remedy =
                "`systemd-cgls` shows their names; a unit that does not run has none. Correct it, or take it out";
            draft.no("host.quiet", Soft, detail, remedy);
            draft.about(&field);
            continue;
        };
        let problem = match draft.host.process.uid {
            0 => obstacle(draft, cgroup, group),
            _ => {
                Some(("only root can freeze groups of the host".to_owned(), "start as root, or leave `host.quiet` out"))
            }
        };
        if let Some((detail, remedy)) = problem {
            draft.no("host.quiet", Hard, format!("{name} cannot be frozen: {detail}"), remedy);
            draft.about(&field);
            continue;
        }
        // One that stands still already stays so; with a group, all below it stand still.
        if group.frozen || frozen.iter().any(|other| group.path.starts_with(other)) {
            draft.yes("host.quiet", Soft, format!("{name} stands still already"));
            continue;
        }
        draft.yes("host.quiet", Soft, format!("{name} stands still while the guest runs"));
        frozen.push(&group.path);
        let change = Freeze { group: group.path.clone() }.into();
        draft.changes.insert(place, PlannedChange { change, origin: draft.file(&field), optional: false });
        place += 1;
    }
}

/// Why a group must not stand still, and what to do about it.
fn obstacle(draft: &Draft, cgroup: &Cgroup, group: &Group) -> Option<(String, &'static str)> {
    let smaller = "name a smaller group, or take it out";
    let has = |unit: &str| group.units.iter().any(|other| other == unit);
    if group.path == Path::new(CGROUPS) {
        return Some(("that is the whole host".to_owned(), smaller));
    }
    let own = draft.host.process.cgroup.iter().map(|own| Path::new(CGROUPS).join(own.trim_start_matches('/')));
    if own.chain(cgroup.folder()).any(|needed| needed.starts_with(&group.path)) {
        return Some(("vfio-run or its guest is in it".to_owned(), smaller));
    }
    if let Some(unit) = NEEDED.into_iter().find(|unit| has(unit)) {
        return Some((format!("{unit} is in it, which the host cannot do without"), smaller));
    }
    let stopped = draft.changes.iter().find_map(|planned| match &planned.change {
        Change::StopUnit(StopUnit { unit }) | Change::StopUserUnit(StopUserUnit { unit, .. }) => {
            has(unit).then(|| format!("vfio-run stops {unit} in it, and what stands still cannot end"))
        }
        _ => None,
    });
    if let Some(why) = stopped {
        return Some((why, smaller));
    }
    let functions = draft.host.pci.iter().flat_map(|pci| pci.functions.iter().filter_map(|f| f.details.as_ref()));
    if let Some(holder) = functions.flat_map(|details| &details.holders).find(|h| h.unit.as_deref().is_some_and(has)) {
        return Some((format!("{holder} is in it, which uses a device of the guest's"), smaller));
    }
    let plays = draft.descriptors.iter().any(|descriptor| matches!(descriptor.what, Inherited::SoundServer { .. }));
    let sound = group.units.iter().find(|unit| SOUND.iter().any(|name| unit.contains(name)));
    if let Some(unit) = sound.filter(|_| plays) {
        return Some((format!("{unit} is in it, which plays the guest's sound"), smaller));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;
    use crate::plan::sample::{Shape, host, plan};
    use crate::plan::{Plan, Verdict};

    fn with(groups: &[(&str, &str, &[&str])]) -> Host {
        let mut host = host(Shape::simple(4, 1));
        host.process.uid = 0;
        host.process.cgroup = Some("/user.slice/user-0.slice/session-1.scope".to_owned());
        for (name, path, units) in groups {
            let units = units.iter().map(|unit| (*unit).to_owned()).collect();
            let group = Group { path: Path::new(CGROUPS).join(path), units, frozen: false };
            host.groups.insert((*name).to_owned(), Some(group));
        }
        host
    }

    fn planned(names: &str, host: &Host) -> Plan {
        plan(&format!("(guest: Other, memory: (size: \"1 GiB\"), host: (quiet: [{names}]))"), host)
    }

    fn frozen(plan: &Plan) -> Vec<String> {
        let changes = plan.changes.iter().map(|planned| planned.change.to_string());
        changes.filter(|change| change.starts_with("freeze")).collect()
    }

    fn said(plan: &Plan) -> Vec<(Verdict, bool, &str)> {
        let findings = plan.findings.iter().filter(|finding| finding.key == "host.quiet");
        findings.map(|finding| (finding.ok, finding.blocks(), finding.detail.as_str())).collect()
    }

    #[test]
    fn groups_are_frozen_before_anything_else_is_taken() {
        let host = with(&[
            ("docker.service", "system.slice/docker.service", &["docker.service"]),
            ("machine.slice", "machine.slice", &["machine.slice", "a.scope"]),
            ("/machine.slice/a.scope", "machine.slice/a.scope", &["a.scope"]),
        ]);
        let plan = planned("\"docker.service\", \"machine.slice\", \"/machine.slice/a.scope\"", &host);
        assert_eq!(
            frozen(&plan),
            [
                "freeze all processes in /sys/fs/cgroup/system.slice/docker.service",
                "freeze all processes in /sys/fs/cgroup/machine.slice"
            ]
        );
        assert_eq!(plan.first_taking(), plan.changes.len() - 2);
        assert!(said(&plan).iter().all(|(ok, ..)| *ok == Verdict::Yes));
    }

    #[test]
    fn what_the_host_or_the_run_needs_does_not_stand_still() {
        let cases: [(&str, &[&str], &str); 5] = [
            ("user.slice", &["user.slice", "session-1.scope"], "vfio-run or its guest is in it"),
            ("system.slice", &["system.slice"], "vfio-run or its guest is in it"),
            ("", &[], "the whole host"),
            ("init.scope", &["init.scope"], "init.scope is in it"),
            ("x.slice", &["x.slice", "dbus.service"], "dbus.service is in it"),
        ];
        for (path, units, words) in cases {
            let plan = planned("\"x\"", &with(&[("x", path, units)]));
            let [(ok, blocks, detail)] = said(&plan)[..] else { panic!("{:?}", plan.findings) };
            assert!(ok == Verdict::No && blocks && detail.contains(words), "{detail}");
            assert!(frozen(&plan).is_empty());
        }
    }

    #[test]
    fn a_group_that_is_not_there_is_a_warning() {
        let mut host = with(&[]);
        assert_eq!(said(&planned("\"docker.service\"", &host))[0].0, Verdict::Unknown);
        host.groups.insert("docker.service".to_owned(), None);
        let plan = planned("\"docker.service\"", &host);
        assert!(matches!(said(&plan)[..], [(Verdict::No, false, _)]));
        host = with(&[("docker.service", "system.slice/docker.service", &[])]);
        host.process.uid = 1000;
        assert!(matches!(said(&planned("\"docker.service\"", &host))[..], [(Verdict::No, true, _)]));
    }
}
