//! See that no program holds a device open before its driver is unbound: some drivers wait for ever for the last user,
//! others take the device from a program that then crashes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::change::error::{ChangeError, HeldError};
use crate::change::record::{Nothing, Undone};
use crate::change::step::{Effect, Nature, Observed, Progress, Step};
use crate::change::wait::wait_for_processes;
use crate::host::Root;
use crate::host::pci::{Holder, Node, holders_of};

/// How long programs of a unit that has stopped may take to close what they hold, and how long one may take to end.
const LIMIT: Duration = Duration::from_secs(5);
/// How long a program may have what is taken open before anything was taken: some look at a device and close it.
const GLANCE: Duration = Duration::from_secs(1);
/// How long the programs of a user who has logged out may take: their service manager stays for 10 s
/// (`UserStopDelaySec=` of logind.conf(5)), and then stops them.
const USER_LIMIT: Duration = Duration::from_secs(25);

/// See that no program holds these device nodes open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreeNodes {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// End the programs that hold them, instead of refusing.
    pub end: bool,
}

impl Step for FreeNodes {
    type Before = Nothing;

    fn nature(&self) -> Nature {
        Nature { effect: Effect::Takes { felt: self.end }, ..Nature::PREPARES }
    }

    fn capture(&self, _: &Root) -> Result<Nothing, ChangeError> {
        Ok(Nothing::Nothing)
    }

    /// Waits until no program holds the nodes, or ends those that do; the error names those that still hold them.
    fn apply(&self, root: &Root, _: &Nothing, _: Progress<'_>) -> Result<(), ChangeError> {
        // A fake root has no processes of its own.
        Ok(self.free(root, &|holder, signal| {
            if root.is_real() {
                // A program that has ended meanwhile is what was wanted.
                let _ = kill(Pid::from_raw(holder.pid), signal);
            }
        })?)
    }

    fn undo(&self, _: &Root, _: &Nothing) -> Result<Undone, ChangeError> {
        Ok(Undone::AlreadyBack)
    }

    fn lock_files(&self, _: &Nothing) -> Vec<PathBuf> {
        Vec::new()
    }

    /// A program that was ended does not come back.
    fn observe(&self, _: &Root) -> Vec<Observed> {
        Vec::new()
    }
}

impl fmt::Display for FreeNodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.nodes.iter().map(|node| node.path.to_string_lossy()).collect();
        let how = if self.end { "end the programs that hold" } else { "see that no program holds" };
        write!(f, "{how} {}", names.join(", "))
    }
}

impl FreeNodes {
    /// Looks before anything is taken whether a program holds the nodes that nothing ends: one in a unit of the system's
    /// that is not `stopped`, and that has none of the `hidden` nodes, which compositors will be told to close. The error
    /// names those.
    pub fn look(&self, root: &Root, stopped: &[&str], hidden: &[&Path]) -> Result<(), HeldError> {
        if self.end {
            return Ok(());
        }
        let mut holders = Vec::new();
        let free = wait_for_processes(root, GLANCE, || {
            holders = holders_of(root, &self.nodes);
            holders.retain(|holder| {
                holder.system_unit().is_some_and(|unit| !stopped.contains(&unit))
                    && !holder.nodes.iter().any(|node| hidden.contains(&node.as_path()))
            });
            holders.is_empty()
        });
        if free { Ok(()) } else { Err(HeldError::Programs { holders }) }
    }

    fn free(&self, root: &Root, send: &dyn Fn(&Holder, Signal)) -> Result<(), HeldError> {
        let mut holders = Vec::new();
        let mut wait = |limit| {
            let free = wait_for_processes(root, limit, || {
                holders = holders_of(root, &self.nodes);
                holders.is_empty()
            });
            (free, holders.clone())
        };
        let signals: &[Signal] = if self.end { &[Signal::SIGTERM, Signal::SIGKILL] } else { &[] };
        // Programs that are to be ended need not be waited for first.
        let (mut free, mut holders) = wait(if signals.is_empty() { LIMIT } else { Duration::ZERO });
        if !free && holders.iter().all(|holder| holder.is_broker() || is_logging_out(root, holder)) {
            (free, holders) = wait(USER_LIMIT);
        }
        for signal in signals {
            if free {
                break;
            }
            for holder in holders.iter().filter(|holder| holder.pid > 1 && !holder.is_broker()) {
                send(holder, *signal);
            }
            (free, holders) = wait(LIMIT);
        }
        if free { Ok(()) } else { Err(HeldError::Programs { holders }) }
    }
}

