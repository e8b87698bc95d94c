//! CPU topology: packages, dies, cores, SMT siblings, caches, NUMA nodes, core kinds.
//! Source: `Documentation/admin-guide/cputopology.rst`, `Documentation/ABI/stable/sysfs-devices-system-cpu`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, de};

use super::{Memory, Root};
use crate::units::{CpuSet, MAX_CPU, Size};

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
    #[serde(deserialize_with = "number")]
    pub id: u32,
    /// Package (socket).
    pub package: u32,
    /// Die in the package; 0 if the kernel does not say.
    pub die: u32,
    /// Core in the package (`core_id`, not contiguous).
    pub core: u32,
    /// NUMA node; 0 if there is only one.
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

/// Where CPUs live in sysfs.
const FOLDER: &str = "/sys/devices/system/cpu";
/// More caches than any CPU shows.
const MAX_CACHES: usize = 16;

impl Cpus {
    /// Reads the CPUs; `allowed` is this process's affinity, if it is known.
    pub(super) fn read(root: &Root, memory: &Memory, allowed: Option<CpuSet>) -> Self {
        let online = root.list(format!("{FOLDER}/online")).unwrap_or_default();
        let info = CpuInfo::read(root);
        Self {
            isolated: root.list(format!("{FOLDER}/isolated")).unwrap_or_default(),
            allowed: allowed.map_or_else(|| online.clone(), |allowed| allowed.intersection(&online)),
            vendor: info.vendor,
            model: info.model,
            flags: info.flags,
            list: read_list(root, &online, memory),
            caches: read_caches(root, &online),
            online,
        }
    }

