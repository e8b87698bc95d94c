//! What happened between two moments.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::threads::is_vcpu;
use super::{Activity, Foreign};

/// What happened between two moments.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Since {
    /// The time between them.
    pub seconds: f64,
    /// QEMU's threads, vCPUs first, as they are numbered.
    pub threads: Vec<SinceThread>,
    /// Other threads that were seen on the guest's CPUs, by name, the busiest first.
    pub foreign: Vec<Seen>,
    /// Interrupts that came to the guest's CPUs, the most frequent first.
    pub interrupts: Vec<SinceInterrupt>,
    /// Milliseconds for which some program of the host waited for memory.
    pub memory_stall_ms: Option<f64>,
}

/// A thread of QEMU's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SinceThread {
    /// Its name.
    pub name: String,
    /// Its number.
    pub thread: i32,
    /// The CPU that it ran on last.
    pub cpu: Option<u32>,
    /// The CPUs that it may run on.
    pub allowed: String,
    /// Milliseconds that it ran.
    pub run_ms: f64,
    /// Milliseconds that it had to wait for a CPU.
    pub wait_ms: f64,
    /// How often it was made to leave its CPU.
    pub involuntary: u64,
}

/// Threads of one name that are not QEMU's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Their name, without the number of what they do: `kworker`.
    pub name: String,
    /// How many.
    pub threads: usize,
    /// How often they were put on a CPU meanwhile, not always one of the guest's.
    pub runs: u64,
}

/// An interrupt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SinceInterrupt {
    /// Its name in the first column of `/proc/interrupts`.
    pub id: String,
    /// Whose it is.
    pub name: String,
    /// How often it came.
    pub count: u64,
}

impl SinceThread {
    /// Whether it is a vCPU.
    pub fn is_vcpu(&self) -> bool {
        is_vcpu(&self.name)
    }
}

impl Activity {
    /// What happened since an earlier moment.
    pub fn since(&self, earlier: &Self) -> Since {
        let milliseconds = |ns: u64| ns as f64 / 1e6;
        let mut threads: Vec<_> = self.threads.iter().collect();
        threads.sort_by_key(|(id, thread)| (!is_vcpu(&thread.name), **id));
        let threads = threads.into_iter().map(|(id, thread)| {
            let before = earlier.threads.get(id).cloned().unwrap_or_default();
            SinceThread {
                name: thread.name.clone(),
                thread: *id,
                cpu: thread.cpu,
                allowed: thread.allowed.clone(),
                run_ms: milliseconds(thread.run_ns.saturating_sub(before.run_ns)),
                wait_ms: milliseconds(thread.wait_ns.saturating_sub(before.wait_ns)),
                involuntary: thread.involuntary.saturating_sub(before.involuntary),
            }
        });
        let mut interrupts: Vec<_> = self
            .interrupts
            .iter()
            .filter_map(|(id, now)| {
                let before = earlier.interrupts.get(id).map_or(0, |before| before.count);
                let count = now.count.checked_sub(before).filter(|count| *count > 0)?;
                Some(SinceInterrupt { id: id.clone(), name: now.name.clone(), count })
            })
            .collect();
        interrupts.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.id.cmp(&b.id)));
        let stall = self.memory_stall_us.zip(earlier.memory_stall_us);
        Since {
            seconds: self.uptime_ms.saturating_sub(earlier.uptime_ms) as f64 / 1e3,
            threads: threads.collect(),
            foreign: seen(&self.foreign, &earlier.foreign),
            interrupts,
            memory_stall_ms: stall.map(|(now, before)| now.saturating_sub(before) as f64 / 1e3),
        }
    }
}

