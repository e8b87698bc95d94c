//! Starting a child with everything set before its first instruction: descriptors at given numbers, user, limits, CPUs,
//! cgroup, and its end tied to ours if wanted.
//!
//! Over [`std::process::Command`], whose hook between fork and exec may only make system calls that are safe there
//! (signal-safety(7)): all that allocates, opens or formats is done before the fork.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal};

use crate::units::CpuSet;

/// What is set up in a child, in order; its number is what a failing child reports.
const STEPS: [&str; 13] = [
    "start it",
    "enter its session",
    "enter its cgroup",
    "set its CPUs",
    "set its limits",
    "leave our keyring",
    "set its groups",
    "set its group",
    "set its user",
    "tie its end to ours",
    "tie its end to ours (we are gone)",
    "hand over its descriptors",
    "make a user namespace",
];
const SESSION: u8 = 1;
const CGROUP: u8 = 2;
const AFFINITY: u8 = 3;
const LIMITS: u8 = 4;
const KEYRING: u8 = 5;
const GROUPS: u8 = 6;
const GROUP: u8 = 7;
const USER: u8 = 8;
const DEATH_SIGNAL: u8 = 9;
const ORPHAN: u8 = 10;
const DESCRIPTORS: u8 = 11;
const NAMESPACE: u8 = 12;
/// What a child reports that was to do all of them and no more.
const ALL: u8 = STEPS.len() as u8;

/// A child that could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {program}: could not {step}")]
pub struct SpawnError {
    /// The program.
    pub program: String,
    /// What failed, as words after "could not".
    pub step: &'static str,
    /// The kernel's answer.
    #[source]
    pub source: io::Error,
}

impl SpawnError {
    /// The step at which a user namespace is made.
    pub const NAMESPACE: &str = STEPS[NAMESPACE as usize];
}

/// Which session and process group a child joins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Session {
    /// Ours: it shares our terminal and its signals (Ctrl-C reaches it).
    #[default]
    Ours,
    /// A process group of its own in our session: Ctrl-C does not reach it, and it can't read the terminal.
    OwnGroup,
    /// A session of its own, without a terminal.
    Own,
}

/// The number of a step, and the kernel's answer.
struct Failed {
    step: u8,
    source: io::Error,
}

impl Failed {
    fn named(self, program: String) -> SpawnError {
        SpawnError {
            program,
            step: STEPS.get(usize::from(self.step)).copied().unwrap_or(STEPS[0]),
            source: self.source,
        }
    }
}

/// A child to be started. Its standard input is `/dev/null` unless given; the other two are ours.
#[derive(Debug)]
pub struct Command {
    inner: process::Command,
    fds: Vec<(RawFd, OwnedFd)>,
    setup: Setup,
}

/// What the child does between fork and exec. Plain data, all allocated before.
#[derive(Debug, Default)]
struct Setup {
    session: Session,
    umask: Option<libc::mode_t>,
    cgroup_procs: Option<OwnedFd>,
    affinity: Option<Vec<u64>>,
    limits: Vec<(Resource, u64, u64)>,
    user: Option<(libc::uid_t, libc::gid_t, Vec<libc::gid_t>)>,
    user_namespace: bool,
    blocked: Option<libc::sigset_t>,
    death_signal: Option<Signal>,
    /// Whether the child ends in place of running the program.
    ends: bool,
    parent: libc::pid_t,
    /// Sources, all numbered above the highest target, with their targets.
    fds: Vec<(OwnedFd, RawFd)>,
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
        self.setup.affinity = Some(mask(cpus));
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

impl Setup {
    /// Runs in the child, between fork and exec.
    fn run(&self) -> Result<(), (u8, nix::Error)> {
        let at = |step: u8| move |error: nix::Error| (step, error);
        match self.session {
            Session::Ours => {}
            Session::OwnGroup => check(call_setpgid()).map_err(at(SESSION))?,
            Session::Own => nix::unistd::setsid().map(drop).map_err(at(SESSION))?,
        }
        if let Some(mask) = self.umask {
            // SAFETY: umask(2) can't fail and touches no memory.
            unsafe { libc::umask(mask) };
        }
        // After std, which starts every child with none blocked.
        if let Some(blocked) = &self.blocked {
            // SAFETY: the set is read, and no old one is asked for. sigprocmask(2) fails only for what is no set.
            unsafe { libc::sigprocmask(libc::SIG_BLOCK, blocked, std::ptr::null_mut()) };
        }
        if let Some(procs) = &self.cgroup_procs {
            nix::unistd::write(procs, b"0").map_err(at(CGROUP))?;
        }
        // After the cgroup, whose cpuset may narrow and reset the CPUs.
        if let Some(mask) = &self.affinity {
            check(set_affinity(mask)).map_err(at(AFFINITY))?;
        }
        for (resource, soft, hard) in &self.limits {
            setrlimit(*resource, *soft, *hard).map_err(at(LIMITS))?;
        }
        if let Some((uid, gid, groups)) = &self.user {
            match leave_session_keyring() {
                // A kernel without keyrings, or one that keeps them from us, and so from the child.
                Ok(()) | Err(nix::Error::ENOSYS | nix::Error::EPERM) => {}
                Err(error) => return Err((KEYRING, error)),
            }
            // SAFETY: the pointer and the length are those of a living vector. The raw calls act on this thread, which
            // is the only one after the fork; glibc's wrappers would look for others.
            unsafe {
                check(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr())).map_err(at(GROUPS))?;
                check(libc::syscall(libc::SYS_setresgid, *gid, *gid, *gid)).map_err(at(GROUP))?;
                check(libc::syscall(libc::SYS_setresuid, *uid, *uid, *uid)).map_err(at(USER))?;
            }
        }
        if self.user_namespace {
            // The kernel wants a process of one thread, which a child is.
            nix::sched::unshare(CloneFlags::CLONE_NEWUSER).map_err(at(NAMESPACE))?;
        }
        // After the user, because a change of user clears it (prctl(2), PR_SET_PDEATHSIG).
        if let Some(signal) = self.death_signal {
            nix::sys::prctl::set_pdeathsig(signal).map_err(at(DEATH_SIGNAL))?;
            // The parent may have died before; then nothing would ever be sent.
            if nix::unistd::getppid().as_raw() != self.parent {
                return Err((ORPHAN, nix::Error::ESRCH));
            }
        }
        // What was inherited without close-on-exec by somebody's mistake stops here. Kernels before 5.11 can't; there
        // the child keeps such descriptors, as everywhere.
        // SAFETY: the call changes flags of descriptors only.
        unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
        for (source, target) in &self.fds {
            // dup2 leaves close-on-exec clear on the target alone.
            // SAFETY: both are numbers; the source is open and differs from every target (see `place_fds`).
            check(unsafe { libc::dup2(source.as_raw_fd(), *target) }.into()).map_err(at(DESCRIPTORS))?;
        }
        // std ends a child whose setup failed.
        if self.ends { Err((ALL, nix::Error::ECANCELED)) } else { Ok(()) }
    }
}