    /// The CPUs that share the last-level cache with `cpu` (level 3, else level 2), or its package if no cache is known.
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

/// What /proc/cpuinfo says of its first CPU.
#[derive(Default)]
struct CpuInfo {
    vendor: Option<String>,
    model: Option<String>,
    flags: Vec<String>,
}

impl CpuInfo {
    /// Reads only the beginning of the file: on 512 CPUs the whole is 1 MB that the kernel has to format.
    fn read(root: &Root) -> Self {
        let mut info = Self::default();
        for line in root.text_up_to("/proc/cpuinfo", 16 << 10).unwrap_or_default().lines() {
            let Some((key, value)) = line.split_once(':') else {
                // A blank line ends the first CPU.
                break;
            };
            let value = value.trim();
            match key.trim() {
                "vendor_id" => info.vendor = Some(value.to_owned()),
                "model name" => info.model = Some(value.to_owned()),
                "flags" => info.flags = value.split_ascii_whitespace().map(str::to_owned).collect(),
                _ => {}
            }
        }
        info
    }
}

/// Each online CPU. Siblings are of one core, so the core is read once for all of them.
fn read_list(root: &Root, online: &CpuSet, memory: &Memory) -> Vec<Cpu> {
    let performance = root.list("/sys/devices/cpu_core/cpus").unwrap_or_default();
    let efficiency = root.list("/sys/devices/cpu_atom/cpus").unwrap_or_default();
    let kind = |id| match (performance.contains(id), efficiency.contains(id)) {
        _ if performance.is_empty() || efficiency.is_empty() => CoreKind::Uniform,
        (true, false) => CoreKind::Performance,
        (false, true) => CoreKind::Efficiency,
        _ => CoreKind::Uniform,
    };
    let node = |id| memory.nodes.iter().find(|node| node.cpus.contains(id)).map_or(0, |node| node.id);
    let mut list: Vec<Cpu> = Vec::with_capacity(online.len());
    let mut first_sibling: BTreeMap<u32, usize> = BTreeMap::new();
    for id in online.iter() {
        let core = match first_sibling.get(&id) {
            Some(&first) => list[first].clone(),
            None => read_core(root, id, online),
        };
        for sibling in core.siblings.iter() {
            first_sibling.entry(sibling).or_insert(list.len());
        }
        list.push(Cpu { id, node: node(id), kind: kind(id), ..core });
    }
    list
}

/// What all SMT siblings of a core have in common, read at one of them.
fn read_core(root: &Root, id: u32, online: &CpuSet) -> Cpu {
    let folder = format!("{FOLDER}/cpu{id}/topology");
    // -1 if the firmware does not say.
    let number = |name: &str| root.parse::<u32>(format!("{folder}/{name}"));
    // `thread_siblings_list` is its name before Linux 5.3.
    let mut siblings = ["core_cpus_list", "thread_siblings_list"]
        .iter()
        .find_map(|name| root.list(format!("{folder}/{name}")))
        .unwrap_or_default()
        .intersection(online);
    if !siblings.contains(id) {
        siblings = CpuSet::from_iter([id]);
    }
    Cpu {
        id,
        package: number("physical_package_id").unwrap_or(0),
        die: number("die_id").unwrap_or(0),
        core: number("core_id").unwrap_or(id),
        node: 0,
        siblings,
        kind: CoreKind::Uniform,
    }
}

/// Each cache once. A cache is read at the first of the CPUs that share it; of the others' folders nothing is opened.
fn read_caches(root: &Root, online: &CpuSet) -> Vec<Cache> {
    let mut caches = Vec::new();
    // By index folder: the CPUs of which this index is known already.
    let mut known: [CpuSet; MAX_CACHES] = Default::default();
    for id in online.iter() {
        for (index, known) in known.iter_mut().enumerate() {
            if known.contains(id) {
                continue;
            }
            let folder = format!("{FOLDER}/cpu{id}/cache/index{index}");
            let Some(level) = root.parse::<u32>(format!("{folder}/level")) else { break };
            let mut cpus = root.list(format!("{folder}/shared_cpu_list")).unwrap_or_default().intersection(online);
            cpus.insert(id);
            for cpu in cpus.iter() {
                known.insert(cpu);
            }
            if let Some((kind, size)) = read_kind_and_size(root, &folder) {
                caches.push(Cache { level, kind, size, cpus });
            }
        }
    }
    caches.sort_by_key(|cache| (cache.level, cache.cpus.iter().next(), cache.kind));
    caches
}

/// What a cache holds and how much: `Unified` and `32768K`.
fn read_kind_and_size(root: &Root, folder: &str) -> Option<(CacheKind, Size)> {
    let kind = match root.text_up_to(format!("{folder}/type"), 64)?.as_str() {
        "Data" => CacheKind::Data,
        "Instruction" => CacheKind::Instruction,
        "Unified" => CacheKind::Unified,
        _ => return None,
    };
    let kib: u64 = root.text_up_to(format!("{folder}/size"), 64)?.strip_suffix('K')?.parse().ok()?;
    Some((kind, Size::bytes(kib.checked_mul(Size::KIB)?)))
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
    use crate::host::memory::Node;
    use std::path::Path;

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

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    fn read(root: &Path) -> Cpus {
        Cpus::read(&Root::new(root), &Memory::default(), None)
    }

    #[test]
    fn a_shared_cache_is_read_once_and_siblings_share_their_core() {
        let folder = tempfile::tempdir().unwrap();
        write(
            folder.path(),
            &[
                ("sys/devices/system/cpu/online", "0-1\n"),
                ("sys/devices/system/cpu/cpu0/topology/core_cpus_list", "0-1\n"),
                ("sys/devices/system/cpu/cpu0/topology/core_id", "4\n"),
                ("sys/devices/system/cpu/cpu0/topology/physical_package_id", "1\n"),
                ("sys/devices/system/cpu/cpu0/cache/index0/level", "3\n"),
                ("sys/devices/system/cpu/cpu0/cache/index0/type", "Unified\n"),
                ("sys/devices/system/cpu/cpu0/cache/index0/size", "98304K\n"),
                ("sys/devices/system/cpu/cpu0/cache/index0/shared_cpu_list", "0-1\n"),
            ],
        );
        let cpus = read(folder.path());
        assert_eq!(cpus.list.iter().map(|c| (c.id, c.package, c.core)).collect::<Vec<_>>(), [(0, 1, 4), (1, 1, 4)]);
        assert_eq!(cpus.caches.len(), 1);
        assert_eq!(cpus.caches[0].size, Size::bytes(96 << 20));
        assert_eq!(cpus.l3_domain(1).to_string(), "0-1");
    }

    #[test]
    fn kernels_without_die_and_core_lists_are_read() {
        let folder = tempfile::tempdir().unwrap();
        write(
            folder.path(),
            &[
                ("sys/devices/system/cpu/online", "0,2"),
                ("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0,2"),
                ("sys/devices/system/cpu/cpu0/topology/physical_package_id", "-1"),
            ],
        );
        let cpus = read(folder.path());
        assert_eq!(cpus.list[1].siblings.to_string(), "0,2");
        assert_eq!((cpus.list[0].package, cpus.list[0].die), (0, 0));
    }

    #[test]
    fn nonsense_is_unknown_and_ends() {
        let folder = tempfile::tempdir().unwrap();
        write(
            folder.path(),
            &[
                ("sys/devices/system/cpu/online", "0-3"),
                ("sys/devices/system/cpu/cpu0/topology/core_cpus_list", "0-4294967295"),
                ("sys/devices/system/cpu/cpu1/topology/core_cpus_list", "2-8191"),
                ("sys/devices/system/cpu/cpu1/topology/core_id", "99999999999999999999"),
                ("sys/devices/system/cpu/cpu0/cache/index0/level", "1"),
                ("sys/devices/system/cpu/cpu0/cache/index0/type", "Quantum"),
                ("sys/devices/system/cpu/cpu1/cache/index0/level", "2"),
                ("sys/devices/system/cpu/cpu1/cache/index0/type", "Data"),
                ("sys/devices/system/cpu/cpu1/cache/index0/size", "18446744073709551615K"),
                ("proc/cpuinfo", "model name\t: \u{1b}[31mred\nflags\t:  a  b\n\nvendor_id : second CPU\n"),
            ],
        );
        std::os::unix::fs::symlink(".", folder.path().join("sys/devices/system/cpu/cpu2")).unwrap();
        std::os::unix::fs::symlink("cpu3", folder.path().join("sys/devices/system/cpu/cpu3")).unwrap();
        let cpus = read(folder.path());
        assert_eq!(cpus.list.len(), 4);
        assert!(cpus.list.iter().all(|cpu| cpu.siblings == CpuSet::from_iter([cpu.id])));
        assert_eq!(cpus.get(1).unwrap().core, 1);
        assert!(cpus.caches.is_empty());
        assert_eq!((cpus.vendor, cpus.flags), (None, vec!["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn hybrid_and_nodes_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        write(
            folder.path(),
            &[
                ("sys/devices/system/cpu/online", "0-1"),
                ("sys/devices/cpu_core/cpus", "0"),
                ("sys/devices/cpu_atom/cpus", "1"),
            ],
        );
        let node = |id: u32, cpu| Node {
            id,
            cpus: CpuSet::from_iter([cpu]),
            total: None,
            free: None,
            distances: vec![],
            huge_pages: vec![],
        };
        let memory = Memory { nodes: vec![node(0, 1), node(3, 0)], ..Memory::default() };
        let cpus = Cpus::read(&Root::new(folder.path()), &memory, Some(CpuSet::from_iter([1, 7])));
        assert_eq!((cpus.list[0].kind, cpus.list[0].node), (CoreKind::Performance, 3));
        assert_eq!((cpus.list[1].kind, cpus.list[1].node), (CoreKind::Efficiency, 0));
        assert_eq!(cpus.allowed.to_string(), "1");
    }
}
