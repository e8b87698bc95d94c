//! Puts a thread into a scheduling class and reads back that it is in it.

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;

use crate::machine::Scheduler;

/// Has the thread run in real time. What it makes begins as an ordinary thread: KVM makes one on a vCPU's CPU.
pub fn set(thread: i32, scheduler: Scheduler) -> Result<()> {
    let (class, priority) = match scheduler {
        Scheduler::Normal => return Ok(()),
        Scheduler::Fifo(priority) => (libc::SCHED_FIFO, priority),
        Scheduler::RoundRobin(priority) => (libc::SCHED_RR, priority),
    };
    let class = class | libc::SCHED_RESET_ON_FORK;
    // The kernel's `struct sched_param` is this one number. musl's functions of these names only fail, since POSIX means processes
    // by them, so the kernel is asked itself.
    let wanted = libc::c_int::try_from(priority).context("no such priority")?;
    // SAFETY: the pointer is to a number that lives until the call returns; the kernel only reads it.
    let done = unsafe { libc::syscall(libc::SYS_sched_setscheduler, thread, class, &raw const wanted) };
    Errno::result(done).with_context(|| format!("the kernel does not let it run in real time, {scheduler:?}"))?;
    // SAFETY: no pointers.
    let found = unsafe { libc::syscall(libc::SYS_sched_getscheduler, thread) };
    let found = Errno::result(found).context("its class cannot be read back")?;
    let mut has: libc::c_int = 0;
    // SAFETY: the pointer is to a number that lives until the call returns and that nothing else has.
    let read = unsafe { libc::syscall(libc::SYS_sched_getparam, thread, &raw mut has) };
    Errno::result(read).context("its priority cannot be read back")?;
    if (found, has) != (class.into(), wanted) {
        bail!("it was to run in real time, {scheduler:?}, and has the class {found} and the priority {has}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_runs_in_real_time_or_the_kernel_says_why_not() {
        std::thread::spawn(|| {
            let own = nix::unistd::gettid().as_raw();
            match set(own, Scheduler::Fifo(1)) {
                Ok(()) => {
                    // What it makes does not.
                    let inherited = std::thread::spawn(|| {
                        // SAFETY: no pointers.
                        unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) }
                    });
                    assert_eq!(inherited.join().unwrap(), libc::c_long::from(libc::SCHED_OTHER));
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    assert!(error.contains("does not let it run in real time, Fifo(1): EPERM"), "{error}");
                }
            }
            set(own, Scheduler::Normal).unwrap();
        })
        .join()
        .unwrap();
    }
}
