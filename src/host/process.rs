//! This process: user, cgroup, session, systemd unit, and the folders that follow from it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::root::list;
use super::{Environment, Root};
use crate::trusted;
use crate::units::{CGROUPS, CpuSet};

/// This process, as far as a plan depends on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Effective user id; 0 is root.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Our path in the unified cgroup hierarchy: `/user.slice/…`. `None` on a host without cgroup v2.
    pub cgroup: Option<String>,
    /// The systemd service that we are the main process of, as the cgroup tells: `vfio-run-win11.service`.
    pub unit: Option<String>,
    /// The logind session: `3` from `session-3.scope`.
    pub session: Option<String>,
    /// The user that sudo or run0 made root (`SUDO_UID`, sudo(8), run0(1)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub became: Option<u32>,
    /// User ids that systemd has given to services for as long as they run (`/run/systemd/dynamic-uid`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dynamic_uids: Vec<u32>,
    /// Whether systemd is PID 1 (`/run/systemd/system` exists, `sd_booted(3)`).
    pub systemd: bool,
    /// `RLIMIT_MEMLOCK` in bytes; `None` is unlimited.
    pub memlock: Option<u64>,
    /// The highest priority that a thread in real time may have without privileges; `None`: no limit, or unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtprio: Option<u64>,
    /// Where sockets, the lock and the journal go: `/run/vfio-run`, or below `$XDG_RUNTIME_DIR`.
    pub run_dir: PathBuf,
    /// Where variable stores and TPM state are kept: `/var/lib/vfio-run`, or below `$XDG_STATE_HOME`.
    pub state_dir: PathBuf,
    /// Where logs go: `/var/log/vfio-run`, or below `$XDG_STATE_HOME`.
    pub log_dir: PathBuf,
    /// Where QEMU's answers are cached: `/var/cache/vfio-run`, or below `$XDG_CACHE_HOME`. `None`: there is no place that
    /// is surely our own, so they are not.
    pub cache_dir: Option<PathBuf>,
    /// What is wrong with the way to one of the folders above: others could exchange what is kept there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untrusted: Option<String>,
}

/// What /proc/self says that facts need.
#[derive(Debug, Default)]
pub(super) struct Status {
    /// Its `cgroup` file (cgroups(7)).
    pub(super) cgroups: String,
    uid: Option<u32>,
    gid: Option<u32>,
    groups: Vec<u32>,
    /// The affinity that this process inherited.
    pub(super) cpus_allowed: Option<CpuSet>,
    /// The memory nodes of its cpuset.
    pub(super) mems_allowed: Option<CpuSet>,
}

impl Status {
    pub(super) fn read(root: &Root) -> Self {
        let cgroups = root.text_up_to("/proc/self/cgroup", 64 << 10).unwrap_or_default();
        let mut status = Self { cgroups, ..Self::default() };
        for line in root.text_up_to("/proc/self/status", 64 << 10).unwrap_or_default().lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            // Real, effective, saved, file system.
            let effective = || value.split_ascii_whitespace().nth(1)?.parse().ok();
            match key {
                "Uid" => status.uid = effective(),
                "Gid" => status.gid = effective(),
                "Groups" => status.groups = value.split_ascii_whitespace().flat_map(str::parse).collect(),
                "Cpus_allowed_list" => status.cpus_allowed = list(value),
                "Mems_allowed_list" => status.mems_allowed = list(value),
                _ => {}
            }
        }
        status
    }

    /// The groups of a QEMU that this process starts: root's has an account of its own, which is in none.
    pub(super) fn groups_of_qemu(&self) -> Vec<u32> {
        if self.uid == Some(0) { Vec::new() } else { self.groups.iter().copied().chain(self.gid).collect() }
    }
}

/// Where the run directories of this user's machines are.
pub fn run_dir() -> PathBuf {
    this_process().run_dir
}

/// Where the logs of this user's machines are.
pub fn log_dir() -> PathBuf {
    this_process().log_dir
}

fn this_process() -> Process {
    let root = Root::new("/");
    Process::read(&root, &Environment::of_this_process(), &Status::read(&root))
}

/// The path in the unified hierarchy that a process's `cgroup` file names (cgroups(7)).
pub(super) fn unified(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| line.strip_prefix("0::"))
}