/// Whether the program ends without our doing: its user has logged out, and so the user's service manager ends (logind's
/// `/run/systemd/users/UID`, `logind-user.c`).
fn is_logging_out(root: &Root, holder: &Holder) -> bool {
    let state = |uid| root.text_up_to(format!("/run/systemd/users/{uid}"), 16 << 10);
    holder.manager.and_then(state).is_some_and(|text| text.lines().any(|line| line == "STATE=closing"))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const NODE: &str = "/dev/dri/card1";

    /// A root in which programs of these names hold the card, each as pid 1000, 1001, … of the user's service manager or, if
    /// it has no manager, as root.
    struct Holders(tempfile::TempDir);

    impl Holders {
        fn new(programs: &[(&str, Option<u32>)]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let root = Root::new(folder.path());
            for ((comm, manager), pid) in programs.iter().zip(1000..) {
                let process = root.path(format!("/proc/{pid}"));
                std::fs::create_dir_all(process.join("fd")).unwrap();
                std::os::unix::fs::symlink(NODE, process.join("fd/3")).unwrap();
                std::fs::write(process.join("comm"), comm).unwrap();
                let uid = manager.unwrap_or(0);
                std::fs::write(process.join("status"), format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n")).unwrap();
                let group = match manager {
                    Some(uid) => format!("/user.slice/user-{uid}.slice/user@{uid}.service/app.slice/mixer.service"),
                    None => format!("/system.slice/{comm}.service"),
                };
                std::fs::write(process.join("cgroup"), format!("0::{group}\n")).unwrap();
            }
            Self(folder)
        }

        fn root(&self) -> Root {
            Root::new(self.0.path())
        }

        fn state(&self, uid: u32, state: &str) {
            let folder = self.root().path("/run/systemd/users");
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(uid.to_string()), format!("NAME=ann\nSTATE={state}\n")).unwrap();
        }

        fn end(&self, pid: i32) {
            std::fs::remove_dir_all(self.root().path(format!("/proc/{pid}"))).unwrap();
        }

        /// Frees the card; `obeys`: whether a program ends with the first signal. Returns the signals that were sent.
        fn free(&self, end: bool, obeys: bool) -> (Result<(), HeldError>, Vec<(i32, Signal)>) {
            let node = Node { path: NODE.into(), major: 226, minor: 1, subsystem: "drm".to_owned() };
            let sent = RefCell::new(Vec::new());
            let result = FreeNodes { nodes: vec![node], end }.free(&self.root(), &|holder, signal| {
                sent.borrow_mut().push((holder.pid, signal));
                if obeys || signal == Signal::SIGKILL {
                    self.end(holder.pid);
                }
            });
            (result, sent.into_inner())
        }
    }

    #[test]
    fn programs_get_a_term_first_and_a_kill_only_if_they_stay() {
        let host = Holders::new(&[("Xorg", None)]);
        let (result, sent) = host.free(true, true);
        result.unwrap();
        assert_eq!(sent, [(1000, Signal::SIGTERM)]);
        let host = Holders::new(&[("Xorg", None)]);
        let (result, sent) = host.free(true, false);
        result.unwrap();
        assert_eq!(sent, [(1000, Signal::SIGTERM), (1000, Signal::SIGKILL)]);
    }

    #[test]
    fn session_brokers_get_no_signal() {
        for broker in ["systemd-logind", "elogind", "seatd"] {
            let host = Holders::new(&[(broker, None), ("Xorg", None)]);
            let (result, sent) = host.free(true, true);
            assert!(matches!(&result, Err(HeldError::Programs { holders }) if holders[0].comm == broker), "{result:?}");
            assert_eq!(sent.iter().map(|(pid, _)| *pid).collect::<Vec<_>>(), [1001], "{broker}");
        }
    }

    #[test]
    fn without_the_word_to_end_them_programs_get_no_signal() {
        let host = Holders::new(&[("Xorg", None)]);
        let (result, sent) = host.free(false, true);
        assert!(result.is_err());
        assert_eq!(sent, []);
    }

    #[test]
    fn before_anything_is_taken_only_programs_that_nothing_ends_are_in_the_way() {
        let node = Node { path: NODE.into(), major: 226, minor: 1, subsystem: "drm".to_owned() };
        let held_by = |programs: &[(&str, Option<u32>)], end, hidden: &[&Path]| {
            let nodes = vec![node.clone()];
            FreeNodes { nodes, end }.look(&Holders::new(programs).root(), &["gdm.service"], hidden)
        };
        let look = |programs: &[(&str, Option<u32>)], end| held_by(programs, end, &[]);
        look(&[("gdm", None), ("mixer", Some(1000)), ("systemd-logind", None), ("systemd-udevd", None)], false)
            .unwrap();
        look(&[("sunshine", None)], true).unwrap();
        // A compositor closes a card that goes.
        held_by(&[("desktop", None)], false, &[Path::new(NODE)]).unwrap();
        let error = look(&[("gdm", None), ("sunshine", None)], false).unwrap_err().to_string();
        assert!(error.starts_with("in use: sunshine (process 1001, sunshine.service). End them"), "{error}");
    }

    /// Ends the program when `free` has waited for it as long as for a program of a user who stays.
    fn leaves_late(state: &str) -> Result<(), HeldError> {
        let host = Holders::new(&[("mixer", Some(1000))]);
        host.state(1000, state);
        let late = host.root().limit(LIMIT) + host.root().limit(USER_LIMIT) / 2;
        std::thread::scope(|scope| {
            let ended = scope.spawn(|| {
                std::thread::sleep(late);
                host.end(1000);
            });
            let (result, sent) = host.free(false, true);
            ended.join().unwrap();
            assert_eq!(sent, []);
            result
        })
    }

    #[test]
    fn the_programs_of_a_user_who_logs_out_get_more_time() {
        leaves_late("closing").unwrap();
        assert!(leaves_late("active").is_err());
    }
}
