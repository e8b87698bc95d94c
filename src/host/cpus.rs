//! CPU topology: packages, dies, cores, SMT siblings, caches, NUMA nodes, core kinds.
//! Source: `Documentation/admin-guide/cputopology.rst`, `Documentation/ABI/stable/sysfs-devices-system-cpu`.

use serde::{Deserialize, Serialize};

use crate::units::{CpuSet, Size};

/// The host's CPUs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cpus {
    /// CPUs that can run threads now.
    pub online: CpuSet,
    /// CPUs that the scheduler leaves alone (`isolcpus=`).
    pub isolated: CpuSet,
    /// CPUs that this process may run on (its own affinity): a container or a slice may have fewer than `online`.
    pub allowed: CpuSet,
    /// `vendor_id` of /proc/cpuinfo: `GenuineIntel`, `AuthenticAMD`.
    pub vendor: Option<String>,
    /// `model name` of /proc/cpuinfo.
    pub model: Option<String>,
    /// Flags of /proc/cpuinfo, of the first CPU.
    pub flags: Vec<String>,
    /// Each online CPU, ascending.
    pub list: Vec<Cpu>,
    /// Each cache once, ascending by level and first CPU.
    pub caches: Vec<Cache>,
}

/// One logical CPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// Logical number, as in `cpu7`.
    pub id: u32,
    /// Package (socket).
    pub package: u32,
    /// Die in the package; 0 where the kernel does not say.
    pub die: u32,
    /// Core in the package (`core_id`, not contiguous).
    pub core: u32,
    /// NUMA node; 0 where there is only one.
    pub node: u32,
    /// This CPU and its SMT siblings.
    pub siblings: CpuSet,
    /// Performance or efficiency core, on hybrid CPUs.
    pub kind: CoreKind,
}

/// Which kind of core a CPU is, on a CPU that has two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CoreKind {
    /// All cores are alike.
    Uniform,
    /// Performance core (`/sys/devices/cpu_core/cpus`).
    Performance,
    /// Efficiency core (`/sys/devices/cpu_atom/cpus`).
    Efficiency,
}

/// One cache and the CPUs that share it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cache {
    /// 1, 2 or 3.
    pub level: u32,
    /// What it holds.
    pub kind: CacheKind,
    /// Its size.
    pub size: Size,
    /// The CPUs that share it.
    pub cpus: CpuSet,
}

/// What a cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheKind {
    /// Data only.
    Data,
    /// Instructions only.
    Instruction,
    /// Both.
    Unified,
}

impl Cpus {
    /// The CPUs that share the last-level cache with `cpu` (level 3, else level 2), or its package where no cache is known.
    pub fn l3_domain(&self, cpu: u32) -> CpuSet {
        for level in [3, 2] {
            if let Some(cache) = self.caches.iter().find(|c| c.level == level && c.cpus.contains(cpu)) {
                return cache.cpus.clone();
            }
        }
        let package = self.get(cpu).map(|c| c.package);
        self.list.iter().filter(|c| Some(c.package) == package).map(|c| c.id).collect()
    }

    /// The CPU of this number, if online.
    pub fn get(&self, id: u32) -> Option<&Cpu> {
        self.list.binary_search_by_key(&id, |c| c.id).ok().map(|i| &self.list[i])
    }
}
