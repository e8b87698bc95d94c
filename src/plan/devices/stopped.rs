//! What is stopped for a handover, of the system's units and of users', and which programs end with it.

use super::super::Severity::Soft;
use super::super::draft::{Draft, by_fact};
use super::Given;
use crate::change::{StopUnit, StopUserUnit};
use crate::host::Pci;
use crate::host::pci::{Holder, Screen};
use crate::machine::DisplayManager;
use crate::units::Origin;

/// What is stopped.
#[derive(Debug, Default)]
pub(super) struct Stopped {
    /// Units of the system's.
    pub units: Vec<String>,
    /// Units of users': whose, and which.
    pub user_units: Vec<(u32, String)>,
    /// The display manager, if it is among the units.
    pub display_manager: Option<String>,
}

impl Stopped {
    /// Whether a program in this place ends with what is stopped: it is in a unit that is, or in a graphical session.
    /// What is unknown of a session or of a user's service manager is taken to be graphical.
    pub fn ends(&self, screen: &Screen, holder: &Holder) -> bool {
        let stops = |unit: &str| self.units.iter().any(|stopped| stopped == unit);
        let graphical = self.display_manager.is_some();
        match (holder.manager, &holder.unit, &holder.session) {
            (Some(uid), unit, _) => {
                let its = |(other, stopped): &(u32, String)| *other == uid && Some(stopped) == unit.as_ref();
                stops(&format!("user@{uid}.service"))
                    || self.user_units.iter().any(its)
                    || (graphical && manager_ends(screen, uid))
            }
            (None, unit, session) => {
                unit.as_deref().is_some_and(stops)
                    || (graphical && session.as_ref().is_some_and(|id| session_ends(screen, id)))
            }
        }
    }
}

/// Whether a session ends with the display manager.
pub(in super::super) fn session_ends(screen: &Screen, id: &str) -> bool {
    screen.sessions.iter().find(|session| session.id == id).is_none_or(|session| session.is_graphical())
}

/// Whether the service manager of a user ends with the display manager: with the last session, unless it lingers.
fn manager_ends(screen: &Screen, uid: u32) -> bool {
    let lingers = screen.managers.iter().any(|manager| manager.uid == uid && manager.lingers);
    let mut sessions = screen.sessions.iter().filter(|session| session.uid == uid);
    !lingers && sessions.all(|session| session.is_graphical())
}

/// Stops the units that the machine names, of users first, and the display manager if a graphics card is taken from
/// it that `hidden` does not make it close.
pub(super) fn stop(draft: &mut Draft, pci: &Pci, taken: &[Given], hidden: &[Given]) -> Stopped {
    let handover = &draft.machine.handover;
    let screen = &pci.screen;
    let mut stopped = Stopped { user_units: of_users(draft, screen, taken), ..Stopped::default() };
    let mut units: Vec<(String, Origin)> = Vec::new();
    // By its own name, which is that of its cgroup.
    let own = |unit: &String| screen.aliases.get(unit).unwrap_or(unit).clone();
    match (&handover.display_manager, &screen.display_manager) {
        (DisplayManager::Unit(unit), _) => {
            let unit = own(unit);
            stopped.display_manager = Some(unit.clone());
            units.push((unit.clone(), draft.file("handover.display_manager")));
        }
        (DisplayManager::Auto, Some(unit)) if screen.display_manager_runs => {
            let is_hidden = |given: &Given| hidden.iter().any(|hidden| hidden.address() == given.address());
            let shown = taken.iter().filter(|given| given.function.is_gpu() && !is_hidden(given));
            let mut held = shown.filter(|given| given.details.holders.iter().any(|holder| seated(screen, holder)));
            if let Some(given) = held.next() {
                units
                    .push((unit.clone(), by_fact(format!("it, or one of its sessions, has {} open", given.address()))));
            }
        }
        _ => {}
    }
    for (i, unit) in handover.units.iter().enumerate() {
        units.push((own(unit), draft.file(&format!("handover.units[{i}]"))));
    }
    for (unit, why) in units {
        if !stopped.units.contains(&unit) {
            if screen.display_manager.as_ref() == Some(&unit) {
                stopped.display_manager = Some(unit.clone());
            }
            stopped.units.push(unit.clone());
            draft.change(StopUnit { unit }, why);
        }
    }
    stopped
}

/// Whether a program belongs to the display manager or to a session.
pub(super) fn seated(screen: &Screen, holder: &Holder) -> bool {
    let is_display_manager = screen.display_manager.is_some() && holder.unit == screen.display_manager;
    is_display_manager || holder.session.is_some() || holder.manager.is_some()
}

/// Stops the units of users: of those who are logged in at a seat, and of those who hold what is taken. One that a user
/// does not have, or that does not run, is left as it is.
fn of_users(draft: &mut Draft, screen: &Screen, taken: &[Given]) -> Vec<(u32, String)> {
    let (units, mut stopped) = (&draft.machine.handover.user_units, Vec::new());
    let holds = |uid: u32| {
        let mut holders = taken.iter().flat_map(|given| &given.details.holders);
        holders.any(|holder| holder.manager == Some(uid) || holder.uid == Some(uid))
    };
    let seated = |uid: u32| screen.sessions.iter().any(|session| session.uid == uid && session.seat.is_some());
    let users = screen.managers.iter().filter(|manager| holds(manager.uid) || seated(manager.uid));
    let users: Vec<u32> = users.map(|manager| manager.uid).collect();
    for (i, unit) in units.iter().enumerate() {
        let field = format!("handover.user_units[{i}]");
        for uid in users.iter().copied().filter(|uid| !stopped.contains(&(*uid, unit.clone()))).collect::<Vec<_>>() {
            stopped.push((uid, unit.clone()));
            let why = draft.file(&field);
            draft.change(StopUserUnit { uid, unit: unit.clone() }, why);
        }
        if !users.is_empty() && !screen.user_units.contains(unit) {
            let detail = format!("systemd's folders for units of users have no {unit}");
            let remedy = format!("correct `{field}`; `systemctl --user list-units` shows what runs");
            draft.no(&format!("handover.user_units.{unit}"), Soft, detail, &remedy);
            draft.about(&field);
        }
    }
    stopped
}
