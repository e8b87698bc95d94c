//! Whether the launcher is about to end the session that it was started from, and itself with it: then it moves to a
//! systemd unit.

use serde::{Deserialize, Serialize};

use super::unit_group::UnitGroup;
use crate::change::{Change, StopUnit, StopUserUnit};
use crate::host::pci::Holder;
use crate::plan::Severity;
use crate::plan::draft::Draft;

/// The launcher moves to a unit before it changes anything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Move {
    /// The unit.
    pub unit: String,
    /// Whether it is installed and runs this machine's file; else it is made for this run.
    pub installed: bool,
    /// Why.
    pub why: String,
    /// What it must be, if it is made.
    #[serde(default)]
    pub group: UnitGroup,
}

/// The session and units that the launcher runs in.
struct Place<'a> {
    session: Option<&'a str>,
    /// Whose service manager.
    manager: Option<u32>,
    /// The units around it.
    units: Vec<&'a str>,
}

/// Decides by what is stopped, which is among the draft's changes. `ends` says whether a session of this id ends with
/// the display manager that is stopped, `graphical` whether a user has one that does; `ended` are the programs that are
/// ended one by one.
pub(in crate::plan) fn choose(
    draft: &mut Draft<'_>,
    display_manager: Option<&str>,
    ends: impl Fn(&str) -> bool,
    graphical: impl Fn(u32) -> bool,
    ended: &[&Holder],
) -> Option<Move> {
    let process = &draft.host.process;
    if !process.systemd {
        without_systemd(draft, ended);
        return None;
    }
    let group = process.cgroup.clone().unwrap_or_default();
    let place = Place {
        session: process.session.as_deref(),
        manager: group.split('/').find_map(|part| part.strip_prefix("user@")?.strip_suffix(".service")?.parse().ok()),
        units: group.split('/').filter(|part| part.contains('.')).collect(),
    };
    // run0 makes a session, or a unit, outside of the user's own; but its terminal is the user's, and ends with his session.
    let elsewhere = |uid: &u32| !group.contains(&format!("/user-{uid}.slice/"));
    let terminal = process.became.filter(elsewhere).filter(|uid| graphical(*uid));
    if process.uid != 0
        || process.unit.is_some()
        || (place.session.is_none() && place.manager.is_none() && terminal.is_none())
    {
        return None;
    }
    let around = |unit: &String| place.units.contains(&unit.as_str());
    let stopped = draft.changes.iter().find_map(|planned| match &planned.change {
        Change::StopUnit(StopUnit { unit }) if around(unit) => Some(unit),
        Change::StopUserUnit(StopUserUnit { uid, unit }) if place.manager == Some(*uid) && around(unit) => Some(unit),
        _ => None,
    });
    let with_screen = match (place.session, place.manager) {
        (Some(id), _) if ends(id) => Some(format!("session {id}")),
        (None, Some(uid)) if graphical(uid) => Some(format!("the session of user {uid}")),
        _ => terminal.map(|uid| format!("the session of user {uid}")),
    };
    let its = |holder: &&&Holder| match place.manager {
        Some(uid) => holder.manager == Some(uid),
        None => place.session.is_some() && holder.session.as_deref() == place.session,
    };
    let why = match (stopped, display_manager.zip(with_screen), ended.iter().find(its)) {
        (Some(unit), ..) => format!("vfio-run was started in {unit}, which it stops"),
        (_, Some((unit, session)), _) => format!("{session}, in which vfio-run was started, ends with {unit}"),
        (.., Some(holder)) => format!("vfio-run ends {holder}, and with it perhaps the session that it was started in"),
        _ => return None,
    };
    let name = &draft.machine.name;
    let (unit, installed) = match &draft.host.installed_unit {
        // No machine's name has a colon, so this is no other machine's unit.
        Some(other) if !other.is_ours => (format!("vfio-run-{name}:session.service"), false),
        Some(own) => (own.instance.clone().unwrap_or_else(|| format!("vfio-run-{name}.service")), true),
        None => (format!("vfio-run-{name}.service"), false),
    };
    let group = UnitGroup::of(draft.machine, draft.host.cpusets.as_ref());
    Some(Move { unit, installed, why, group })
}

/// Without systemd nothing stops units, or lets a launcher outlive its session.
fn without_systemd(draft: &mut Draft<'_>, ended: &[&Holder]) {
    let unit = draft.changes.iter().find_map(|planned| match &planned.change {
        Change::StopUnit(StopUnit { unit }) | Change::StopUserUnit(StopUserUnit { unit, .. }) => Some(unit.clone()),
        _ => None,
    });
    if let Some(unit) = unit {
        draft.no(
            "handover.systemd",
            Severity::Hard,
            format!("vfio-run is to stop {unit}, but systemd does not run here"),
            "leave it out of `handover` and end the screen's programs before the start; then start vfio-run over ssh, on \
             a text console, or with `setsid`, so that it does not end with them",
        );
        draft.about("handover");
    } else if let Some(holder) = ended.first() {
        draft.no(
            "handover.session",
            Severity::Soft,
            format!(
                "vfio-run ends {holder}; if it was started from there, it ends too, since systemd does not run here"
            ),
            "start vfio-run over ssh, on a text console, or with `setsid`",
        );
    }
}
