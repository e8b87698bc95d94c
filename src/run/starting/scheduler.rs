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
    let wanted = libc::sched_param { sched_priority: i32::try_from(priority).context("no such priority")? };
    // SAFETY: the pointer is to a parameter that lives until the call returns; the kernel only reads it.
    let done = unsafe { libc::sched_setscheduler(thread, class, &raw const wanted) };
    Errno::result(done).with_context(|| format!("the kernel does not let it run in real time, {scheduler:?}"))?;
    // SAFETY: no pointers.
    let found = Errno::result(unsafe { libc::sched_getscheduler(thread) }).context("its class cannot be read back")?;
    let mut param = libc::sched_param { sched_priority: 0 };
    // SAFETY: the pointer is to a parameter that lives until the call returns and that nothing else has.
    let read = unsafe { libc::sched_getparam(thread, &raw mut param) };
    Errno::result(read).context("its priority cannot be read back")?;
    if (found, param.sched_priority) != (class, wanted.sched_priority) {
        bail!(
            "it was to run in real time, {scheduler:?}, and has the class {found} and the priority {}",
            param.sched_priority
        );
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
                        unsafe { libc::sched_getscheduler(0) }
                    });
                    assert_eq!(inherited.join().unwrap(), libc::SCHED_OTHER);
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
