//! Remember which threads of the host are kept on some of its CPUs, and keep them there again.
//!
//! When the host's CPUs become fewer by a partition and are whole again, the kernel forgets the masks that threads of its own
//! have chosen, as kswapd of a NUMA node (tried with 6.12); before Linux 6.7 (tried with 6.1) also those that were set by
//! sched_setaffinity(2). Afterwards such a thread may run anywhere.

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

/// Remember which threads of the host are kept on some of its CPUs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Affinities {
    /// All CPUs of the host: a thread that may run on these is kept nowhere.
    pub all: CpuSet,
}

/// The threads that were kept on some CPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Each of them.
    pub threads: Vec<KeptThread>,
}

/// A thread that was kept on some CPUs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptThread {
    /// Its number.
    pub thread: i32,
    /// Its start in clock ticks since boot, which tells it from a later one of the same number.
    pub start_time: u64,
    /// Its CPUs.
    pub cpus: CpuSet,
}

impl Step for Affinities {
    type Before = Kept;

    fn nature(&self) -> Nature {
        Nature::PREPARES
    }

    fn capture(&self, root: &Root) -> Result<Kept, ChangeError> {
        if !root.is_real() {
            return Ok(Kept::default());
        }
        let all = self.everywhere(root);
        let kept = threads(root).filter_map(|thread| {
            let cpus = affinity::read(thread).ok()?;
            // Nearly every thread may run anywhere, so few files are read.
            let stat = if all.is_subset(&cpus) { None } else { Stat::read(root, thread) };
            Some(KeptThread { thread, start_time: stat?.start_time, cpus })
        });
        Ok(Kept { threads: kept.collect() })
    }

    /// There is nothing to do but to remember.
    fn apply(&self, _: &Root, _: &Kept, _: Progress<'_>) -> Result<(), ChangeError> {
        Ok(())
    }

    /// Keeps those again that are kept nowhere now; another mask is somebody else's meanwhile.
    fn undo(&self, root: &Root, before: &Kept) -> Result<Undone, ChangeError> {
        let (mut undone, all) = (Undone::AlreadyBack, self.everywhere(root));
        for KeptThread { thread, start_time: started, cpus } in &before.threads {
            let is_lost = Stat::read(root, *thread).is_some_and(|stat| stat.start_time == *started)
                && affinity::read(*thread).is_ok_and(|now| all.is_subset(&now));
            // One that has ended by now needs no place, and some threads of the kernel's choose their own.
            if is_lost && affinity::set(*thread, cpus).is_ok() {
                undone = Undone::Restored;
            }
        }
        Ok(undone)
    }

    fn lock_files(&self, _: &Kept) -> Vec<PathBuf> {
        Vec::new()
    }

    fn observe(&self, _: &Root) -> Vec<Observed> {
        Vec::new()
    }
}

impl Affinities {
    /// The CPUs of a thread that is kept nowhere, without those of other partitions.
    fn everywhere(&self, root: &Root) -> CpuSet {
        root.list(EFFECTIVE_CPUS).unwrap_or_else(|| self.all.clone())
    }
}

/// All threads of the host, the kernel's too.
fn threads(root: &Root) -> impl Iterator<Item = i32> {
    let numbers = |names: Vec<String>| names.into_iter().filter_map(|name| name.parse::<i32>().ok());
    numbers(root.names("/proc"))
        .flat_map(move |process| numbers(root.names(format!("/proc/{process}/task"))).collect::<Vec<_>>())
        .collect::<Vec<_>>()
        .into_iter()
}

impl fmt::Display for Affinities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("remember which threads are kept on some CPUs: the kernel forgets it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::step::unattended;

    #[test]
    fn a_thread_whose_mask_was_lost_is_kept_again() {
        let root = Root::new("/");
        // The test's own thread, which nobody else places.
        let own = nix::unistd::gettid().as_raw();
        let all = affinity::read(own).unwrap();
        let one = CpuSet::from_iter(all.iter().take(1));
        if all == one || (Affinities { all: all.clone() }).everywhere(&root) != all {
            eprintln!("not tried: the test itself is kept on some CPUs");
            return;
        }
        affinity::set(own, &one).unwrap();
        let change = Affinities { all: all.clone() };
        let before = change.capture(&root).unwrap();
        let kept = before.threads.iter().find(|kept| kept.thread == own).unwrap();
        assert_eq!((&kept.cpus, Some(kept.start_time)), (&one, Stat::read(&root, own).map(|stat| stat.start_time)));
        change.apply(&root, &before, &unattended).unwrap();
        affinity::set(own, &all).unwrap();
        let mine = Kept { threads: vec![kept.clone()] };
        assert_eq!(change.undo(&root, &mine).unwrap(), Undone::Restored);
        assert_eq!(affinity::read(own).unwrap(), one);
        assert_eq!(change.undo(&root, &mine).unwrap(), Undone::AlreadyBack);
        // A later thread of the same number is another one.
        affinity::set(own, &all).unwrap();
        let other = Kept { threads: vec![KeptThread { start_time: kept.start_time + 1, ..kept.clone() }] };
        assert_eq!(change.undo(&root, &other).unwrap(), Undone::AlreadyBack);
    }
}
