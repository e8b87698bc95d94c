//! Starting a child with everything set before its first instruction: descriptors at given numbers, user, limits, CPUs,
//! cgroup, and its end tied to ours if wanted.
//!
//! Over [`std::process::Command`], whose hook between fork and exec may only make system calls that are safe there
//! (signal-safety(7)): all that allocates, opens or formats is done before the fork.

mod last_choice;
mod setup;
mod steps;
mod wait;

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, Stdio};

use nix::fcntl::OFlag;
use nix::sys::resource::Resource;
use nix::sys::signal::{SigSet, Signal};

use crate::units::CpuSet;
pub use last_choice::LastChoice;
pub use setup::Session;
use setup::Setup;
pub use steps::SpawnError;
use steps::{ALL, DESCRIPTORS, Failed};
pub use wait::{pidfd, wait_until};

/// A child to be started. Its standard input is `/dev/null` unless given; the other two are ours.
#[derive(Debug)]
pub struct Command {
    inner: process::Command,
    fds: Vec<(RawFd, OwnedFd)>,
    setup: Setup,
}

impl Command {
    /// A child that runs this program, which is looked up in PATH unless it is a path.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut inner = process::Command::new(program);
        inner.stdin(Stdio::null());
        Self { inner, fds: Vec::new(), setup: Setup::default() }
    }

    /// Adds an argument.
    pub fn arg(&mut self, argument: impl AsRef<OsStr>) -> &mut Self {
        self.inner.arg(argument);
        self
    }

    /// Adds arguments.
    pub fn args<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(&mut self, arguments: I) -> &mut Self {
        self.inner.args(arguments);
        self
    }

    /// Sets a variable of its environment, which is ours otherwise.
    pub fn env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.inner.env(name, value);
        self
    }

    /// Removes a variable from its environment.
    pub fn env_remove(&mut self, name: impl AsRef<OsStr>) -> &mut Self {
        self.inner.env_remove(name);
        self
    }

    /// Starts with an empty environment.
    pub fn env_clear(&mut self) -> &mut Self {
        self.inner.env_clear();
        self
    }

    /// Sets its working directory.
    pub fn current_dir(&mut self, path: impl AsRef<Path>) -> &mut Self {
        self.inner.current_dir(path);
        self
    }

    /// Sets its standard input.
    pub fn stdin(&mut self, from: impl Into<Stdio>) -> &mut Self {
        self.inner.stdin(from);
        self
    }

    /// Sets its standard output.
    pub fn stdout(&mut self, to: impl Into<Stdio>) -> &mut Self {
        self.inner.stdout(to);
        self
    }

    /// Sets its standard error.
    pub fn stderr(&mut self, to: impl Into<Stdio>) -> &mut Self {
        self.inner.stderr(to);
        self
    }

    /// Gives it a descriptor under this number (3 and up; use `stdin` and so on for the others). No other descriptor
    /// of ours reaches it, also none that we inherited by somebody's mistake.
    pub fn fd(&mut self, number: RawFd, fd: OwnedFd) -> &mut Self {
        self.fds.push((number, fd));
        self
    }

    /// Sets which session it joins.
    pub fn session(&mut self, session: Session) -> &mut Self {
        self.setup.session = session;
        self
    }

    /// Sets its file mode creation mask.
    pub fn umask(&mut self, mask: u32) -> &mut Self {
        self.setup.umask = Some(mask);
        self
    }

    /// Has it join a cgroup, given as the open `cgroup.procs` file of that.
    pub fn cgroup_procs(&mut self, file: OwnedFd) -> &mut Self {
        self.setup.cgroup_procs = Some(file);
        self
    }

    /// Has it born on these CPUs; threads that it makes inherit them.
    pub fn affinity(&mut self, cpus: &CpuSet) -> &mut Self {
        self.setup.affinity = Some(setup::mask(cpus));
        self
    }

    /// Sets a limit of its resources; set before its user is, so that a raise is allowed.
    pub fn rlimit(&mut self, resource: Resource, soft: u64, hard: u64) -> &mut Self {
        self.setup.limits.push((resource, soft, hard));
        self
    }

    /// Has it run as another user with exactly these supplementary groups; needs root.
    pub fn user(&mut self, uid: u32, gid: u32, groups: &[u32]) -> &mut Self {
        self.setup.user = Some((uid, gid, groups.to_vec()));
        self
    }

    /// Has it run in a user namespace of its own, in which nobody has a name. The step that fails if that is refused is
    /// [`SpawnError::NAMESPACE`].
    pub fn user_namespace(&mut self) -> &mut Self {
        self.setup.user_namespace = true;
        self
    }

    /// Keeps these signals from it and from what it starts, whatever handlers it installs, unless it unblocks them itself.
    pub fn block_signals(&mut self, signals: &[Signal]) -> &mut Self {
        self.setup.blocked = Some(*signals.iter().copied().collect::<SigSet>().as_ref());
        self
    }

    /// Has the kernel send it this signal when *the thread that spawns it* ends. So spawn from the main thread.
    pub fn death_signal(&mut self, signal: Signal) -> &mut Self {
        self.setup.death_signal = Some(signal);
        self
    }

    /// Starts it. The given descriptors are closed in our process.
    pub fn spawn(self) -> Result<process::Child, SpawnError> {
        let program = self.program();
        self.start().map_err(|failed| failed.named(program))
    }

    /// Sets everything up in a child that ends there and does not run the program: whether the kernel allows it.
    pub fn try_setup(mut self) -> Result<(), SpawnError> {
        let program = self.program();
        self.setup.ends = true;
        match self.start() {
            Err(Failed { step: ALL, .. }) => Ok(()),
            Err(failed) => Err(failed.named(program)),
            Ok(mut child) => child.wait().map(drop).map_err(|source| Failed { step: 0, source }.named(program)),
        }
    }

    fn program(&self) -> String {
        self.inner.get_program().to_string_lossy().into_owned()
    }

    fn start(mut self) -> Result<process::Child, Failed> {
        let fail = |step, source| Failed { step, source };
        let reserved = self.place_fds().map_err(|e| fail(DESCRIPTORS, e))?;
        let (report_in, report_out) =
            nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(|e| fail(DESCRIPTORS, e.into()))?;
        // A target may have been handed out to the pipe by a race with another thread only; see `place_fds`.
        let mut setup = self.setup;
        setup.parent = nix::unistd::getpid().as_raw();
        setup.oom_score_adj = last_choice::of_children().map(|value| value.to_string());
        let run = move || {
            setup.run().map_err(|(step, error)| {
                // The parent gets nothing but errno from std, so the step goes its own way. Should this write fail,
                // the step is merely less exact.
                let _ = nix::unistd::write(&report_out, &[step]);
                io::Error::from(error)
            })
        };
        // SAFETY: `run` makes only system calls on memory prepared before the fork: no allocation, no lock, no panic.
        // Dropping `io::Error::from(Errno)` frees nothing, as it holds a number.
        unsafe { self.inner.pre_exec(run) };
        let spawned = self.inner.spawn();
        // The command holds our end of the report's writer and the child's descriptors; both close here.
        drop(self.inner);
        drop(reserved);
        spawned.map_err(|source| {
            let mut step = [0];
            let known = std::fs::File::from(report_in).read(&mut step).is_ok_and(|read| read == 1);
            fail(if known && step[0] <= ALL { step[0] } else { 0 }, source)
        })
    }

    /// Moves the sources above all targets, so that no `dup2` in the child runs over a source that is still needed,
    /// and occupies the targets that are free, so that nothing opened until the fork (std's own error pipe, above all)
    /// lands on one and is run over.
    fn place_fds(&mut self) -> io::Result<Vec<OwnedFd>> {
        let Some(highest) = self.fds.iter().map(|(number, _)| *number).max() else { return Ok(Vec::new()) };
        let mut reserved = Vec::new();
        for (number, source) in std::mem::take(&mut self.fds) {
            if number < 3 || self.setup.fds.iter().any(|(_, taken)| *taken == number) {
                let words = format!("descriptor {number} is taken");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, words));
            }
            let above = dup_from(source.as_fd(), highest + 1)?;
            // SAFETY: F_GETFD only looks; a number that is not open gives EBADF.
            if unsafe { libc::fcntl(number, libc::F_GETFD) } == -1 {
                reserved.push(dup_from(above.as_fd(), number)?);
            }
            // `source` may itself be one of the targets: it stays open, hence occupied, until the spawn is done.
            reserved.push(source);
            self.setup.fds.push((above, number));
        }
        Ok(reserved)
    }
}

/// Duplicates a descriptor to the first free number from here on, closed on exec.
fn dup_from(fd: BorrowedFd<'_>, lowest: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: a duplication of a borrowed, hence open, descriptor; the new one belongs to nobody else.
    unsafe {
        let new = libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, lowest);
        if new == -1 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(new)) }
    }
}

#[cfg(test)]
mod tests;
