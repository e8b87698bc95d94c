//! Keep threads of the kernel off some CPUs.
//!
//! Only those that may run on any CPU can be moved: the kernel refuses it for its workers and for threads that belong to one
//! CPU (`PF_NO_SETAFFINITY`). Threads that it makes later start on all CPUs whatever `kthreadd` may run on, so this change
//! can be made again; each record undoes the threads that it found. Source: `kernel/kthread.c`, proc_pid_stat(5).

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::change::affinity;
use crate::change::error::ChangeError;
use crate::change::record::Undone;
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::change::thread_stat::Stat;
use crate::host::Root;
use crate::units::{CpuSet, EFFECTIVE_CPUS};

/// The process number of `kthreadd`, whose children all threads of the kernel are.
const KTHREADD: i32 = 2;

/// Keep threads of the kernel off some CPUs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelThreads {
    /// The CPUs that they leave.
    pub away_from: CpuSet,
    /// The CPUs for those that had no others.
    pub to: CpuSet,
}

/// The threads that were on these CPUs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundThreads {
    /// In the order of their numbers.
    pub threads: Vec<FoundThread>,
}

/// A thread of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundThread {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks since boot: another one may have its number later.
    pub start_time: u64,
    /// Its name, for people.
    pub name: String,
    /// The CPUs that it might run on.
    pub cpus: CpuSet,
}

/// The numbers of all threads of the kernel, and perhaps of others.
fn candidates(root: &Root) -> Vec<i32> {
    // Only kernels with `CONFIG_PROC_CHILDREN` have this list; on a large host it spares looking at every process.
    if let Some(children) = root.text(format!("/proc/{KTHREADD}/task/{KTHREADD}/children")) {
        let children = children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
        return [KTHREADD].into_iter().chain(children).collect();
    }
    let mut pids: Vec<i32> = root.names("/proc").iter().filter_map(|name| name.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

/// The threads of the kernel that can be moved.
fn movable(root: &Root) -> impl Iterator<Item = FoundThread> {
    candidates(root).into_iter().filter_map(|pid| {
        let stat = Stat::read(root, pid).filter(Stat::can_move)?;
        (pid == KTHREADD || stat.parent == KTHREADD).then_some(())?;
        let cpus = affinity::read(pid).ok()?;
        Some(FoundThread { pid, start_time: stat.start_time, name: stat.name, cpus })
    })
}

impl FoundThread {
    /// Whether the thread of this number is still the one that was found.
    fn is_still_there(&self, root: &Root) -> bool {
        Stat::read(root, self.pid).is_some_and(|stat| stat.can_move() && stat.start_time == self.start_time)
    }
}

impl KernelThreads {
    /// The CPUs of a thread that had these.
    fn narrowed(&self, cpus: &CpuSet) -> CpuSet {
        let rest = cpus.difference(&self.away_from);
        if rest.is_empty() { self.to.clone() } else { rest }
    }
}

impl Step for KernelThreads {
    type Before = FoundThreads;

    fn nature(&self) -> Nature {
        Nature::PREPARES
    }

    fn capture(&self, root: &Root) -> Result<FoundThreads, ChangeError> {
        let threads = movable(root).filter(|thread| !thread.cpus.intersection(&self.away_from).is_empty());
        Ok(FoundThreads { threads: threads.collect() })
    }

    /// Moves them. One that the kernel refuses to move, or that has ended, stays as it is: the guest is slower then, and
    /// nothing is wrong.
    fn apply(&self, root: &Root, before: &FoundThreads, _: Progress<'_>) -> Result<(), ChangeError> {
        let mut stay = Vec::new();
        for thread in before.threads.iter().filter(|thread| thread.is_still_there(root)) {
            if let Err(error) = affinity::set(thread.pid, &self.narrowed(&thread.cpus)) {
                stay.push(format!("{} ({error})", thread.name));
            }
        }
        if !stay.is_empty() {
            tracing::info!("threads of the kernel that stay on {}: {}", self.away_from.numbered(), stay.join(", "));
        }
        Ok(())
    }

    fn undo(&self, root: &Root, before: &FoundThreads) -> Result<Undone, ChangeError> {
        // A partition that was made meanwhile takes its CPUs out of every thread's.
        let effective = root.list(EFFECTIVE_CPUS);
        let (mut restored, mut theirs) = (false, Vec::new());
        for thread in before.threads.iter().filter(|thread| thread.is_still_there(root)) {
            let Ok(now) = affinity::read(thread.pid) else { continue };
            if now == thread.cpus {
                continue;
            }
            let ours = self.narrowed(&thread.cpus);
            let cut = effective.as_ref().map(|effective| ours.intersection(effective));
            if now != ours && cut.as_ref() != Some(&now) {
                theirs.push(format!("{}: {now}", thread.name));
                continue;
            }
            match affinity::set(thread.pid, &thread.cpus) {
                Ok(()) => restored = true,
                // It has ended, or belongs to one CPU since.
                Err(error) => tracing::debug!("{} stays on {}: {error}", thread.name, now.numbered()),
            }
        }
        Ok(match (theirs.is_empty(), restored) {
            (false, _) => Undone::NotOurs { found: theirs.join(", ") },
            (true, true) => Undone::Restored,
            (true, false) => Undone::AlreadyBack,
        })
    }

    fn lock_files(&self, _: &FoundThreads) -> Vec<PathBuf> {
        Vec::new()
    }

    fn observe(&self, root: &Root) -> Vec<Observed> {
        let threads = movable(root);
        threads.map(|thread| Observed::new(format!("CPUs of {}", thread.name), thread.cpus.to_string())).collect()
    }
}

impl fmt::Display for KernelThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keep threads of the kernel off {}", self.away_from.numbered())
    }
}
