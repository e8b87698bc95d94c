//! Whose desktop it is.

use serde::{Deserialize, Serialize};

use crate::host::sessions::{Manager, Session};
use crate::host::{Environment, Process, Root, sessions};

/// How the user was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// It is the user who runs vfio-run.
    Ours,
    /// The machine file names the account.
    Named,
    /// The user has this session, which is on a screen.
    Session(String),
    /// The user became root by this program.
    Became(String),
    /// Nobody else's service manager runs.
    OnlyManager,
}

/// What is to be found out about the desktop's user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WantedDesktop {
    /// The account that is meant, by name or number; `None`: whose desktop it is.
    pub user: Option<String>,
}

/// What programs by which a user becomes root tell of that user.
const BECAME: [(&str, &str); 2] = [("sudo", "SUDO_UID"), ("pkexec", "PKEXEC_UID")];

/// Finds the user: the account that the machine file names; else the one who runs vfio-run, or, if that is root, the one
/// at the screen, the one who became root, or the only one whose service manager runs.
pub(super) fn user(
    root: &Root,
    environment: &Environment,
    process: &Process,
    sessions: &[Session],
    managers: &[Manager],
    wanted: &WantedDesktop,
) -> Option<(u32, Found)> {
    if process.uid != 0 {
        return Some((process.uid, Found::Ours));
    }
    if let Some(user) = &wanted.user {
        return Some((user.parse().ok().or_else(|| sessions::uid(root, user))?, Found::Named));
    }
    let on_screen = |active: bool| {
        let people = sessions.iter().filter(|session| session.is_graphical() && !session.is_greeter());
        people.filter(|session| session.active == active).min_by_key(|session| session.seat.is_none())
    };
    let of_session = |session: &Session| (session.uid, Found::Session(session.id.clone()));
    if let Some(session) = on_screen(true) {
        return Some(of_session(session));
    }
    let became = BECAME.iter().find_map(|(program, variable)| {
        let uid: u32 = environment.variable(variable)?.to_str()?.parse().ok()?;
        (uid != 0).then(|| (uid, Found::Became((*program).to_owned())))
    });
    if became.is_some() {
        return became;
    }
    if let Some(session) = on_screen(false) {
        return Some(of_session(session));
    }
    let greeters = |uid: u32| sessions.iter().any(|session| session.uid == uid && session.is_greeter());
    let mut people = managers.iter().filter(|manager| manager.uid != 0 && !greeters(manager.uid));
    match (people.next(), people.next()) {
        (Some(manager), None) => Some((manager.uid, Found::OnlyManager)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(id: &str, uid: u32, kind: &str, active: bool) -> Session {
        Session { id: id.to_owned(), uid, kind: Some(kind.to_owned()), active, ..Session::default() }
    }

    fn find(uid: u32, variables: &[(&str, &str)], sessions: &[Session], managers: &[u32]) -> Option<(u32, Found)> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), value.into())).collect();
        let environment = Environment { uid, variables, ..Environment::default() };
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let status = crate::host::process::Status::read(&root);
        let process = Process::read(&root, &environment, &status);
        let managers: Vec<Manager> = managers.iter().map(|uid| Manager { uid: *uid, ..Manager::default() }).collect();
        user(&root, &environment, &process, sessions, &managers, &WantedDesktop::default())
    }

    #[test]
    fn a_user_is_the_one_and_root_means_the_one_at_the_screen() {
        let alice = session("3", 1000, "wayland", true);
        let bob = session("2", 1001, "x11", false);
        let ssh = session("7", 1002, "tty", true);
        let mut greeter = session("c1", 120, "wayland", true);
        greeter.class = Some("greeter".to_owned());
        let all = [ssh.clone(), greeter.clone(), bob.clone(), alice];
        assert_eq!(find(1002, &[], &all, &[]), Some((1002, Found::Ours)));
        assert_eq!(find(0, &[("SUDO_UID", "1002")], &all, &[]), Some((1000, Found::Session("3".to_owned()))));
        let away = [ssh, greeter, bob];
        assert_eq!(find(0, &[("SUDO_UID", "1002")], &away, &[]), Some((1002, Found::Became("sudo".to_owned()))));
        assert_eq!(find(0, &[("SUDO_UID", "0")], &away, &[]), Some((1001, Found::Session("2".to_owned()))));
        assert_eq!(find(0, &[], &away[..2], &[120, 1003]), Some((1003, Found::OnlyManager)));
        assert_eq!(find(0, &[], &[], &[1003, 1004]), None);
    }
}
