//! The host's CPUs as values: packages, dies, cores, SMT siblings, caches, NUMA nodes, kinds of cores.

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::units::{CpuSet, MAX_CPU, Size};

/// The host's CPUs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cpus {
    /// CPUs that can run threads now.
    pub online: CpuSet,
    /// CPUs that the scheduler leaves alone (`isolcpus=`).
    pub isolated: CpuSet,
    /// CPUs that this process may run on: those of its cpuset, of which a container or a slice may have fewer than `online`.
    /// The affinity that it inherited is no limit: it can be changed, and leaves out isolated CPUs.
    pub allowed: CpuSet,
    /// `vendor_id` of /proc/cpuinfo: `GenuineIntel`, `AuthenticAMD`.
    pub vendor: Option<String>,
    /// `cpu family` of /proc/cpuinfo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<u32>,
    /// `model` of /proc/cpuinfo, a number within the family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_number: Option<u32>,
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
    #[serde(deserialize_with = "number")]
    pub id: u32,
    /// Package (socket).
    pub package: u32,
    /// Die in the package; 0 if the kernel does not say.
    pub die: u32,
    /// Core in the package (`core_id`, not contiguous).
    pub core: u32,
    /// NUMA node: 0 if the kernel knows of none; `None` if it has nodes and this CPU is in none of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u32>,
    /// This CPU and its SMT siblings.
    pub siblings: CpuSet,
    /// Which kind of core it is a thread of.
    pub kind: CoreKind,
    /// How fast it can be, to be compared with the others of this host: `highest_perf` of ACPI's CPPC, else cpufreq's
    /// `cpuinfo_max_freq`, else the scheduler's `cpu_capacity`. `None` if the kernel says nothing, or the host has more than
    /// one package: no such board takes CPUs with unlike cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u32>,
}

/// Which kind of core a CPU is, on a processor that has several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CoreKind {
    /// All cores are alike.
    Uniform,
    /// Performance core.
    Performance,
    /// Efficiency core: slower, and of one thread or with less cache.
    Efficiency,
    /// Efficiency core apart from the others' L3, made for a host that does next to nothing.
    LowPower,
}

/// One cache and the CPUs that share it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cache {
    /// 1, 2 or 3.
    pub level: u32,
    /// What it holds.
    pub kind: CacheKind,
    /// Its size; `None` if the kernel does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
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
    /// The level 3 cache of this CPU.
    pub fn l3(&self, cpu: u32) -> Option<&Cache> {
        self.caches.iter().find(|cache| cache.level == 3 && cache.cpus.contains(cpu))
    }

    /// The CPUs that share the level 3 cache with `cpu`, or its die if none is known. A level 2 cache without another behind
    /// it is no such border: what its cores share with others goes through the same memory.
    pub fn l3_domain(&self, cpu: u32) -> CpuSet {
        if let Some(cache) = self.l3(cpu) {
            return cache.cpus.clone();
        }
        let die = self.get(cpu).map(|c| (c.package, c.die));
        self.list.iter().filter(|c| Some((c.package, c.die)) == die).map(|c| c.id).collect()
    }

    /// The CPU of this number, if online.
    pub fn get(&self, id: u32) -> Option<&Cpu> {
        self.list.binary_search_by_key(&id, |c| c.id).ok().map(|i| &self.list[i])
    }
}

/// A number that a list of CPUs can have, from a captured host: no kernel for x86 has others.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let number = u32::deserialize(deserializer)?;
    match number <= MAX_CPU {
        true => Ok(number),
        false => Err(de::Error::custom(format_args!("{number} is no CPU; the highest is {MAX_CPU}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_captured_host_has_no_cpu_that_no_list_can_name() {
        let cpu = |id: u32| {
            let text =
                format!(r#"{{"id":{id},"package":0,"die":0,"core":0,"node":0,"siblings":"0","kind":"uniform"}}"#);
            serde_json::from_str::<Cpu>(&text).map_err(|error| error.to_string())
        };
        assert_eq!(cpu(MAX_CPU).unwrap().id, MAX_CPU);
        assert!(cpu(65_535).unwrap_err().starts_with("65535 is no CPU; the highest is 8191"));
    }
}