impl Process {
    /// Reads user, cgroup, session and unit of this process.
    pub(super) fn read(root: &Root, environment: &Environment, status: &Status) -> Self {
        let uid = status.uid.unwrap_or(environment.uid);
        let groups = &status.cgroups;
        let unified = unified(groups).map(str::to_owned);
        // If v1 and v2 are mixed, systemd may keep its units in a hierarchy of its own.
        let named =
            || groups.lines().find_map(|line| line.split_once(":name=systemd:")).map(|(_, path)| path.to_owned());
        let units = unified.clone().filter(|path| path != "/").or_else(named).unwrap_or_default();
        let ([run_dir, state_dir, log_dir], cache_dir) = folders(root, environment, uid);
        // The ways of a captured host are those of another place.
        let untrusted = if root.is_real() { untrusted([&run_dir, &state_dir, &log_dir]) } else { None };
        Self {
            uid,
            gid: status.gid.unwrap_or(environment.gid),
            cgroup: unified.filter(|_| root.path(format!("{CGROUPS}/cgroup.controllers")).exists()),
            unit: own_service(&units, environment),
            session: session(&units),
            became: environment.variable("SUDO_UID").and_then(|uid| uid.to_str()?.parse().ok()),
            dynamic_uids: root.names("/run/systemd/dynamic-uid").iter().flat_map(|name| name.parse()).collect(),
            systemd: root.path("/run/systemd/system").is_dir(),
            memlock: limit(root, "Max locked memory"),
            rtprio: limit(root, "Max realtime priority"),
            run_dir,
            state_dir,
            log_dir,
            cache_dir,
            untrusted,
        }
    }
}

/// What is wrong with the way to the first of these folders that others could exchange.
fn untrusted(folders: [&Path; 3]) -> Option<String> {
    folders.into_iter().find_map(|folder| Some(trusted::way(folder).err()?.to_string()))
}

/// The service that we are the main process of. The cgroup alone can't tell: a script in a service, or a terminal of
/// the user manager, starts us in its own cgroup. systemd says whom it started (`SYSTEMD_EXEC_PID`, since version 248,
/// systemd.exec(5)); before that, `INVOCATION_ID` is the best there is.
fn own_service(cgroup: &str, environment: &Environment) -> Option<String> {
    let ours = match environment.variable("SYSTEMD_EXEC_PID") {
        Some(pid) => pid.to_str()?.parse() == Ok(environment.pid),
        None => environment.variable("INVOCATION_ID").is_some(),
    };
    let last = cgroup.rsplit('/').find(|part| part.ends_with(".service") || part.ends_with(".scope"))?;
    (ours && last.ends_with(".service") && !last.starts_with("user@")).then(|| last.to_owned())
}

/// The logind session, from the part `session-3.scope`.
fn session(cgroup: &str) -> Option<String> {
    let id = cgroup.split('/').find_map(|part| part.strip_prefix("session-")?.strip_suffix(".scope"))?;
    Some(id.to_owned())
}

