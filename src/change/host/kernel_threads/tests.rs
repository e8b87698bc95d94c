use std::process::{Child, Command};

use super::*;
use crate::change::step::unattended;
use crate::change::thread_stat::{PF_KTHREAD, PF_NO_SETAFFINITY};

const MOVABLE: u64 = PF_KTHREAD | 0x40;
const BOUND: u64 = MOVABLE | PF_NO_SETAFFINITY;

/// Processes that stand for threads of the kernel, which a folder says they are.
struct Kernel {
    folder: tempfile::TempDir,
    root: Root,
    threads: Vec<Child>,
    change: KernelThreads,
    all: CpuSet,
}

impl Kernel {
    /// With a thread for each of these flags; all of them may run on two CPUs.
    fn with(flags: &[u64]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let threads: Vec<Child> = flags.iter().map(|_| Command::new("sleep").arg("60").spawn().unwrap()).collect();
        let ours = affinity::read(0).unwrap();
        let [host, guest] = ours.iter().take(2).collect::<Vec<_>>()[..] else { panic!("this needs two CPUs: {ours}") };
        let all = CpuSet::from_iter([host, guest]);
        let change = KernelThreads { away_from: CpuSet::from_iter([guest]), to: CpuSet::from_iter([host]) };
        let kernel = Self { root: Root::new(folder.path()), folder, threads, change, all };
        for (index, flags) in flags.iter().enumerate() {
            kernel.says(index, KTHREADD, *flags, 100);
            affinity::set(kernel.pid(index), &kernel.all).unwrap();
        }
        kernel
    }

    fn pid(&self, index: usize) -> i32 {
        self.threads[index].id() as i32
    }

    fn says(&self, index: usize, parent: i32, flags: u64, start_time: u64) {
        let pid = self.pid(index);
        let folder = self.folder.path().join(format!("proc/{pid}"));
        std::fs::create_dir_all(&folder).unwrap();
        let text = format!("{pid} (a (thread) {index}) S {parent} 0 0 0 -1 {flags} {} {start_time} 0", "0 ".repeat(12));
        std::fs::write(folder.join("stat"), text).unwrap();
    }

    fn cpus(&self) -> Vec<CpuSet> {
        (0..self.threads.len()).map(|index| affinity::read(self.pid(index)).unwrap()).collect()
    }

    fn undo(&self, before: &FoundThreads) -> Undone {
        self.change.undo(&self.root, before).unwrap()
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        for thread in &mut self.threads {
            drop(thread.kill());
            drop(thread.wait());
        }
    }
}

#[test]
fn only_threads_of_the_kernel_that_can_move_are_moved_and_come_back() {
    let kernel = Kernel::with(&[MOVABLE, BOUND, 0x40, MOVABLE]);
    // The last one is no child of kthreadd.
    kernel.says(3, 1, MOVABLE, 100);
    let before = kernel.change.capture(&kernel.root).unwrap();
    let found: Vec<_> = before.threads.iter().map(|thread| (thread.pid, thread.name.as_str())).collect();
    assert_eq!(found, [(kernel.pid(0), "a (thread) 0")]);
    kernel.change.apply(&kernel.root, &before, &unattended).unwrap();
    let (all, host) = (&kernel.all, &kernel.change.to);
    assert_eq!(kernel.cpus(), [host.clone(), all.clone(), all.clone(), all.clone()]);
    assert!(kernel.change.capture(&kernel.root).unwrap().threads.is_empty(), "made twice it moves nothing");
    assert_eq!(kernel.undo(&before), Undone::Restored);
    assert_eq!(kernel.undo(&before), Undone::AlreadyBack);
    assert_eq!(kernel.cpus(), vec![all.clone(); 4]);
}

#[test]
fn a_list_of_kthreadds_children_spares_the_look_at_every_process() {
    let kernel = Kernel::with(&[MOVABLE, MOVABLE]);
    let folder = kernel.folder.path().join("proc/2/task/2");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("children"), format!("{} \n", kernel.pid(1))).unwrap();
    let found = kernel.change.capture(&kernel.root).unwrap().threads;
    assert_eq!(found.iter().map(|thread| thread.pid).collect::<Vec<_>>(), [kernel.pid(1)]);
}

#[test]
fn a_thread_that_only_had_cpus_of_the_guest_goes_to_the_hosts() {
    let kernel = Kernel::with(&[MOVABLE]);
    affinity::set(kernel.pid(0), &kernel.change.away_from).unwrap();
    let before = kernel.change.capture(&kernel.root).unwrap();
    kernel.change.apply(&kernel.root, &before, &unattended).unwrap();
    assert_eq!(kernel.cpus(), std::slice::from_ref(&kernel.change.to));
    assert_eq!(kernel.undo(&before), Undone::Restored);
    assert_eq!(kernel.cpus(), std::slice::from_ref(&kernel.change.away_from));
}

#[test]
fn a_thread_that_is_another_one_by_now_is_left_alone() {
    let kernel = Kernel::with(&[MOVABLE]);
    let before = kernel.change.capture(&kernel.root).unwrap();
    kernel.change.apply(&kernel.root, &before, &unattended).unwrap();
    kernel.says(0, KTHREADD, MOVABLE, 101);
    assert_eq!(kernel.undo(&before), Undone::AlreadyBack);
    assert_eq!(kernel.cpus(), std::slice::from_ref(&kernel.change.to));
    std::fs::remove_dir_all(kernel.folder.path().join("proc")).unwrap();
    assert_eq!(kernel.undo(&before), Undone::AlreadyBack);
}

#[test]
fn what_another_program_set_stays_and_what_a_partition_cut_down_does_not() {
    let kernel = Kernel::with(&[MOVABLE, MOVABLE]);
    let (all, host, guest) = (&kernel.all, &kernel.change.to, &kernel.change.away_from);
    let before = kernel.change.capture(&kernel.root).unwrap();
    kernel.change.apply(&kernel.root, &before, &unattended).unwrap();
    affinity::set(kernel.pid(1), guest).unwrap();
    assert_eq!(kernel.undo(&before), Undone::NotOurs { found: format!("a (thread) 1: {guest}") });
    assert_eq!(kernel.cpus(), [all.clone(), guest.clone()]);

    // All threads have lost the host's CPU, as if a partition had it.
    let change = KernelThreads { away_from: CpuSet::from_iter([9999]), to: host.clone() };
    let folder = kernel.folder.path().join("sys/fs/cgroup");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("cpuset.cpus.effective"), format!("{guest}\n")).unwrap();
    let found = FoundThread { cpus: all.clone(), ..before.threads[1].clone() };
    assert_eq!(change.undo(&kernel.root, &FoundThreads { threads: vec![found] }).unwrap(), Undone::Restored);
    assert_eq!(kernel.cpus()[1], *all);
}
