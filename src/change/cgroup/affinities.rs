//! Remember which threads of the host are kept on some of its CPUs, and keep them there again.
//!
//! When the host's CPUs become fewer by a partition and are whole again, the kernel forgets the masks that threads of its own
//! have chosen, as kswapd of a NUMA node (tried with 6.12); before Linux 6.7 (tried with 6.1) also those that were set by
//! sched_setaffinity(2), which are gone as well when a list of the thread's own group changes. Afterwards such a thread may
//! run anywhere.
//!
//! A thread may be kept again, and forgotten again, for as long as any machine has CPUs for itself. So what is known of threads
//! is kept for all machines in a folder beside the run directories, until the last of them has ended.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::change::affinity;
use crate::change::error::ChangeError;
use crate::change::record::Undone;
use crate::change::shared_folder::SharedFolder;
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::change::thread_stat::Stat;
use crate::host::Root;
use crate::units::{CGROUPS, CpuSet, EFFECTIVE_CPUS};

/// The folder's name beside the run directories.
const FOLDER: &str = ".affinities";

/// Remember which threads of the host are kept on some of its CPUs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Affinities {
    /// All CPUs of the host: a thread that may run on these is kept nowhere.
    pub all: CpuSet,
    /// The machine, which shares what it knows with others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Its run directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<PathBuf>,
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
            let stat = if is_everywhere(root, thread, &cpus, &all) { None } else { Stat::read(root, thread) };
            Some(KeptThread { thread, start_time: stat?.start_time, cpus })
        });
        Ok(Kept { threads: kept.collect() })
    }

    /// There is nothing to do but to remember. What another machine has found before this one counts: this one has seen what
    /// that one's changes left.
    fn apply(&self, root: &Root, before: &Kept, _: Progress<'_>) -> Result<(), ChangeError> {
        let Some((machine, run)) = self.shares() else { return Ok(()) };
        let shared = SharedFolder::lock_named(root, run, FOLDER)?;
        let mut kept = shared.state::<Kept>()?.unwrap_or_default();
        kept.add(&before.threads);
        shared.join(machine, &())?;
        Ok(shared.keep(&kept)?)
    }

    /// Keeps those again that are kept nowhere now; another mask is somebody else's meanwhile.
    fn undo(&self, root: &Root, before: &Kept) -> Result<Undone, ChangeError> {
        let Some((machine, run)) = self.shares().filter(|(_, run)| SharedFolder::exists(root, run, FOLDER)) else {
            return Ok(self.keep(root, &before.threads));
        };
        let shared = SharedFolder::lock_named(root, run, FOLDER)?;
        let mut kept = shared.state::<Kept>()?.unwrap_or_default();
        kept.add(&before.threads);
        let undone = self.keep(root, &kept.threads);
        let is_last = shared.others::<()>(machine).next().is_none();
        match (is_last, shared.has(machine)) {
            (true, _) => shared.remove()?,
            (false, true) => shared.leave(machine)?,
            (false, false) => {}
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

    fn shares(&self) -> Option<(&str, &Path)> {
        Some((self.machine.as_deref()?, self.run.as_deref()?))
    }

    /// Keeps threads again, while the machine runs, that have nothing to do with the CPUs that it has for itself, and that the
    /// kernel has forgotten all the same.
    pub fn keep_others(&self, root: &Root, before: &Kept, away: &CpuSet) {
        let others: Vec<_> =
            before.threads.iter().filter(|kept| kept.cpus.intersection(away).is_empty()).cloned().collect();
        self.keep(root, &others);
    }

    /// Keeps those again that are kept nowhere now.
    fn keep(&self, root: &Root, threads: &[KeptThread]) -> Undone {
        let (mut undone, all) = (Undone::AlreadyBack, self.everywhere(root));
        for KeptThread { thread, start_time: started, cpus } in threads {
            let is_lost = Stat::read(root, *thread).is_some_and(|stat| stat.start_time == *started)
                && affinity::read(*thread).is_ok_and(|now| now != *cpus && is_everywhere(root, *thread, &now, &all));
            // One that has ended by now needs no place, and some threads of the kernel's choose their own.
            if is_lost && affinity::set(*thread, cpus).is_ok() {
                undone = Undone::Restored;
            }
        }
        undone
    }
}

impl Kept {
    /// Adds those that are not known.
    fn add(&mut self, threads: &[KeptThread]) {
        for one in threads {
            if !self.threads.iter().any(|known| (known.thread, known.start_time) == (one.thread, one.start_time)) {
                self.threads.push(one.clone());
            }
        }
    }
}

/// Whether a thread that may run on these CPUs is kept nowhere: it has all, or all that its group was given.
fn is_everywhere(root: &Root, thread: i32, cpus: &CpuSet, all: &CpuSet) -> bool {
    if all.is_subset(cpus) {
        return true;
    }
    let group = root.text(format!("/proc/{thread}/cgroup")).unwrap_or_default();
    let Some(group) = group.lines().find_map(|line| line.strip_prefix("0::/")).map(Path::new) else { return false };
    // Below groups for which the controller is off there is no list.
    let mut lists = group.ancestors().map(|group| Path::new(CGROUPS).join(group).join("cpuset.cpus.effective"));
    lists.find_map(|list| root.list(list)).is_some_and(|given| given == *cpus)
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

    fn of(all: &CpuSet) -> Affinities {
        Affinities { all: all.clone(), machine: None, run: None }
    }

    #[test]
    fn what_the_first_machine_found_is_known_until_the_last_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let machine = |name: &str| {
            let run = Path::new("/run/vfio-run").join(name);
            std::fs::create_dir_all(root.path(&run)).unwrap();
            std::fs::write(root.path(run.join("journal")), "").unwrap();
            Affinities { machine: Some(name.to_owned()), run: Some(run), ..of(&CpuSet::from_iter([0, 1])) }
        };
        let kept = |cpu| KeptThread { thread: 7, start_time: 5, cpus: CpuSet::from_iter([cpu]) };
        let (first, second) = (machine("first"), machine("second"));
        let (found, later) = (Kept { threads: vec![kept(0)] }, Kept { threads: vec![kept(1)] });
        first.apply(&root, &found, &unattended).unwrap();
        second.apply(&root, &later, &unattended).unwrap();
        first.undo(&root, &found).unwrap();
        let state = root.path("/run/vfio-run/.affinities/state");
        assert_eq!(serde_json::from_slice::<Kept>(&std::fs::read(&state).unwrap()).unwrap(), found);
        second.undo(&root, &later).unwrap();
        assert!(!state.parent().unwrap().exists());
    }

    #[test]
    fn a_thread_that_has_all_cpus_of_its_group_is_kept_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let put = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("proc/7/cgroup", "0::/system.slice/a.service/b\n");
        put("sys/fs/cgroup/cpuset.cpus.effective", "0-3\n");
        put("sys/fs/cgroup/system.slice/cpuset.cpus.effective", "0-1\n");
        put("sys/fs/cgroup/system.slice/a.service/b/cgroup.procs", "7\n");
        let (all, is) = (CpuSet::from_iter(0..4), |list: &str| {
            is_everywhere(&root, 7, &list.parse().unwrap(), &CpuSet::from_iter(0..4))
        });
        assert!(is("0-3") && is("0-1") && !is("0") && !is("0-2"));
        assert!(is_everywhere(&root, 8, &all, &all));
    }

    #[test]
    fn a_thread_whose_mask_was_lost_is_kept_again() {
        let root = Root::new("/");
        // The test's own thread, which nobody else places.
        let own = nix::unistd::gettid().as_raw();
        let all = affinity::read(own).unwrap();
        let one = CpuSet::from_iter(all.iter().take(1));
        if all == one || (of(&all)).everywhere(&root) != all {
            eprintln!("not tried: the test itself is kept on some CPUs");
            return;
        }
        affinity::set(own, &one).unwrap();
        let change = of(&all);
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