/// One of our soft limits, if there is one.
fn limit(root: &Root, name: &str) -> Option<u64> {
    let limits = root.text_up_to("/proc/self/limits", 16 << 10)?;
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Folders for sockets and journals, for state and for logs; and for the cache.
fn folders(root: &Root, environment: &Environment, uid: u32) -> ([PathBuf; 3], Option<PathBuf>) {
    if uid == 0 {
        let below = |folder: &str| Path::new(folder).join("vfio-run");
        return (["/run", "/var/lib", "/var/log"].map(below), Some(below("/var/cache")));
    }
    let temporary = PathBuf::from(format!("/tmp/vfio-run-{uid}"));
    let usual = PathBuf::from(format!("/run/user/{uid}"));
    let run = match environment.folder("XDG_RUNTIME_DIR") {
        Some(folder) => folder.join("vfio-run"),
        None if root.path(&usual).is_dir() => usual.join("vfio-run"),
        None => temporary.join("run"),
    };
    let below = |name, below_home| Some(environment.xdg(name, below_home)?.join("vfio-run"));
    let state = below("XDG_STATE_HOME", ".local/state").unwrap_or_else(|| temporary.join("state"));
    let log = state.join("log");
    ([run, state, log], below("XDG_CACHE_HOME", ".cache"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), value.into())).collect();
        Environment { uid: 1000, gid: 1000, pid: 42, variables }
    }

    fn read(files: &[(&str, &str)], environment: &Environment) -> Process {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let root = Root::new(folder.path());
        Process::read(&root, environment, &Status::read(&root))
    }

    #[test]
    fn root_has_the_folders_of_the_system() {
        let process = read(&[("proc/self/status", "Uid:\t1000\t0\t0\t0\nGid:\t0\t0\t0\t0\n")], &environment(&[]));
        assert_eq!(process.uid, 0);
        assert_eq!(process.run_dir, Path::new("/run/vfio-run"));
        assert_eq!(process.cache_dir.unwrap(), Path::new("/var/cache/vfio-run"));
    }

    #[test]
    fn a_user_has_folders_of_their_own_with_or_without_xdg() {
        let process = read(&[], &environment(&[]));
        assert_eq!(process.run_dir, Path::new("/tmp/vfio-run-1000/run"));
        assert_eq!(process.cache_dir, None);
        assert_eq!(process.log_dir, Path::new("/tmp/vfio-run-1000/state/log"));
        let home = environment(&[("HOME", "/home/u")]);
        let process = read(&[("run/user/1000/bus", "")], &home);
        assert_eq!(process.run_dir, Path::new("/run/user/1000/vfio-run"));
        assert_eq!(process.log_dir, Path::new("/home/u/.local/state/vfio-run/log"));
        let process = read(&[], &environment(&[("XDG_RUNTIME_DIR", "/r"), ("XDG_CACHE_HOME", "/c")]));
        assert_eq!((process.run_dir, process.cache_dir), ("/r/vfio-run".into(), Some("/c/vfio-run".into())));
    }

    #[test]
    fn the_unit_is_ours_only_when_systemd_started_us() {
        let unit = |cgroup: &str, variables: &[(&str, &str)]| own_service(cgroup, &environment(variables));
        let main = [("SYSTEMD_EXEC_PID", "42"), ("INVOCATION_ID", "x")];
        let child = [("SYSTEMD_EXEC_PID", "41"), ("INVOCATION_ID", "x")];
        assert_eq!(unit("/system.slice/vfio-run-win11.service", &main).as_deref(), Some("vfio-run-win11.service"));
        assert_eq!(unit("/system.slice/a.service/payload", &main).as_deref(), Some("a.service"));
        assert_eq!(unit("/system.slice/a.service", &[("INVOCATION_ID", "x")]).as_deref(), Some("a.service"));
        assert_eq!(unit("/system.slice/cron.service", &child), None);
        assert_eq!(unit("/system.slice/ssh.service", &[]), None);
        let manager = "/user.slice/user-1000.slice/user@1000.service";
        assert_eq!(unit(manager, &main), None);
        assert_eq!(unit(&format!("{manager}/app.slice/vm.service"), &main).as_deref(), Some("vm.service"));
        assert_eq!(unit(&format!("{manager}/app.slice/vte-spawn-1.scope"), &main), None);
    }

    #[test]
    fn session_cgroup_and_limit_are_read() {
        let scope = "0::/user.slice/user-1000.slice/session-c3.scope\n";
        let limits = "Max locked memory         8388608              unlimited            bytes     \n\
                      Max realtime priority     0                    0                    \n";
        let files = [
            ("proc/self/cgroup", scope),
            ("proc/self/limits", limits),
            ("sys/fs/cgroup/cgroup.controllers", "cpuset\n"),
            ("run/systemd/system/x", ""),
        ];
        let process = read(&files, &environment(&[]));
        assert_eq!(process.session.as_deref(), Some("c3"));
        assert_eq!(process.cgroup.as_deref(), Some("/user.slice/user-1000.slice/session-c3.scope"));
        assert_eq!((process.memlock, process.systemd, process.unit), (Some(8 << 20), true, None));
        assert_eq!(process.rtprio, Some(0));
        let mixed = "1:name=systemd:/user.slice/session-7.scope\n0::/\n";
        let process = read(&[("proc/self/cgroup", mixed)], &environment(&[]));
        assert_eq!((process.session.as_deref(), process.cgroup), (Some("7"), None));
        let junk = read(
            &[("proc/self/cgroup", "\u{fffd}::::\n0:"), ("proc/self/limits", "Max locked memory")],
            &environment(&[]),
        );
        assert_eq!((junk.session, junk.unit, junk.memlock), (None, None, None));
    }
}
