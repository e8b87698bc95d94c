//! Who holds the device nodes of a PCI function open, or has them mapped into memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};
use serde::{Deserialize, Serialize};

use super::nodes::{self, Node};
use crate::host::process::unified;
use crate::host::{Root, sessions};
use crate::units::{PciAddress, printable};

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {}", self.comm, self.pid)?;
        match (&self.unit, self.manager, &self.manager_name) {
            (Some(unit), Some(_), Some(name)) => write!(f, ", {unit} of user {name}")?,
            (Some(unit), Some(uid), None) => write!(f, ", {unit} of user {uid}")?,
            (Some(unit), None, _) => write!(f, ", {unit}")?,
            (None, ..) => {}
        }
        // If the unit does not tell.
        if let (Some(user), None) = (self.user.as_deref().filter(|user| *user != "root"), self.manager) {
            write!(f, ", as {user}")?;
        }
        if let Some(id) =
            self.session.as_ref().filter(|id| self.unit.as_deref() != Some(&format!("session-{id}.scope")))
        {
            write!(f, ", session {id}")?;
        }
        f.write_str(")")
    }
}

/// A process that holds a node open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id.
    pub pid: i32,
    /// Its name, at most 15 characters.
    pub comm: String,
    /// The user that it runs as.
    pub uid: Option<u32>,
    /// That user's name, in facts; code that waits for holders to end does not look it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The systemd unit that it is in: `gdm.service`, `session-3.scope`.
    pub unit: Option<String>,
    /// The user whose service manager has that unit; `None`: the system's.
    pub manager: Option<u32>,
    /// The name of the manager's user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manager_name: Option<String>,
    /// The logind session.
    pub session: Option<String>,
    /// What it holds.
    pub nodes: Vec<PathBuf>,
}

impl Holder {
    /// This process, as the holder of nothing yet.
    pub(in crate::host) fn of_process(root: &Root, pid: i32) -> Self {
        describe(root, pid)
    }

    /// Whether it opens devices for sessions, and closes them when those do: logind (and systemd, which keeps them while
    /// logind restarts), elogind, seatd. It must not be ended, since all sessions depend on it.
    pub fn is_broker(&self) -> bool {
        self.uid == Some(0) && (self.pid == 1 || BROKERS.contains(&self.comm.as_str()))
    }

    /// The unit of the system's that it is in, if nothing ends it but that unit's own end: no session does, and no user's
    /// service manager. udev's workers open a node for a moment.
    pub fn system_unit(&self) -> Option<&str> {
        let unit = self.unit.as_deref().filter(|unit| *unit != "systemd-udevd.service")?;
        (self.manager.is_none() && self.session.is_none() && !self.is_broker()).then_some(unit)
    }

    /// The user units to stop so that it releases the devices for good, if it is in a user unit. systemd would start a
    /// service with a socket again at the next connection.
    pub fn user_units(&self) -> Option<Vec<String>> {
        let (unit, uid) = (self.unit.as_ref()?, self.manager?);
        if *unit == format!("user@{uid}.service") {
            return None;
        }
        let socket = SOCKETS.iter().filter(|(service, _)| service == unit).map(|(_, socket)| (*socket).to_owned());
        Some(socket.chain([unit.clone()]).collect())
    }
}

/// Plymouth, which shows a picture until the display manager has its screen.
const BOOT_SPLASH: &str = "plymouthd";

/// Programs that open devices for sessions.
const BROKERS: [&str; 4] = ["systemd-logind", "elogind", "elogind-daemon", "seatd"];

/// Services of sound that their sockets start again.
const SOCKETS: [(&str, &str); 3] = [
    ("pipewire.service", "pipewire.socket"),
    ("pipewire-pulse.service", "pipewire-pulse.socket"),
    ("pulseaudio.service", "pulseaudio.socket"),
];

/// The holders of the nodes of each function, found in one pass over the processes.
pub(super) fn of_functions(root: &Root, nodes: &BTreeMap<PciAddress, Vec<Node>>) -> BTreeMap<PciAddress, Vec<Holder>> {
    let all: Vec<Node> = nodes.values().flatten().cloned().collect();
    let found = of_nodes(root, &all);
    let its_holders = |nodes: &Vec<Node>| {
        let its = found.iter().filter_map(|holder| {
            let is_its = |path: &&PathBuf| nodes.iter().any(|node| node.path == **path);
            let held: Vec<PathBuf> = holder.nodes.iter().filter(is_its).cloned().collect();
            (!held.is_empty()).then(|| Holder { nodes: held, ..holder.clone() })
        });
        its.collect()
    };
    nodes.iter().map(|(address, nodes)| (*address, its_holders(nodes))).collect()
}

