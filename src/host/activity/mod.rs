//! What happens on the guest's CPUs: how long its threads wait for them, who else runs there, and which interrupts come.
//! Sources: `Documentation/scheduler/sched-stats.rst`, proc_pid_stat(5), proc_pid_status(5), proc_interrupts(5),
//! `Documentation/accounting/psi.rst`.

mod interrupts;
mod memory;
mod since;
mod split_locks;
mod stutter;
mod threads;
mod traffic;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::threads::is_vcpu;
use super::Root;
use super::process::unified;
use crate::units::{CGROUPS, CpuSet};

pub use interrupts::Interrupt;
pub use memory::MemoryUse;
pub use since::{Seen, Since, SinceInterrupt, SinceThread};
pub use split_locks::split_locks;
pub use stutter::{Recorder, Stutter, Worst};
pub use threads::{Foreign, Thread};
pub use traffic::{Traffic, interface_of};

/// The counters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Activity {
    /// Milliseconds since the host was booted.
    pub uptime_ms: u64,
    /// QEMU's threads by their numbers.
    pub threads: BTreeMap<i32, Thread>,
    /// Other threads that ran last on one of the guest's CPUs, by their numbers.
    pub foreign: BTreeMap<i32, Foreign>,
    /// Interrupts that came to the guest's CPUs, by their names in `/proc/interrupts`.
    pub interrupts: BTreeMap<String, Interrupt>,
    /// Microseconds for which some program of the host waited for memory; `None`: the kernel does not tell.
    pub memory_stall_us: Option<u64>,
}

impl Activity {
    /// Reads them: QEMU's threads, and what else there is on the guest's CPUs, if it has CPUs of its own.
    pub fn read(root: &Root, qemu: i32, guest: Option<&CpuSet>) -> Self {
        Self {
            uptime_ms: uptime_ms(root).unwrap_or_default(),
            threads: threads::of(root, qemu),
            foreign: guest.map(|cpus| threads::foreign(root, qemu, cpus)).unwrap_or_default(),
            interrupts: guest.map(|cpus| interrupts::on(root, cpus)).unwrap_or_default(),
            memory_stall_us: memory_stall(root),
        }
    }

    /// Reads what costs little: QEMU's threads, and the interrupts on the guest's CPUs. Who else is there a host's thousands of
    /// threads must be looked at for.
    pub fn glance(root: &Root, qemu: i32, guest: Option<&CpuSet>) -> Self {
        let interrupts = guest.map(|cpus| interrupts::on(root, cpus)).unwrap_or_default();
        Self { interrupts, ..Self::read(root, qemu, None) }
    }

    /// The cgroup of the first vCPU, and what that says of its CPUs (`cpuset.cpus.partition`).
    pub fn cgroup(&self, root: &Root, qemu: i32) -> (Option<String>, Option<String>) {
        let vcpu = self.threads.iter().find(|(_, thread)| is_vcpu(&thread.name));
        let Some((thread, _)) = vcpu else { return (None, None) };
        let groups = root.text_up_to(format!("/proc/{qemu}/task/{thread}/cgroup"), 16 << 10).unwrap_or_default();
        let group = unified(&groups).map(str::to_owned);
        let partition = group.as_ref().and_then(|group| {
            root.text_up_to(format!("{CGROUPS}/{}/cpuset.cpus.partition", group.trim_matches('/')), 4096)
        });
        (group, partition)
    }
}

/// Milliseconds since boot.
fn uptime_ms(root: &Root) -> Option<u64> {
    let text = root.text_up_to("/proc/uptime", 128)?;
    let seconds: f64 = text.split_ascii_whitespace().next()?.parse().ok()?;
    Some((seconds * 1000.0) as u64)
}

/// The total of `some` in `/proc/pressure/memory`.
fn memory_stall(root: &Root) -> Option<u64> {
    let text = root.text_up_to("/proc/pressure/memory", 1024)?;
    let some = text.lines().find(|line| line.starts_with("some "))?;
    some.split_ascii_whitespace().find_map(|word| word.strip_prefix("total="))?.parse().ok()
}
