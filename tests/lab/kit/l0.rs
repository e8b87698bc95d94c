//! The QEMU that emulates a lab host: one process, its monitor, and its death.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::qmp::Qmp;
use super::tools;

/// Where QEMU finds its ends of the connections: the monitor, the agent's serial port, the console.
pub const QMP_FD: i32 = 10;
/// See [`QMP_FD`].
pub const AGENT_FD: i32 = 11;
/// See [`QMP_FD`]; only when somebody sits at the console.
pub const CONSOLE_FD: i32 = 12;

/// A running L0 QEMU. It is killed when dropped, and by the kernel when the test process dies.
pub struct L0 {
    child: Child,
    /// Its monitor.
    pub qmp: Qmp,
    said: std::path::PathBuf,
}

/// Our ends of the serial lines.
pub struct Lines {
    /// To the agent.
    pub agent: UnixStream,
    /// To the console, when asked for.
    pub console: Option<UnixStream>,
}

impl L0 {
    /// Starts QEMU with `args` and waits for its monitor. What it says goes to `said`.
    ///
    /// # Errors
    /// With what it said, when it ends at once.
    pub fn start(args: &[String], said: &Path, console: bool) -> Result<(Self, Lines)> {
        let (qmp, qmp_theirs) = UnixStream::pair()?;
        let (agent, agent_theirs) = UnixStream::pair()?;
        let mut handed: Vec<(OwnedFd, i32)> = vec![(qmp_theirs.into(), QMP_FD), (agent_theirs.into(), AGENT_FD)];
        let console = if console {
            let (ours, theirs) = UnixStream::pair()?;
            handed.push((theirs.into(), CONSOLE_FD));
            Some(ours)
        } else {
            None
        };
        let log = File::create(said)?;
        let mut command = Command::new(tools::qemu()?);
        command.args(args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let parent = nix::unistd::getpid();
        // SAFETY: only async-signal-safe calls between fork and exec; the descriptors outlive the spawn.
        unsafe {
            let fds: Vec<(i32, i32)> = handed.iter().map(|(fd, number)| (fd.as_raw_fd(), *number)).collect();
            command.pre_exec(move || {
                die_with(parent)?;
                hand_over(&fds)
            });
        }
        let mut child = command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
        drop(handed);
        match Qmp::open(qmp, Instant::now() + Duration::from_secs(60)) {
            Ok(qmp) => Ok((Self { child, qmp, said: said.to_owned() }, Lines { agent, console })),
            Err(error) => {
                drop(child.kill());
                let status = child.wait()?;
                Err(error.context(format!("L0's QEMU ended with {status}: {}", words(said))))
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Processor time so far: unlike time on the clock it says the same on a machine that has other work.
    pub fn worked(&self) -> Result<Duration> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        // proc_pid_stat(5): utime and stime are the 14th and 15th; the name before them may have anything in it.
        let fields = text.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default();
        let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.unwrap_or(100);
        Ok(Duration::from_millis(ticks * 1000 / per_second.unsigned_abs().max(1)))
    }

    /// Cuts the power: SIGKILL, and gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits until the emulated machine has switched itself off.
    ///
    /// # Errors
    /// When `deadline` passes.
    pub fn wait(&mut self, deadline: Instant) -> Result<()> {
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("the lab host did not switch itself off");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Why nothing comes from it any more, if it has ended.
    pub fn obituary(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok()??;
        Some(format!("L0's QEMU ended with {status}: {}", words(&self.said)))
    }
}

impl Drop for L0 {
    fn drop(&mut self) {
        drop(self.kill());
    }
}

/// What QEMU said, on one line or a few.
fn words(said: &Path) -> String {
    let text = std::fs::read_to_string(said).unwrap_or_default();
    if text.trim().is_empty() { "it said nothing".into() } else { text.trim().to_owned() }
}

/// Asks the kernel to kill this process when the thread that forked it ends. A lab lives in its test's thread.
fn die_with(parent: nix::unistd::Pid) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    // It may have died before the call.
    if nix::unistd::getppid() != parent {
        return Err(io::ErrorKind::Interrupted.into());
    }
    Ok(())
}

/// Puts each descriptor under its number, without the close-on-exec flag.
fn hand_over(fds: &[(i32, i32)]) -> io::Result<()> {
    // First out of the way: one's number may be another's place.
    const ASIDE: i32 = 64;
    for (at, (fd, _)) in (ASIDE..).zip(fds) {
        // SAFETY: plain system calls on descriptors that we own.
        if unsafe { libc::dup2(*fd, at) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    for (at, (_, number)) in (ASIDE..).zip(fds) {
        // SAFETY: as above.
        if unsafe { libc::dup2(at, *number) } < 0 || unsafe { libc::close(at) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
