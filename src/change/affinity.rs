//! Which CPUs a thread may run on. Of the kernel's 8192 CPUs, nix can name the first 1024.

use std::io;

use nix::errno::Errno;
use nix::sched::{CpuSet as Mask, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::units::CpuSet;

/// The CPUs that a thread may run on; those of its cgroup's cpuset alone.
///
/// # Errors
/// The kernel's: `ESRCH` without such a thread.
pub fn read(thread: i32) -> io::Result<CpuSet> {
    let mask = sched_getaffinity(Pid::from_raw(thread))?;
    Ok((0..Mask::count()).filter(|cpu| mask.is_set(*cpu).unwrap_or(false)).map(|cpu| cpu as u32).collect())
}

/// Binds a thread to these CPUs. The kernel silently cuts them down to its cgroup's cpuset.
///
/// # Errors
/// The kernel's: `EINVAL` if none of them is left, or for a thread of the kernel's that belongs to one CPU.
pub fn set(thread: i32, cpus: &CpuSet) -> io::Result<()> {
    let mut mask = Mask::new();
    for cpu in cpus.iter() {
        mask.set(cpu as usize).map_err(|_: Errno| {
            io::Error::other(format!("CPU {cpu} is beyond the {} that can be named", Mask::count()))
        })?;
    }
    Ok(sched_setaffinity(Pid::from_raw(thread), &mask)?)
}