/// A descriptor that becomes readable when the child has ended. Race-free until the child is waited for.
pub fn pidfd(child: &process::Child) -> io::Result<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?)
}

/// Waits for a child to end, until the deadline at the latest; `None` if it still runs then.
pub fn wait_until(child: &mut process::Child, deadline: Instant) -> io::Result<Option<process::ExitStatus>> {
    let pidfd = pidfd(child)?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        // Rounded up, so that the last wait is not a spin of zero milliseconds.
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
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

/// Joins an empty session keyring of its own. The one that is inherited may hold keys of the login session, and who has it
/// may search it whatever user it is by then (session-keyring(7)).
fn leave_session_keyring() -> Result<(), nix::Error> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: without a name there is no pointer to anything.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) })
}

fn call_setpgid() -> libc::c_long {
    // SAFETY: takes two numbers.
    unsafe { libc::setpgid(0, 0) }.into()
}

fn set_affinity(mask: &[u64]) -> libc::c_long {
    // SAFETY: the length in bytes and the pointer are those of a living slice, which is only read. The raw call takes
    // masks of any length, glibc's `cpu_set_t` ends at CPU 1023.
    unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(mask), mask.as_ptr()) }
}

fn check(result: libc::c_long) -> Result<(), nix::Error> {
    if result == -1 { Err(nix::Error::last()) } else { Ok(()) }
}