/// Finds the names of the holders' users.
pub(super) fn name_users<'a>(root: &Root, holders: impl IntoIterator<Item = &'a mut Holder>) {
    for holder in holders {
        holder.user = holder.uid.and_then(|uid| sessions::account(root, uid)).map(|account| printable(&account.name));
    }
}

/// The processes that hold one of these nodes open, or have it mapped into memory.
pub fn of_nodes(root: &Root, nodes: &[Node]) -> Vec<Holder> {
    if nodes.is_empty() {
        return Vec::new();
    }
    let wanted = Nodes {
        paths: nodes.iter().map(|node| node.path.as_path()).collect(),
        by_number: nodes
            .iter()
            .map(|node| ((node.major, node.minor, node.subsystem == "block"), node.path.as_path()))
            .collect(),
    };
    let own = std::process::id() as i32;
    let pids = root.names("/proc").into_iter().filter_map(|name| name.parse::<i32>().ok());
    let holders = pids.filter(|pid| *pid != own).filter_map(|pid| {
        let mut nodes = held(root, pid, &wanted);
        if nodes.is_empty() {
            nodes = mapped(root, pid, &wanted);
        }
        (!nodes.is_empty()).then(|| Holder { nodes: nodes.into_iter().collect(), ..describe(root, pid) })
    });
    holders.collect()
}

/// The programs that have a screen: they hold a card for themselves, and not for a session or until another takes over.
pub fn of_screens(root: &Root) -> Vec<Holder> {
    let is_passing = |holder: &Holder| holder.is_broker() || holder.comm == BOOT_SPLASH;
    of_nodes(root, &nodes::of_screens(root)).into_iter().filter(|holder| !is_passing(holder)).collect()
}

/// The nodes whose holders are wanted.
struct Nodes<'a> {
    paths: BTreeSet<&'a Path>,
    /// By major and minor number, and whether it is a block device.
    by_number: BTreeMap<(u32, u32, bool), &'a Path>,
}

/// The wanted nodes that the process holds. A node is known by its name, also when it was deleted since, and by its
/// number, whatever the process called it.
fn held(root: &Root, pid: i32, wanted: &Nodes) -> BTreeSet<PathBuf> {
    let folder = root.path(format!("/proc/{pid}/fd"));
    let descriptors = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let found = descriptors.filter_map(|descriptor| {
        let target = std::fs::read_link(descriptor.path()).ok()?;
        // Sockets, pipes and ordinary files are most of what a process has open.
        let name = target.to_str().filter(|name| name.starts_with("/dev/"))?;
        let name = PathBuf::from(name.strip_suffix(" (deleted)").unwrap_or(name));
        if wanted.paths.contains(name.as_path()) {
            return Some(name);
        }
        let meta = std::fs::metadata(descriptor.path()).ok()?;
        let (kind, number) = (meta.file_type(), meta.rdev());
        if !kind.is_char_device() && !kind.is_block_device() {
            return None;
        }
        let number = (u32::try_from(major(number)).ok()?, u32::try_from(minor(number)).ok()?, kind.is_block_device());
        wanted.by_number.get(&number).map(|path| path.to_path_buf())
    });
    found.collect()
}

/// The wanted nodes that the process has in its memory: a mapping holds a device as an open file does, also after the file
/// was closed.
fn mapped(root: &Root, pid: i32, wanted: &Nodes) -> BTreeSet<PathBuf> {
    let maps = root.text(format!("/proc/{pid}/maps")).unwrap_or_default();
    let paths = maps.lines().filter_map(|line| line.find(" /dev/").map(|at| &line[at + 1..]));
    let paths = paths.map(|path| PathBuf::from(path.strip_suffix(" (deleted)").unwrap_or(path)));
    paths.filter(|path| wanted.paths.contains(path.as_path())).collect()
}

fn describe(root: &Root, pid: i32) -> Holder {
    let status = root.text_up_to(format!("/proc/{pid}/status"), 16 << 10).unwrap_or_default();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let uid = uid.and_then(|line| line.split_ascii_whitespace().nth(1)?.parse().ok());
    let groups = root.text_up_to(format!("/proc/{pid}/cgroup"), 16 << 10).unwrap_or_default();
    let group = unified(&groups).unwrap_or_default();
    // Users make cgroups below their own, under any name.
    let group = &printable(group);
    let (unit, manager) = unit(group);
    let session = group.split('/').find_map(|part| part.strip_prefix("session-")?.strip_suffix(".scope"));
    Holder {
        pid,
        comm: printable(&root.text_up_to(format!("/proc/{pid}/comm"), 256).unwrap_or_default()),
        uid,
        user: None,
        unit,
        manager,
        manager_name: manager.and_then(|uid| sessions::account(root, uid)).map(|account| account.name),
        session: session.map(str::to_owned),
        nodes: Vec::new(),
    }
}

