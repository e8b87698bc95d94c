//! The placement of QEMU's threads as a value.

use serde::{Deserialize, Serialize};

use super::why::Why;
use crate::machine::{Scheduler, Topology};
use crate::units::CpuSet;

/// The placement of every thread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Placement {
    /// The host CPU set of each vCPU thread, by `cpu-index`. One CPU each if pinned; all allowed CPUs if the host
    /// has too few to pin.
    pub vcpus: Vec<CpuSet>,
    /// Whether each vCPU has a CPU of its own.
    pub pinned: bool,
    /// The CPUs of QEMU's main thread, its worker threads and the helpers.
    pub emulator: CpuSet,
    /// The CPUs of each I/O thread, by id.
    pub iothreads: Vec<(String, CpuSet)>,
    /// The class of the vCPU threads, if it is one of real time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// The CPUs that QEMU is started on, if not those of `emulator`: KVM gives a vCPU the caches of the CPU on which its
    /// thread is made. Only then are the threads moved, before the guest's first instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub born: Option<CpuSet>,
    /// The topology that the guest is shown.
    pub topology: Topology,
    /// Why these CPUs, if the program chose them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
}

impl Placement {
    /// The CPUs that QEMU is started on.
    pub fn born(&self) -> &CpuSet {
        self.born.as_ref().unwrap_or(&self.emulator)
    }

    /// All CPUs that vCPU threads may run on.
    pub fn vcpu_set(&self) -> CpuSet {
        self.vcpus.iter().flat_map(CpuSet::iter).collect()
    }

    /// The CPUs that the vCPUs have for themselves, as far as the plan can give them; `None` if they are not pinned.
    pub fn guest_cpus(&self) -> Option<CpuSet> {
        self.pinned.then(|| self.vcpu_set())
    }
}
