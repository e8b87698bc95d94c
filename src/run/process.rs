//! A process that is watched through a pidfd, whether it is our child or was adopted.

use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use super::watch_fd::watch_readable;

/// How long a process may take to be gone after SIGKILL: the kernel frees its memory and resets its devices first, and
/// may be stuck there.
pub const END_LIMIT: Duration = Duration::from_secs(30);

/// A process, by a descriptor that never stands for another process.
#[derive(Debug)]
pub struct Watched {
    pid: i32,
    pidfd: AsyncFd<OwnedFd>,
    /// When it was sent SIGKILL first.
    killed: OnceLock<Instant>,
    /// How it ended, which the kernel tells once.
    status: OnceLock<ExitStatus>,
}

/// A child that is never left behind: neither by an error nor, if it has a death signal, by a launcher that dies.
pub struct KilledOnDrop(pub Watched);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        if self.0.reap().is_none() {
            self.0.kill();
        }
    }
}

/// A process that does not exit after SIGKILL.
#[derive(Debug, thiserror::Error)]
#[error(
    "{name} (process {pid}) does not exit after SIGKILL: the kernel is stuck in it, and only a reboot frees what it \
     holds{threads}"
)]
pub struct Unkillable {
    name: String,
    pid: i32,
    threads: String,
}

impl Watched {
    /// Watches a process that is known to be there: our child, not waited for yet.
    pub fn child(pid: i32) -> Result<Self> {
        let raw = rustix::process::Pid::from_raw(pid).context("0 is no process")?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty()).with_context(|| format!("cannot watch process {pid}"))?;
        Ok(Self { pid, pidfd: watch_readable(pidfd)?, killed: OnceLock::new(), status: OnceLock::new() })
    }

    /// Watches a process by its number, if it is still the one that was started at `start_time` (see [`start_time`]).
    pub fn adopt(pid: i32, started: u64) -> Result<Option<Self>> {
        if start_time(pid) != Some(started) {
            return Ok(None);
        }
        let watched = Self::child(pid)?;
        // Between the look and the descriptor the number may have gone to another.
        Ok((start_time(pid) == Some(started)).then_some(watched))
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits until it has ended. Costs no wake-up before that.
    pub async fn ended(&self) -> Result<()> {
        self.pidfd.readable().await.context("cannot wait for a process")?.retain_ready();
        Ok(())
    }

    /// The same for a caller that watches several.
    pub fn poll_ended(&self, context: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        self.pidfd.poll_read_ready(context).map(|ready| {
            if let Ok(mut ready) = ready {
                ready.retain_ready();
            }
        })
    }

    /// How it ended, for a child that has; `None` for a process that is not ours.
    pub fn reap(&self) -> Option<ExitStatus> {
        // A number that was waited for may be another process's by now.
        if let Some(status) = self.status.get() {
            return Some(*status);
        }
        let status = match waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => ExitStatus::from_raw(code << 8),
            Ok(WaitStatus::Signaled(_, signal, core)) => {
                ExitStatus::from_raw(signal as i32 | if core { 0x80 } else { 0 })
            }
            Ok(_) | Err(Errno::ECHILD) | Err(_) => return None,
        };
        Some(*self.status.get_or_init(|| status))
    }

    /// Sends SIGKILL and waits until it is gone, no longer than [`END_LIMIT`] after it was first sent one.
    pub async fn end(&self, name: &str) -> Result<(), Unkillable> {
        self.kill();
        self.ended_by(*self.killed.get_or_init(Instant::now) + END_LIMIT, name).await
    }

    async fn ended_by(&self, deadline: Instant, name: &str) -> Result<(), Unkillable> {
        match tokio::time::timeout_at(deadline, self.ended()).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Unkillable { name: name.to_owned(), pid: self.pid, threads: threads_left(self.pid) }),
        }
    }

    /// Sends SIGKILL; a process that is gone already is no error.
    pub fn kill(&self) {
        self.killed.get_or_init(Instant::now);
        self.signal(Signal::KILL);
    }

    /// Sends SIGTERM; a process that is gone already is no error.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    fn signal(&self, signal: Signal) {
        if let Err(e) = pidfd_send_signal(&self.pidfd, signal)
            && e != rustix::io::Errno::SRCH
        {
            tracing::warn!("cannot send a signal to process {}: {e}", self.pid);
        }
    }
}

/// When a process was started, in clock ticks since boot. `None` if there is no such process, or nothing but a zombie: one
/// whose first thread has ended and another has not still has all that it had.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = Stat::read(pid)?;
    (!stat.first_ended || stat.threads > 1).then_some(stat.started)
}