/// The unit that a cgroup belongs to, and the user whose manager has it: services of a user are below that user's own
/// `user@1000.service`.
fn unit(group: &str) -> (Option<String>, Option<u32>) {
    let mut manager = None;
    let mut unit = None;
    for part in group.split('/').filter(|part| part.ends_with(".service") || part.ends_with(".scope")) {
        match part.strip_prefix("user@").and_then(|rest| rest.strip_suffix(".service")?.parse().ok()) {
            Some(uid) => manager = Some(uid),
            None => unit = Some(part.to_owned()),
        }
    }
    match (unit, manager) {
        (None, Some(uid)) => (Some(format!("user@{uid}.service")), None),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::sample_tree;

    #[test]
    fn a_screen_is_whose_holds_a_card_for_itself() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| sample_tree::put(folder.path(), path, text);
        for (name, node, minor) in [("card1", "dri/card1", 1), ("renderD128", "dri/renderD128", 128)] {
            put(&format!("sys/class/drm/{name}/dev"), &format!("226:{minor}\n"));
            put(&format!("sys/class/drm/{name}/uevent"), &format!("MAJOR=226\nMINOR={minor}\nDEVNAME={node}\n"));
        }
        put("sys/class/drm/card1-HDMI-A-1/status", "connected\n");
        let programs = [
            (7, "plymouthd", "/dev/dri/card1"),
            (8, "systemd-logind", "/dev/dri/card1"),
            (9, "obs", "/dev/dri/renderD128"),
            (10, "Xorg", "/dev/dri/card1"),
            (11, "Xorg", "/dev/nvidiactl"),
        ];
        for (pid, comm, node) in programs {
            put(&format!("proc/{pid}/comm"), comm);
            put(&format!("proc/{pid}/status"), "Uid:\t0\t0\t0\t0\n");
            let descriptors = folder.path().join(format!("proc/{pid}/fd"));
            std::fs::create_dir_all(&descriptors).unwrap();
            std::os::unix::fs::symlink(node, descriptors.join("5")).unwrap();
        }
        let mut pids: Vec<i32> = of_screens(&Root::new(folder.path())).iter().map(|holder| holder.pid).collect();
        pids.sort_unstable();
        assert_eq!(pids, [10, 11]);
    }

    #[test]
    fn a_mapping_holds_a_device_too() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| sample_tree::put(folder.path(), path, text);
        put(
            "proc/7/maps",
            "7f1c00000000-7f1c00010000 rw-s 100000000 00:05 423 /dev/dri/renderD128\n\
             7f1c00010000-7f1c00020000 rw-s 00000000 00:05 9 /dev/dri/card0 (deleted)\n\
             7f1c00020000-7f1c00030000 r-xp 00000000 fe:00 77 /usr/lib/x\n",
        );
        put("proc/7/comm", "ga\u{1b}me\n");
        put("proc/7/cgroup", "0::/user.slice/user-7.slice/user@7.service/\u{7}.service\n");
        put("proc/8/maps", "7f1c00020000-7f1c00030000 r-xp 00000000 fe:00 77 /usr/lib/dev/dri/card0\n");
        let node = |path: &str, minor| Node { path: path.into(), major: 226, minor, subsystem: "drm".to_owned() };
        let nodes = [node("/dev/dri/card0", 0), node("/dev/dri/card1", 1), node("/dev/dri/renderD128", 128)];
        let found = of_nodes(&Root::new(folder.path()), &nodes);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].pid, found[0].comm.as_str()), (7, "ga\u{fffd}me"));
        assert_eq!(found[0].unit.as_deref(), Some("\u{fffd}.service"));
        let seated = Holder { manager: None, user: Some("ann".to_owned()), ..found[0].clone() };
        let in_scope =
            Holder { unit: Some("session-3.scope".to_owned()), session: Some("3".to_owned()), ..seated.clone() };
        assert_eq!(in_scope.to_string(), "ga\u{fffd}me (process 7, session-3.scope, as ann)");
        let elsewhere = Holder { unit: None, ..in_scope };
        assert_eq!(elsewhere.to_string(), "ga\u{fffd}me (process 7, as ann, session 3)");
        assert_eq!(found[0].nodes, [PathBuf::from("/dev/dri/card0"), PathBuf::from("/dev/dri/renderD128")]);
    }
}
