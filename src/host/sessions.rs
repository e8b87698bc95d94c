//! Who is logged in, whose service managers run, and which units these know: what hangs on a display manager, and what
//! outlives it.
//!
//! logind keeps its sessions in `/run/systemd/sessions`, for its library to read (sd-login(3), `logind-session.c`); what
//! is missing there is unknown.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Root;
use crate::units::CGROUPS;

/// A session of logind's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// `3` of `session-3.scope`.
    pub id: String,
    /// Whose it is.
    pub uid: u32,
    /// `wayland`, `x11`, `tty`, `unspecified`.
    pub kind: Option<String>,
    /// `seat0`; `None` for one over the network.
    pub seat: Option<String>,
    /// Whether it is the one that its seat shows.
    #[serde(default)]
    pub active: bool,
    /// `user`, or `greeter` for the screen on which people log in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
}

impl Session {
    /// Whether it is on a graphical screen, and so ends with the display manager.
    pub fn is_graphical(&self) -> bool {
        matches!(self.kind.as_deref(), Some("wayland" | "x11" | "mir"))
    }

    /// Whether it is the screen on which people log in.
    pub fn is_greeter(&self) -> bool {
        self.class.as_deref() == Some("greeter")
    }
}

/// A service manager of a user, which runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manager {
    /// Whose it is.
    pub uid: u32,
    /// That user's name.
    pub name: Option<String>,
    /// Whether it stays without a session (`loginctl enable-linger`).
    pub lingers: bool,
}

/// Where systemd looks for units of users (systemd.unit(5)).
const FOLDERS: [&str; 6] = [
    "/etc/systemd/user",
    "/run/systemd/user",
    "/usr/local/lib/systemd/user",
    "/usr/lib/systemd/user",
    "/usr/local/share/systemd/user",
    "/usr/share/systemd/user",
];
/// The same for one user, below the run directory and below home.
const OWN_FOLDERS: [&str; 6] = ["transient", "generator", "generator.early", "generator.late", "user", "user.control"];
const HOME_FOLDERS: [&str; 2] = [".config/systemd/user", ".local/share/systemd/user"];

pub(super) fn sessions(root: &Root) -> Vec<Session> {
    let folder = "/run/systemd/sessions";
    // Beside each session is a pipe, `ID.ref`.
    let ids = root.names(folder).into_iter().filter(|id| !id.contains('.'));
    let sessions = ids.filter_map(|id| {
        let text = root.text_up_to(format!("{folder}/{id}"), 16 << 10)?;
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let uid = value("UID")?.parse().ok()?;
        let word = |key| value(key).map(str::to_owned);
        let active = value("ACTIVE") == Some("1");
        Some(Session { uid, kind: word("TYPE"), seat: word("SEAT"), active, class: word("CLASS"), id })
    });
    sessions.collect()
}

pub(super) fn managers(root: &Root) -> Vec<Manager> {
    let slices = root.names(format!("{CGROUPS}/user.slice")).into_iter();
    let managers = slices.filter_map(|slice| {
        let uid: u32 = slice.strip_prefix("user-")?.strip_suffix(".slice")?.parse().ok()?;
        let group = root.path(format!("{CGROUPS}/user.slice/{slice}/user@{uid}.service"));
        let name = group.is_dir().then(|| account(root, uid).map(|account| account.name))?;
        let lingers = name.as_ref().is_some_and(|name| root.path(format!("/var/lib/systemd/linger/{name}")).exists());
        Some(Manager { uid, name, lingers })
    });
    managers.collect()
}

/// What the system knows of a user.
pub(super) struct UserAccount {
    /// Name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Home folder.
    pub home: PathBuf,
}

/// The account with this user id.
pub(super) fn account(root: &Root, uid: u32) -> Option<UserAccount> {
    if root.is_real() {
        let user = nix::unistd::User::from_uid(uid.into()).ok().flatten()?;
        return Some(UserAccount { name: user.name, uid, gid: user.gid.as_raw(), home: user.dir });
    }
    of_passwd(root, |account| account.uid == uid)
}

/// The user id of the account with this name.
pub(super) fn uid(root: &Root, name: &str) -> Option<u32> {
    if root.is_real() {
        return Some(nix::unistd::User::from_name(name).ok().flatten()?.uid.as_raw());
    }
    of_passwd(root, |account| account.name == name).map(|account| account.uid)
}

fn of_passwd(root: &Root, is_it: impl Fn(&UserAccount) -> bool) -> Option<UserAccount> {
    let accounts = root.text("/etc/passwd")?;
    let mut accounts = accounts.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(UserAccount { name, uid, gid, home: fields.nth(1)?.into() })
    });
    accounts.find(is_it)
}

/// Those of these units that some user's service manager finds a file of.
pub(super) fn known_units(root: &Root, managers: &[Manager], units: &[String]) -> Vec<String> {
    let mut folders: Vec<PathBuf> = FOLDERS.iter().map(PathBuf::from).collect();
    for manager in managers.iter().filter(|_| !units.is_empty()) {
        let own = PathBuf::from(format!("/run/user/{}/systemd", manager.uid));
        folders.extend(OWN_FOLDERS.map(|name| own.join(name)));
        folders.extend(
            account(root, manager.uid).into_iter().flat_map(|account| HOME_FOLDERS.map(|f| account.home.join(f))),
        );
    }
    let is_known = |unit: &&String| {
        let template =
            unit.split_once('@').zip(unit.rsplit_once('.')).map(|((name, _), (_, kind))| format!("{name}@.{kind}"));
        let names: Vec<&str> = [Some(unit.as_str()), template.as_deref()].into_iter().flatten().collect();
        // A link counts even if it leads out of the root.
        folders.iter().any(|folder| names.iter().any(|name| root.path(folder.join(name)).symlink_metadata().is_ok()))
    };
    units.iter().filter(is_known).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::sample_tree;

    #[test]
    fn sessions_managers_and_their_units_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| sample_tree::put(folder.path(), path, text);
        put("run/systemd/sessions/3", "# private\nUID=1000\nUSER=alice\nACTIVE=1\nTYPE=wayland\nSEAT=seat0\n");
        put("run/systemd/sessions/3.ref", "");
        put("run/systemd/sessions/7", "UID=1001\nTYPE=tty\nREMOTE=1\n");
        put("run/systemd/sessions/8", "junk");
        put("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\nbad\n");
        put("var/lib/systemd/linger/alice", "");
        put("sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/cgroup.procs", "");
        put("sys/fs/cgroup/user.slice/user-1001.slice/session-7.scope/cgroup.procs", "");
        put("usr/lib/systemd/user/pipewire.socket", "");
        put("home/alice/.config/systemd/user/app@.service", "");
        let root = Root::new(folder.path());
        let sessions = sessions(&root);
        assert_eq!(sessions.iter().map(|s| (s.id.as_str(), s.uid)).collect::<Vec<_>>(), [("3", 1000), ("7", 1001)]);
        assert_eq!(sessions.iter().map(Session::is_graphical).collect::<Vec<_>>(), [true, false]);
        assert_eq!(sessions[1].seat, None);
        assert_eq!(sessions.iter().map(|s| s.active).collect::<Vec<_>>(), [true, false]);
        let managers = managers(&root);
        assert_eq!(managers, [Manager { uid: 1000, name: Some("alice".to_owned()), lingers: true }]);
        let units = ["pipewire.socket", "app@x.service", "typo.service"].map(str::to_owned);
        assert_eq!(known_units(&root, &managers, &units), units[..2]);
    }
}
