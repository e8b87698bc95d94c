//! Threads: QEMU's own, and those of others that ran last on the guest's CPUs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::host::Root;
use crate::units::{CpuSet, printable};

/// The field of `stat` with the CPU that the thread ran on last; the name in parentheses is field 2.
const PROCESSOR: usize = 39;

/// A thread of QEMU's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Thread {
    /// Its name, which QEMU chooses: `CPU 0/KVM`.
    pub name: String,
    /// The CPU that it ran on last.
    pub cpu: Option<u32>,
    /// The CPUs that it may run on, as the kernel lists them.
    pub allowed: String,
    /// Nanoseconds that it ran.
    pub run_ns: u64,
    /// Nanoseconds that it was ready to run and had to wait for a CPU.
    pub wait_ns: u64,
    /// How often it was made to leave its CPU.
    pub involuntary: u64,
}

/// Whether it is a vCPU, by the name that QEMU gives it (`debug-threads=on`).
pub(super) fn is_vcpu(name: &str) -> bool {
    name.starts_with("CPU ") || name.starts_with("ALL CPUs")
}

/// A thread that is not QEMU's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Foreign {
    /// Its name.
    pub name: String,
    /// The CPU that it ran on last.
    pub cpu: u32,
    /// How often it was put on a CPU; `None`: the kernel does not count.
    pub runs: Option<u64>,
}

/// QEMU's threads by their numbers.
pub(super) fn of(root: &Root, qemu: i32) -> BTreeMap<i32, Thread> {
    let tasks = format!("/proc/{qemu}/task");
    let ids = root.names(&tasks).into_iter().filter_map(|name| name.parse::<i32>().ok());
    let threads = ids.filter_map(|id| {
        let (name, cpu) = stat(root, &format!("{tasks}/{id}/stat"))?;
        let status = root.text_up_to(format!("{tasks}/{id}/status"), 16 << 10)?;
        let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let (run_ns, wait_ns, _) = scheduled(root, qemu, id).unwrap_or_default();
        let involuntary = value("nonvoluntary_ctxt_switches:").and_then(|text| text.parse().ok()).unwrap_or_default();
        let allowed = value("Cpus_allowed_list:").unwrap_or_default().to_owned();
        Some((id, Thread { name, cpu, allowed, run_ns, wait_ns, involuntary }))
    });
    threads.collect()
}

/// What the scheduler has counted for a thread: nanoseconds on a CPU, nanoseconds of waiting for one, runs.
pub(super) fn scheduled(root: &Root, process: i32, thread: i32) -> Option<(u64, u64, u64)> {
    let text = root.text_up_to(format!("/proc/{process}/task/{thread}/schedstat"), 256)?;
    let mut numbers = text.split_ascii_whitespace().map_while(|word| word.parse().ok());
    Some((numbers.next()?, numbers.next()?, numbers.next()?))
}

/// Threads of other processes, and of the kernel, that ran last on one of these CPUs.
pub(super) fn foreign(root: &Root, qemu: i32, cpus: &CpuSet) -> BTreeMap<i32, Foreign> {
    let mut found = BTreeMap::new();
    for process in root.names("/proc").into_iter().filter_map(|name| name.parse::<i32>().ok()) {
        if process == qemu {
            continue;
        }
        let tasks = format!("/proc/{process}/task");
        for thread in root.names(&tasks).into_iter().filter_map(|name| name.parse::<i32>().ok()) {
            if let Some((name, Some(cpu))) = stat(root, &format!("{tasks}/{thread}/stat"))
                && cpus.contains(cpu)
            {
                let runs = scheduled(root, process, thread).map(|(_, _, runs)| runs);
                found.insert(thread, Foreign { name, cpu, runs });
            }
        }
    }
    found
}

/// Name and last CPU of a thread.
fn stat(root: &Root, path: &str) -> Option<(String, Option<u32>)> {
    let text = root.text_up_to(path, 4096)?;
    // The name may itself hold blanks and parentheses.
    let (open, close) = (text.find('(')?, text.rfind(')')?);
    let name = printable(text.get(open + 1..close)?);
    // The state, after the name, is field 3.
    let cpu = text.get(close + 1..)?.split_ascii_whitespace().nth(PROCESSOR - 3);
    Some((name, cpu.and_then(|cpu| cpu.parse().ok())))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Writes a thread as the kernel shows it.
    pub fn put(root: &Root, process: i32, thread: i32, name: &str, cpu: u32, schedstat: &str) {
        let folder = root.path(format!("/proc/{process}/task/{thread}"));
        std::fs::create_dir_all(&folder).unwrap();
        let fields: Vec<String> = (4..PROCESSOR).map(|field| field.to_string()).collect();
        let stat = format!("{thread} ({name}) S {} {cpu} 0 0\n", fields.join(" "));
        std::fs::write(folder.join("stat"), stat).unwrap();
        std::fs::write(folder.join("schedstat"), schedstat).unwrap();
        let status = "Name:\tx\nCpus_allowed_list:\t2-3\nnonvoluntary_ctxt_switches:\t7\n";
        std::fs::write(folder.join("status"), status).unwrap();
    }

    #[test]
    fn threads_are_read_whatever_their_names_are() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        put(&root, 10, 10, "qemu-system-x86", 0, "5 6 7\n");
        put(&root, 10, 11, "CPU 0/KVM", 2, "100 200 3\n");
        put(&root, 20, 20, "a) S (b\u{1b}", 2, "1 2 3\n");
        put(&root, 20, 21, "elsewhere", 1, "1 2 3\n");
        std::fs::create_dir_all(root.path("/proc/30/task/30")).unwrap();
        std::fs::write(root.path("/proc/30/task/30/stat"), "30 (cut off").unwrap();
        let threads = of(&root, 10);
        let vcpu = Thread {
            name: "CPU 0/KVM".to_owned(),
            cpu: Some(2),
            allowed: "2-3".to_owned(),
            run_ns: 100,
            wait_ns: 200,
            involuntary: 7,
        };
        assert_eq!((threads.len(), &threads[&11]), (2, &vcpu));
        assert!(is_vcpu(&vcpu.name) && !is_vcpu(&threads[&10].name));
        let others = foreign(&root, 10, &"2-3".parse().unwrap());
        assert_eq!(others.keys().collect::<Vec<_>>(), [&20]);
        assert!(others[&20].name.starts_with("a) S (b") && !others[&20].name.contains('\u{1b}'));
        assert_eq!((others[&20].cpu, others[&20].runs), (2, Some(3)));
    }
}