/// The threads that ran meanwhile, by name. One that was on one of the CPUs before and was not put on any since has only
/// slept there.
fn seen(now: &BTreeMap<i32, Foreign>, before: &BTreeMap<i32, Foreign>) -> Vec<Seen> {
    let mut names: BTreeMap<&str, Seen> = BTreeMap::new();
    for (id, thread) in now {
        let earlier = before.get(id).filter(|earlier| earlier.name == thread.name);
        let runs = match (thread.runs, earlier) {
            (Some(runs), Some(earlier)) => runs.saturating_sub(earlier.runs.unwrap_or_default()),
            // It came here from another CPU, or is new; how often it ran before that is not known.
            (Some(_), None) => 1,
            (None, _) => 0,
        };
        if runs > 0 {
            let name = kind(&thread.name);
            let seen = names.entry(name).or_insert_with(|| Seen { name: name.to_owned(), ..Seen::default() });
            seen.threads += 1;
            seen.runs = seen.runs.saturating_add(runs);
        }
    }
    let mut all: Vec<Seen> = names.into_values().collect();
    all.sort_by(|a, b| b.runs.cmp(&a.runs).then_with(|| a.name.cmp(&b.name)));
    all
}

/// The name of a kernel's thread without the CPU and number that follow a slash: `kworker/3:1-events` is `kworker`.
fn kind(name: &str) -> &str {
    match name.split_once('/') {
        Some((kind, rest)) if !kind.is_empty() && rest.starts_with(|c: char| c.is_ascii_digit() || c == 'u') => kind,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Interrupt, Thread};
    use super::*;

    #[test]
    fn what_happened_is_the_difference_of_two_moments() {
        let thread = |name: &str, wait_ns| Thread { name: name.to_owned(), wait_ns, ..Thread::default() };
        let foreign = |name: &str, runs| Foreign { name: name.to_owned(), cpu: 2, runs: Some(runs) };
        let interrupt = |name: &str, count| Interrupt { name: name.to_owned(), count };
        let earlier = Activity {
            uptime_ms: 1_000,
            threads: [(5, thread("qemu-system-x86", 1)), (9, thread("CPU 0/KVM", 1_000_000))].into(),
            foreign: [(40, foreign("ksoftirqd/2", 5)), (41, foreign("migration/2", 7)), (42, foreign("old", 1))].into(),
            interrupts: [("LOC".to_owned(), interrupt("Local timer interrupts", 10))].into(),
            memory_stall_us: Some(500),
        };
        let now = Activity {
            uptime_ms: 61_500,
            threads: [(5, thread("qemu-system-x86", 1)), (9, thread("CPU 0/KVM", 8_500_000))].into(),
            foreign: [
                (40, foreign("ksoftirqd/2", 9)),
                (41, foreign("migration/2", 7)),
                (50, foreign("kworker/2:1-events", 900)),
                (51, foreign("kworker/u8:2", 3)),
                (52, foreign("Web Content", 80)),
            ]
            .into(),
            interrupts: [
                ("LOC".to_owned(), interrupt("Local timer interrupts", 40)),
                ("134".to_owned(), interrupt("nvme0q1", 2)),
            ]
            .into(),
            memory_stall_us: Some(2_500),
        };
        let since = now.since(&earlier);
        assert_eq!((since.seconds, since.memory_stall_ms), (60.5, Some(2.0)));
        let names: Vec<_> = since.threads.iter().map(|thread| (thread.name.as_str(), thread.wait_ms)).collect();
        assert_eq!(names, [("CPU 0/KVM", 7.5), ("qemu-system-x86", 0.0)]);
        let seen: Vec<_> = since.foreign.iter().map(|s| (s.name.as_str(), s.threads, s.runs)).collect();
        assert_eq!(seen, [("ksoftirqd", 1, 4), ("kworker", 2, 2), ("Web Content", 1, 1)]);
        let interrupts: Vec<_> = since.interrupts.iter().map(|one| (one.id.as_str(), one.count)).collect();
        assert_eq!(interrupts, [("LOC", 30), ("134", 2)]);
        assert_eq!(earlier.since(&earlier).foreign, []);
    }
}