/// Whether a process's first thread has ended or begun to. The kernel may be at the rest for long, or be stuck there.
pub(in crate::run) fn is_ending(pid: i32) -> bool {
    Stat::read(pid).is_some_and(|stat| stat.first_ended || stat.first_exits)
}

/// What lets a process go on that a signal has stopped (SIGSTOP, Ctrl-Z), or `None` for one that was not. `what` is what people
/// call it.
pub fn remedy_if_stopped(what: &str, pid: Option<i32>) -> Option<String> {
    let pid = pid.filter(|pid| is_stopped(*pid))?;
    Some(format!("{what} was stopped by a signal; `kill -CONT {pid}` lets it go on"))
}

/// Whether a process was stopped by a signal (SIGSTOP, Ctrl-Z). A debugger stops it for moments (`t`), and lets it go on itself.
fn is_stopped(pid: i32) -> bool {
    Stat::read(pid).is_some_and(|stat| stat.stopped)
}

/// What the kernel says of a process (proc_pid_stat(5)).
struct Stat {
    stopped: bool,
    /// Its first thread has ended.
    first_ended: bool,
    /// Its first thread has begun to end (`PF_EXITING`, include/linux/sched.h).
    first_exits: bool,
    threads: u64,
    started: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        const PF_EXITING: u64 = 4;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may itself hold blanks and parentheses. What follows is the state, field 3.
        let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            stopped: *fields.first()? == "T",
            first_ended: matches!(*fields.first()?, "Z" | "X"),
            first_exits: number(9)? & PF_EXITING != 0,
            threads: number(20)?,
            started: number(22)?,
        })
    }
}

/// Where in the kernel each thread of a process is (proc_pid_wchan(5), which answers root), as the end of a sentence.
fn threads_left(pid: i32) -> String {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let threads = tasks.filter_map(|task| {
        let place = std::fs::read_to_string(task.path().join("wchan")).ok()?;
        let thread = task.file_name().into_string().ok()?;
        // One that waits for nothing but a CPU has no place.
        (!matches!(&*place, "" | "0")).then(|| format!("; its thread {thread} waits in {place}"))
    });
    threads.collect()
}

#[cfg(test)]
pub(in crate::run) mod tests {
    use super::*;

    #[test]
    fn a_process_has_one_start_time_and_a_missing_one_none() {
        let own = std::process::id() as i32;
        assert!(start_time(own).is_some());
        assert_eq!(start_time(own), start_time(own));
        assert_eq!(start_time(i32::MAX), None);
    }

    /// A process whose first thread has ended, while another one waits.
    pub(in crate::run) fn without_first_thread() -> KilledOnDrop {
        // SAFETY: the child makes a thread and ends its own, and takes no lock that another of our threads may have had.
        let process = match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Parent { child } => KilledOnDrop(Watched::child(child.as_raw()).unwrap()),
            nix::unistd::ForkResult::Child => {
                // SAFETY: what other tests have open is theirs; nothing here uses it.
                unsafe { libc::close_range(3, u32::MAX, 0) };
                drop(std::thread::spawn(|| {
                    loop {
                        nix::unistd::pause();
                    }
                }));
                // SAFETY: ends this thread alone (_exit(2), notes).
                unsafe { libc::syscall(libc::SYS_exit, 0) };
                std::process::abort()
            }
        };
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while !Stat::read(process.0.pid()).unwrap().first_ended {
            assert!(std::time::Instant::now() < deadline, "its first thread does not end");
            std::thread::yield_now();
        }
        process
    }

    #[tokio::test]
    async fn a_process_without_its_first_thread_is_ending_and_still_there() {
        let process = without_first_thread();
        let pid = process.0.pid();
        assert!(is_ending(pid) && !is_ending(std::process::id() as i32));
        let adopted = Watched::adopt(pid, start_time(pid).unwrap()).unwrap().unwrap();
        let stuck = adopted.ended_by(Instant::now(), "QEMU").await.unwrap_err().to_string();
        assert!(stuck.contains("does not exit after SIGKILL"), "{stuck}");
        adopted.end("QEMU").await.unwrap();
        assert_eq!(start_time(pid), None);
    }

    #[tokio::test]
    async fn the_wait_for_a_process_that_does_not_end_has_a_limit() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let watched = Watched::child(child.id() as i32).unwrap();
        let stuck = watched.ended_by(Instant::now(), "QEMU").await.unwrap_err().to_string();
        assert!(stuck.starts_with(&format!("QEMU (process {}) does not exit after SIGKILL", child.id())), "{stuck}");
        watched.end("QEMU").await.unwrap();
        child.wait().unwrap();
    }
}
