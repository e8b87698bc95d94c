//! What a child does between fork and exec.

use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

use super::steps::{
    AFFINITY, ALL, CGROUP, DEATH_SIGNAL, DESCRIPTORS, GROUP, GROUPS, KEYRING, LIMITS, NAMESPACE, ORPHAN, SESSION, USER,
};
use crate::units::CpuSet;

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

/// What the child does between fork and exec. Plain data, all allocated before.
#[derive(Debug, Default)]
pub(super) struct Setup {
    pub session: Session,
    pub umask: Option<libc::mode_t>,
    pub cgroup_procs: Option<OwnedFd>,
    pub affinity: Option<Vec<u64>>,
    pub limits: Vec<(Resource, u64, u64)>,
    pub user: Option<(libc::uid_t, libc::gid_t, Vec<libc::gid_t>)>,
    pub user_namespace: bool,
    pub blocked: Option<libc::sigset_t>,
    pub death_signal: Option<Signal>,
    /// What the kernel goes by when memory runs out, if this differs from the parent's.
    pub oom_score_adj: Option<String>,
    /// Whether the child ends in place of running the program.
    pub ends: bool,
    pub parent: libc::pid_t,
    /// Sources, all numbered above the highest target, with their targets.
    pub fds: Vec<(OwnedFd, RawFd)>,
}

impl Setup {
    /// Runs in the child, between fork and exec.
    pub fn run(&self) -> Result<(), (u8, nix::Error)> {
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
        if let Some(value) = &self.oom_score_adj {
            // Before the user changes. A child without /proc keeps the parent's, which harms nobody.
            let file = nix::fcntl::open(c"/proc/self/oom_score_adj", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty());
            let _ = file.map(|file| nix::unistd::write(&file, value.as_bytes()));
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

/// Joins an empty session keyring of its own. The one that is inherited may hold keys of the login session, and who has it
/// may search it whatever user it is by then (session-keyring(7)).
pub(super) fn leave_session_keyring() -> Result<(), nix::Error> {
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

pub(super) fn check(result: libc::c_long) -> Result<(), nix::Error> {
    if result == -1 { Err(nix::Error::last()) } else { Ok(()) }
}

/// The kernel's mask of CPUs: bit n of the whole is CPU n.
pub(super) fn mask(cpus: &CpuSet) -> Vec<u64> {
    let last = cpus.iter().next_back().unwrap_or_default();
    let mut mask = vec![0u64; last as usize / 64 + 1];
    for cpu in cpus.iter() {
        mask[cpu as usize / 64] |= 1 << (cpu % 64);
    }
    mask
}
