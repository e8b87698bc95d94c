//! What made a guest stutter: the wait of its vCPUs second by second, and who was on their CPUs then.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Activity, Since, split_locks};
use crate::host::Root;
use crate::units::CpuSet;

/// A second in which the vCPUs waited longer than this is looked at closely.
const BAD_MS: f64 = 5.0;
/// A report has at most so many values; when there are more, each two become one.
const VALUES: usize = 1024;

/// The report of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stutter {
    /// The run as a whole, from its first second on.
    pub since: Since,
    /// For how many seconds each value of `wait_ms` stands.
    pub step_s: u32,
    /// Milliseconds that all vCPUs together waited for their CPUs, of the worst second of each step.
    pub wait_ms: Vec<f64>,
    /// The second in which they waited longest.
    pub worst: Option<Worst>,
    /// Who ran on the guest's CPUs in seconds with more than 5 ms of waiting, with the number of such seconds.
    pub culprits: BTreeMap<String, u32>,
    /// How many threads took split locks; `None`: the kernel's log cannot be read.
    pub split_locks: Option<u64>,
}

/// A second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Worst {
    /// Seconds after the first look.
    pub at_s: f64,
    /// Milliseconds that all vCPUs together waited.
    pub wait_ms: f64,
    /// The vCPU that waited longest.
    pub vcpu: String,
}

/// A report in the making. Each look is a second after the one before.
#[derive(Debug)]
pub struct Recorder {
    root: Root,
    qemu: i32,
    guest: Option<CpuSet>,
    first: Activity,
    last: Activity,
    step_s: u32,
    /// How many looks the last value stands for so far.
    filled: u32,
    wait_ms: Vec<f64>,
    worst: Option<Worst>,
    culprits: BTreeMap<String, u32>,
}

impl Recorder {
    /// Begins with a first look.
    pub fn begin(root: &Root, qemu: i32, guest: Option<CpuSet>) -> Self {
        let first = Activity::read(root, qemu, guest.as_ref());
        Self {
            root: root.clone(),
            qemu,
            guest,
            last: first.clone(),
            first,
            step_s: 1,
            filled: 0,
            wait_ms: Vec::new(),
            worst: None,
            culprits: BTreeMap::new(),
        }
    }

    /// Looks again.
    pub fn look(&mut self) {
        // The others are read only if there is a reason: a host has thousands of threads.
        let mut now = Activity::read(&self.root, self.qemu, None);
        if now.threads.is_empty() {
            return;
        }
        let since = now.since(&self.last);
        let vcpus =
            || since.threads.iter().filter(|thread| self.last.threads.contains_key(&thread.thread) && thread.is_vcpu());
        let wait_ms: f64 = vcpus().map(|thread| thread.wait_ms).sum();
        if self.worst.as_ref().is_none_or(|worst| wait_ms > worst.wait_ms)
            && let Some(vcpu) = vcpus().max_by(|a, b| a.wait_ms.total_cmp(&b.wait_ms))
        {
            let at_s = now.uptime_ms.saturating_sub(self.first.uptime_ms) as f64 / 1e3;
            self.worst = Some(Worst { at_s, wait_ms, vcpu: vcpu.name.clone() });
        }
        (now.foreign, now.interrupts) = (self.last.foreign.clone(), self.last.interrupts.clone());
        if wait_ms > BAD_MS && self.guest.is_some() {
            let all = Activity::read(&self.root, self.qemu, self.guest.as_ref());
            for seen in all.since(&self.last).foreign {
                *self.culprits.entry(seen.name).or_default() += 1;
            }
            (now.foreign, now.interrupts) = (all.foreign, all.interrupts);
        }
        self.add(wait_ms);
        self.last = now;
    }

    /// Goes on with another QEMU, whose threads are others.
    pub fn follow(&mut self, qemu: i32) {
        self.qemu = qemu;
        self.last.threads = Activity::read(&self.root, qemu, None).threads;
    }

    fn add(&mut self, wait_ms: f64) {
        match self.wait_ms.last_mut().filter(|_| self.filled < self.step_s && self.filled > 0) {
            Some(value) => *value = value.max(wait_ms),
            None => {
                self.filled = 0;
                self.wait_ms.push(wait_ms);
            }
        }
        self.filled += 1;
        if self.wait_ms.len() > VALUES {
            self.wait_ms = self.wait_ms.chunks(2).map(|pair| pair.iter().copied().fold(0.0, f64::max)).collect();
            // The last value stands alone: it is half full now.
            self.step_s *= 2;
        }
    }

    /// The report. QEMU may have ended: its threads are those of the last look.
    pub fn end(self) -> Stutter {
        let mut now = Activity::read(&self.root, self.qemu, self.guest.as_ref());
        now.threads = self.last.threads;
        Stutter {
            since: now.since(&self.first),
            step_s: self.step_s,
            wait_ms: self.wait_ms,
            worst: self.worst,
            culprits: self.culprits,
            split_locks: split_locks(&self.root, self.first.uptime_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::threads::tests::put;
    use super::*;

    fn uptime(root: &Root, seconds: u32) {
        std::fs::write(root.path("/proc/uptime"), format!("{seconds}.50 1.00\n")).unwrap();
    }

    #[test]
    fn the_worst_second_is_kept_and_who_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        put(&root, 10, 10, "qemu-system-x86", 0, "0 900000000 1");
        put(&root, 10, 11, "CPU 0/KVM", 2, "0 1000000 1");
        put(&root, 20, 20, "stress", 2, "0 0 1");
        uptime(&root, 100);
        let mut recorder = Recorder::begin(&root, 10, Some("2".parse().unwrap()));
        for (second, wait_ns, runs) in [(1, 2_000_000, 50), (2, 90_000_000, 60), (3, 91_000_000, 70)] {
            put(&root, 10, 11, "CPU 0/KVM", 2, &format!("0 {wait_ns} 1"));
            put(&root, 20, 20, "stress", 2, &format!("0 0 {runs}"));
            uptime(&root, 100 + second);
            recorder.look();
        }
        // QEMU has ended.
        std::fs::remove_dir_all(root.path("/proc/10")).unwrap();
        uptime(&root, 104);
        recorder.look();
        let report = recorder.end();
        assert_eq!(report.wait_ms, [1.0, 88.0, 1.0]);
        assert_eq!(report.worst, Some(Worst { at_s: 2.0, wait_ms: 88.0, vcpu: "CPU 0/KVM".to_owned() }));
        assert_eq!(report.culprits, [("stress".to_owned(), 1)].into());
        assert_eq!((report.since.seconds, report.since.threads[0].wait_ms), (4.0, 90.0));
        assert_eq!(report.since.foreign[0].runs, 69);
    }

    #[test]
    fn a_long_run_has_no_more_values_than_a_short_one_and_loses_no_peak() {
        let folder = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::begin(&Root::new(folder.path()), 10, None);
        for second in 0..10 * VALUES {
            recorder.add(if second == 5000 { 77.0 } else { 1.0 });
        }
        assert!(recorder.wait_ms.len() <= VALUES && recorder.wait_ms.len() > VALUES / 4, "{}", recorder.wait_ms.len());
        assert_eq!(recorder.wait_ms.iter().copied().fold(0.0, f64::max), 77.0);
        let covered = recorder.wait_ms.len() * recorder.step_s as usize;
        assert!((10 * VALUES..11 * VALUES).contains(&covered), "{covered}");
    }
}
