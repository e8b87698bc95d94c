//! The launcher that holds a machine's lock, reached as a process: there is no control socket yet while it starts, is
//! rehearsed or takes a guest over, and none any more while the host is being restored.

use std::fs::{self, Metadata};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::lock::Lock;

/// A process that held a machine's lock when it was looked for.
#[derive(Debug)]
pub struct Launcher {
    pid: i32,
    pidfd: OwnedFd,
}

impl Launcher {
    /// The process that holds the lock of this run directory; `None` if that cannot be found out. The number in the lock
    /// file is not enough: it may be that of an earlier launcher, and by now another process's.
    pub fn of(run: &Path) -> Option<Self> {
        let pid = Lock::owner(run)?.pid?;
        let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        // Looked at after the descriptor was opened: who holds the lock now did not come by the number in between, or
        // the descriptor stands for a process that is gone, which no signal reaches.
        holds(pid, &fs::metadata(run.join(Lock::FILE)).ok()?).then_some(Self { pid, pidfd })
    }

    /// Sends it SIGTERM, which asks it to end as Ctrl-C does. Returns false, without a signal, for a process that has no
    /// handler for it and would die: it has not begun to listen yet, or it is a `recover`.
    pub fn terminate(&self) -> Result<bool> {
        if !catches(self.pid, Signal::TERM) {
            return Ok(false);
        }
        match pidfd_send_signal(&self.pidfd, Signal::TERM) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(true),
            Err(error) => Err(error).with_context(|| format!("cannot send a signal to process {}", self.pid)),
        }
    }

    /// Waits for its end, at most so long, and returns whether it has ended.
    pub fn has_ended_within(&self, limit: Duration) -> Result<bool> {
        let mut watched = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut watched, PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX)) {
            Ok(ready) => Ok(ready > 0),
            Err(nix::errno::Errno::EINTR) => Ok(false),
            Err(error) => Err(error).context("cannot wait for a process"),
        }
    }
}

/// Whether a process holds the lock of this file: an open description of it has one, as its `fdinfo` tells
/// (proc_pid_fdinfo(5)). A process that only asks whether the file is locked has it open too, but without an exclusive lock.
pub(in crate::run) fn holds(pid: i32, file: &Metadata) -> bool {
    let folder = format!("/proc/{pid}/fd");
    let locked = |number: &str| {
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
        let mut locks = info.lines().filter(|line| line.starts_with("lock:"));
        locks.any(|line| ["FLOCK", "WRITE"].iter().all(|word| line.split_ascii_whitespace().any(|w| w == *word)))
    };
    let is_it = |path: &Path| fs::metadata(path).is_ok_and(|m| (m.dev(), m.ino()) == (file.dev(), file.ino()));
    let mut open = fs::read_dir(folder).into_iter().flatten().flatten();
    open.any(|entry| is_it(&entry.path()) && entry.file_name().to_str().is_some_and(locked))
}

/// Whether a process has a handler of its own for a signal (`SigCgt` in proc_pid_status(5)).
fn catches(pid: i32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & 1 << (signal.as_raw() - 1) != 0
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn only_the_process_that_holds_the_lock_is_its_launcher() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("a");
        assert!(Launcher::of(&run).is_none());
        let lock = Lock::take(&run).unwrap().unwrap();
        let pid = std::process::id() as i32;
        assert_eq!(Launcher::of(&run).unwrap().pid, pid);
        // The number of another process, as after a dead launcher, whose number another process got.
        let mut other = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        fs::write(run.join(Lock::FILE), other.id().to_string()).unwrap();
        assert!(Launcher::of(&run).is_none());
        // One that has the file open and not locked.
        let open = fs::File::open(run.join(Lock::FILE)).unwrap();
        let mut reader = Command::new("sleep").arg("1000").stdin(open).spawn().unwrap();
        fs::write(run.join(Lock::FILE), reader.id().to_string()).unwrap();
        assert!(Launcher::of(&run).is_none());
        for child in [&mut other, &mut reader] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        lock.remove_folder().unwrap();
        assert!(Launcher::of(&run).is_none());
    }

    #[test]
    fn a_process_without_a_handler_gets_no_signal() {
        let mut child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        let pid = child.id() as i32;
        let pidfd = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
        let launcher = Launcher { pid, pidfd };
        assert!(!launcher.terminate().unwrap());
        assert!(!launcher.has_ended_within(Duration::ZERO).unwrap());
        child.kill().unwrap();
        assert!(launcher.has_ended_within(Duration::from_secs(30)).unwrap());
        child.wait().unwrap();
    }
}