/// The kernel's mask of CPUs: bit n of the whole is CPU n.
fn mask(cpus: &CpuSet) -> Vec<u64> {
    let last = cpus.iter().next_back().unwrap_or_default();
    let mut mask = vec![0u64; last as usize / 64 + 1];
    for cpu in cpus.iter() {
        mask[cpu as usize / 64] |= 1 << (cpu % 64);
    }
    mask
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn output(mut command: Command) -> String {
        command.stdout(Stdio::piped());
        let child = command.spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }

    fn pipe_with(text: &str) -> OwnedFd {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        std::fs::File::from(write).write_all(text.as_bytes()).unwrap();
        read
    }

    #[test]
    fn descriptors_reach_their_numbers_even_when_these_are_each_other() {
        let (first, second) = (pipe_with("first"), pipe_with("second"));
        let (a, b) = (first.as_raw_fd(), second.as_raw_fd());
        let mut cat = Command::new("/bin/cat");
        cat.arg(format!("/proc/self/fd/{a}")).arg(format!("/proc/self/fd/{b}"));
        cat.fd(b, first).fd(a, second);
        assert_eq!(output(cat), "secondfirst");
    }

    #[test]
    fn no_other_descriptor_reaches_it() {
        let leaked = pipe_with("");
        // SAFETY: clears close-on-exec on a descriptor of this test.
        unsafe { libc::fcntl(leaked.as_raw_fd(), libc::F_SETFD, 0) };
        let mut ls = Command::new("/bin/ls");
        ls.arg("/proc/self/fd").fd(9, pipe_with(""));
        // 3 is what `ls` itself opens.
        assert_eq!(output(ls).split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3", "9"]);
    }

    #[test]
    fn a_descriptor_is_given_once_and_never_as_a_standard_one() {
        for numbers in [[3, 3], [2, 3]] {
            let mut cat = Command::new("/bin/true");
            cat.fd(numbers[0], pipe_with("")).fd(numbers[1], pipe_with(""));
            assert_eq!(cat.spawn().unwrap_err().step, STEPS[usize::from(DESCRIPTORS)]);
        }
    }

    #[test]
    fn what_was_set_holds_in_the_child() {
        let mut cat = Command::new("/bin/cat");
        cat.arg("/proc/self/status").arg("/proc/self/limits");
        cat.umask(0o027).affinity(&"0".parse().unwrap());
        cat.rlimit(Resource::RLIMIT_CORE, 0, 0).death_signal(Signal::SIGKILL).session(Session::Own);
        cat.block_signals(&[Signal::SIGTERM, Signal::SIGHUP]);
        let text = output(cat);
        for line in ["Umask:\t0027\n", "Cpus_allowed_list:\t0\n", "SigBlk:\t0000000000004001\n"] {
            assert!(text.contains(line), "{line:?} in {text}");
        }
        let core = text.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
    }

    #[test]
    fn a_failure_names_its_step() {
        let mut nowhere = Command::new("/bin/true");
        nowhere.affinity(&"8000-8191".parse().unwrap()).fd(3, pipe_with(""));
        let error = nowhere.spawn().unwrap_err();
        assert_eq!(error.to_string(), "cannot start /bin/true: could not set its CPUs");
        // With 3 as a target, std's own error pipe must not have been run over.
        let mut missing = Command::new("/nonexistent/program");
        missing.fd(3, pipe_with("")).fd(4, pipe_with("")).fd(5, pipe_with(""));
        let error = missing.spawn().unwrap_err();
        assert_eq!((error.step, error.source.kind()), ("start it", io::ErrorKind::NotFound));
    }

    #[test]
    fn a_setup_that_is_only_tried_runs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let ran = folder.path().join("ran");
        let mut touch = Command::new("/bin/touch");
        touch.arg(&ran).session(Session::Own);
        touch.try_setup().unwrap();
        assert!(!ran.exists());
        let mut nowhere = Command::new("/bin/touch");
        nowhere.affinity(&"8000-8191".parse().unwrap());
        assert_eq!(nowhere.try_setup().unwrap_err().step, "set its CPUs");
    }

    #[test]
    #[ignore = "needs root"]
    fn as_root_it_becomes_exactly_the_user() {
        let mut cat = Command::new("/bin/cat");
        cat.arg("/proc/self/status").user(65534, 65533, &[65532, 65531]).death_signal(Signal::SIGTERM);
        let text = output(cat);
        for line in ["Uid:\t65534\t65534\t65534\t65534\n", "Gid:\t65533\t65533\t65533\t65533\n", "Groups:\t65531 65532"]
        {
            assert!(text.contains(line), "{line:?} in {text}");
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn as_root_another_users_child_has_no_key_of_our_session() {
        let (kind, name, key) = (c"user", c"vfio-run-test", b"hunter2");
        leave_session_keyring().unwrap();
        // SAFETY: two strings that end in zero, and bytes with their length; -3 is KEY_SPEC_SESSION_KEYRING.
        let added = unsafe {
            libc::syscall(libc::SYS_add_key, kind.as_ptr(), name.as_ptr(), key.as_ptr(), key.len(), -3 as libc::c_long)
        };
        check(added).unwrap();
        for (other, kept) in [(false, true), (true, false)] {
            let mut cat = Command::new("/bin/cat");
            cat.arg("/proc/keys");
            if other {
                cat.user(65534, 65534, &[]);
            }
            assert_eq!(output(cat).contains("vfio-run-test"), kept, "as another user: {other}");
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn as_root_another_users_child_dies_with_its_parent() {
        // The kernel forgets the signal when the user changes, so the order in `Setup::run` matters. It is sent when the
        // thread that spawned the child ends.
        let spawner = std::thread::spawn(|| {
            let mut sleep = Command::new("/bin/sleep");
            sleep.arg("60").user(65534, 65534, &[]).death_signal(Signal::SIGKILL);
            sleep.spawn().unwrap()
        });
        let mut child = spawner.join().unwrap();
        let ended = wait_until(&mut child, Instant::now() + Duration::from_secs(10)).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended.expect("the child lives on")), Some(9));
    }

    #[test]
    fn the_mask_is_the_kernels() {
        assert_eq!(mask(&"0,63-64,130".parse().unwrap()), [1 | 1 << 63, 1, 4]);
        assert_eq!(mask(&CpuSet::new()), [0]);
    }
}
