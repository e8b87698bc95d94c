//! Reads the CPUs: `Documentation/admin-guide/cputopology.rst`, `Documentation/ABI/stable/sysfs-devices-system-cpu`.

use std::collections::BTreeMap;

use super::super::{Memory, Root};
use super::types::{Cache, CacheKind, CoreKind, Cpu, Cpus};
use crate::units::{CpuSet, Size};

/// Where CPUs live in sysfs.
const FOLDER: &str = "/sys/devices/system/cpu";
/// More caches than any CPU shows.
const MAX_CACHES: usize = 16;

impl Cpus {
    /// Reads the CPUs. `cpuset` are those of this process's cgroup. Only if no cgroup says is its `affinity` believed, with
    /// the isolated CPUs, which no process inherits.
    pub(in super::super) fn read(
        root: &Root,
        memory: &Memory,
        cpuset: Option<CpuSet>,
        affinity: Option<CpuSet>,
    ) -> Self {
        let online = root.list(format!("{FOLDER}/online")).unwrap_or_default();
        let isolated = root.list(format!("{FOLDER}/isolated")).unwrap_or_default();
        let info = CpuInfo::read(root);
        let limit = cpuset.or_else(|| Some(affinity?.union(&isolated)));
        let mut cpus = Self {
            isolated,
            allowed: limit.map_or_else(|| online.clone(), |limit| limit.intersection(&online)),
            vendor: info.vendor,
            family: info.family,
            model_number: info.model_number,
            model: info.model,
            flags: info.flags,
            list: read_list(root, &online, memory),
            caches: read_caches(root, &online),
            online,
        };
        read_capacities(root, &mut cpus.list);
        cpus.settle_kinds();
        cpus
    }
}

/// What says how fast a CPU can be, the best first.
const CAPACITIES: [&str; 3] = ["acpi_cppc/highest_perf", "cpufreq/cpuinfo_max_freq", "cpu_capacity"];

/// How fast each core can be. The attribute that the first core has is read of all, so that they can be compared.
fn read_capacities(root: &Root, list: &mut [Cpu]) {
    let Some(first) = list.first().map(|cpu| (cpu.id, cpu.package)) else { return };
    if list.iter().any(|cpu| cpu.package != first.1) {
        return;
    }
    let capacity =
        |id: u32, name: &str| root.parse::<u32>(format!("{FOLDER}/cpu{id}/{name}")).filter(|value| *value > 0);
    let Some(name) = CAPACITIES.into_iter().find(|name| capacity(first.0, name).is_some()) else { return };
    let mut of_core: BTreeMap<u32, Option<u32>> = BTreeMap::new();
    for cpu in list {
        let core = cpu.siblings.iter().next().unwrap_or(cpu.id);
        cpu.capacity = *of_core.entry(core).or_insert_with(|| capacity(cpu.id, name));
    }
}

/// What /proc/cpuinfo says of its first CPU.
#[derive(Default)]
struct CpuInfo {
    vendor: Option<String>,
    family: Option<u32>,
    model_number: Option<u32>,
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
                "cpu family" => info.family = value.parse().ok(),
                "model" => info.model_number = value.parse().ok(),
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
    // The counters of each kind of core are a device of their own (`arch/x86/events/intel/core.c`).
    let kinds =
        [("cpu_core", CoreKind::Performance), ("cpu_atom", CoreKind::Efficiency), ("cpu_lowpower", CoreKind::LowPower)];
    let kinds = kinds.map(|(name, kind)| (root.list(format!("/sys/devices/{name}/cpus")).unwrap_or_default(), kind));
    let kind = |id| kinds.iter().find(|(cpus, _)| cpus.contains(id)).map_or(CoreKind::Uniform, |(_, kind)| *kind);
    let node = nodes_of(memory);
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
        list.push(Cpu { id, node: node.get(&id).copied(), kind: kind(id), ..core });
    }
    list
}

/// The node of each CPU. If nodes overlap, as some firmware has it, a CPU is in the smallest of its nodes.
fn nodes_of(memory: &Memory) -> BTreeMap<u32, u32> {
    let mut nodes: Vec<_> = memory.nodes.iter().collect();
    nodes.sort_by_key(|node| (node.cpus.len(), node.id));
    let mut of = BTreeMap::new();
    for node in nodes {
        for cpu in node.cpus.iter() {
            of.entry(cpu).or_insert(node.id);
        }
    }
    of
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
        node: None,
        siblings,
        kind: CoreKind::Uniform,
        capacity: None,
    }
}

/// Each cache once. A cache is read at the first of the CPUs that share it; of the others' folders nothing is opened.
fn read_caches(root: &Root, online: &CpuSet) -> Vec<Cache> {
    let mut caches = Vec::new();
    // How many there may be is looked up at the ends: on 512 CPUs, trying the next index at each is a noticeable time.
    let ends = [online.iter().next(), online.iter().next_back()];
    let most = ends.into_iter().flatten().map(|id| cache_folders(root, id)).max().unwrap_or(0).clamp(4, MAX_CACHES);
    // By index folder: the CPUs of which this index is known already.
    let mut known: [CpuSet; MAX_CACHES] = Default::default();
    for id in online.iter() {
        for (index, known) in known.iter_mut().enumerate().take(most) {
            if known.contains(id) {
                continue;
            }
            let folder = format!("{FOLDER}/cpu{id}/cache/index{index}");
            let Some(level) = root.parse::<u32>(format!("{folder}/level")) else { continue };
            let mut cpus = root.list(format!("{folder}/shared_cpu_list")).unwrap_or_default().intersection(online);
            cpus.insert(id);
            for cpu in cpus.iter() {
                known.insert(cpu);
            }
            if let Some(kind) = read_kind(root, &folder) {
                caches.push(Cache { level, kind, size: read_size(root, &folder), cpus });
            }
        }
    }
    caches.sort_by_key(|cache| (cache.level, cache.cpus.iter().next(), cache.kind));
    caches
}

/// One more than the highest number of a cache's folder at this CPU.
fn cache_folders(root: &Root, id: u32) -> usize {
    let names = root.names(format!("{FOLDER}/cpu{id}/cache"));
    names.iter().filter_map(|name| name.strip_prefix("index")?.parse::<usize>().ok()).max().map_or(0, |last| last + 1)
}

/// What a cache holds.
fn read_kind(root: &Root, folder: &str) -> Option<CacheKind> {
    match root.text_up_to(format!("{folder}/type"), 64)?.as_str() {
        "Data" => Some(CacheKind::Data),
        "Instruction" => Some(CacheKind::Instruction),
        "Unified" => Some(CacheKind::Unified),
        _ => None,
    }
}

/// How much a cache holds: `32768K`.
fn read_size(root: &Root, folder: &str) -> Option<Size> {
    let kib: u64 = root.text_up_to(format!("{folder}/size"), 64)?.strip_suffix('K')?.parse().ok()?;
    Some(Size::bytes(kib.checked_mul(Size::KIB)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::memory::Node;
    use crate::host::sample_tree;
    use std::path::Path;

    fn node(id: u32, cpus: &str) -> Node {
        let cpus = cpus.parse().unwrap();
        Node { id, cpus, total: None, free: None, distances: vec![], huge_pages: vec![] }
    }

    fn read(root: &Path) -> Cpus {
        Cpus::read(&Root::new(root), &Memory::default(), None, None)
    }

    #[test]
    fn a_shared_cache_is_read_once_and_siblings_share_their_core() {
        let folder = sample_tree::tree(&[
            ("sys/devices/system/cpu/online", "0-1\n"),
            ("sys/devices/system/cpu/cpu0/topology/core_cpus_list", "0-1\n"),
            ("sys/devices/system/cpu/cpu0/topology/core_id", "4\n"),
            ("sys/devices/system/cpu/cpu0/topology/physical_package_id", "1\n"),
            ("sys/devices/system/cpu/cpu0/cache/index0/level", "3\n"),
            ("sys/devices/system/cpu/cpu0/cache/index0/type", "Unified\n"),
            ("sys/devices/system/cpu/cpu0/cache/index0/size", "98304K\n"),
            ("sys/devices/system/cpu/cpu0/cache/index0/shared_cpu_list", "0-1\n"),
        ]);
        let cpus = read(folder.path());
        assert_eq!(cpus.list.iter().map(|c| (c.id, c.package, c.core)).collect::<Vec<_>>(), [(0, 1, 4), (1, 1, 4)]);
        assert_eq!(cpus.caches.len(), 1);
        assert_eq!(cpus.caches[0].size, Some(Size::bytes(96 << 20)));
        assert_eq!(cpus.l3_domain(1).to_string(), "0-1");
    }

    #[test]
    fn kernels_without_die_and_core_lists_are_read() {
        let folder = sample_tree::tree(&[
            ("sys/devices/system/cpu/online", "0,2"),
            ("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0,2"),
            ("sys/devices/system/cpu/cpu0/topology/physical_package_id", "-1"),
        ]);
        let cpus = read(folder.path());
        assert_eq!(cpus.list[1].siblings.to_string(), "0,2");
        assert_eq!((cpus.list[0].package, cpus.list[0].die), (0, 0));
    }

    #[test]
    fn nonsense_is_unknown_and_ends() {
        let folder = sample_tree::tree(&[
            ("sys/devices/system/cpu/online", "0-3"),
            ("sys/devices/system/cpu/cpu0/topology/core_cpus_list", "0-4294967295"),
            ("sys/devices/system/cpu/cpu1/topology/core_cpus_list", "2-8191"),
            ("sys/devices/system/cpu/cpu1/topology/core_id", "99999999999999999999"),
            ("sys/devices/system/cpu/cpu0/cache/index0/level", "1"),
            ("sys/devices/system/cpu/cpu0/cache/index0/type", "Quantum"),
            ("sys/devices/system/cpu/cpu1/cache/index0/level", "2"),
            ("sys/devices/system/cpu/cpu1/cache/index0/type", "Data"),
            ("sys/devices/system/cpu/cpu1/cache/index0/size", "18446744073709551615K"),
            (
                "proc/cpuinfo",
                "cpu family\t: 23\nmodel\t\t: -1\nmodel name\t: \u{1b}[31mred\nflags\t:  a  b\n\nvendor_id : second CPU\n",
            ),
        ]);
        std::os::unix::fs::symlink(".", folder.path().join("sys/devices/system/cpu/cpu2")).unwrap();
        std::os::unix::fs::symlink("cpu3", folder.path().join("sys/devices/system/cpu/cpu3")).unwrap();
        let cpus = read(folder.path());
        assert_eq!(cpus.list.len(), 4);
        assert!(cpus.list.iter().all(|cpu| cpu.siblings == CpuSet::from_iter([cpu.id])));
        assert_eq!(cpus.get(1).unwrap().core, 1);
        assert_eq!(cpus.caches.iter().map(|cache| (cache.level, cache.size)).collect::<Vec<_>>(), [(2, None)]);
        assert_eq!((cpus.vendor, cpus.flags), (None, vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!((cpus.family, cpus.model_number), (Some(23), None));
    }

    #[test]
    fn hybrid_and_nodes_are_told_apart() {
        let folder = sample_tree::tree(&[
            ("sys/devices/system/cpu/online", "0-1"),
            ("sys/devices/cpu_core/cpus", "0"),
            ("sys/devices/cpu_atom/cpus", "1"),
        ]);
        let memory = Memory { nodes: vec![node(0, "1"), node(3, "0")], ..Memory::default() };
        let root = Root::new(folder.path());
        let cpus = Cpus::read(&root, &memory, Some(CpuSet::from_iter([1, 7])), Some(CpuSet::from_iter([0])));
        assert_eq!((cpus.list[0].kind, cpus.list[0].node), (CoreKind::Performance, Some(3)));
        assert_eq!((cpus.list[1].kind, cpus.list[1].node), (CoreKind::Efficiency, Some(0)));
        assert_eq!(cpus.allowed.to_string(), "1");
        sample_tree::put(folder.path(), "sys/devices/system/cpu/online", "0-2");
        let cpus = Cpus::read(&root, &memory, None, Some(CpuSet::from_iter([0])));
        assert_eq!((cpus.list[2].node, cpus.list[2].kind), (None, CoreKind::Efficiency));
        assert_eq!(cpus.allowed.to_string(), "0");
    }

    #[test]
    fn no_process_inherits_isolated_cpus_and_yet_it_may_use_them() {
        let folder = sample_tree::tree(&[
            ("sys/devices/system/cpu/online", "0-3\0\n"),
            ("sys/devices/system/cpu/isolated", "2-3 \0"),
        ]);
        let inherited = Some(CpuSet::from_iter([0, 1]));
        let cpus = Cpus::read(&Root::new(folder.path()), &Memory::default(), None, inherited);
        assert_eq!(cpus.allowed.to_string(), "0-3");
    }

    #[test]
    fn a_cache_behind_a_hole_is_found_and_one_of_unknown_size_too() {
        let folder = sample_tree::tree(&[
            ("sys/devices/system/cpu/online", "0-1"),
            ("sys/devices/system/cpu/cpu0/cache/index1/level", "1"),
            ("sys/devices/system/cpu/cpu0/cache/index1/type", "Data"),
            ("sys/devices/system/cpu/cpu0/cache/index5/level", "3"),
            ("sys/devices/system/cpu/cpu0/cache/index5/type", "Unified"),
            ("sys/devices/system/cpu/cpu0/cache/index5/shared_cpu_list", "0-1"),
        ]);
        let cpus = read(folder.path());
        assert_eq!(
            cpus.caches.iter().map(|cache| (cache.level, cache.size)).collect::<Vec<_>>(),
            [(1, None), (3, None)]
        );
        assert_eq!(cpus.l3_domain(1).to_string(), "0-1");
    }

    #[test]
    fn a_cpu_of_two_nodes_is_in_the_smaller() {
        let memory = Memory { nodes: vec![node(0, "0-3"), node(1, "2-3")], ..Memory::default() };
        assert_eq!(nodes_of(&memory).into_iter().collect::<Vec<_>>(), [(0, 0), (1, 0), (2, 1), (3, 1)]);
    }

    #[test]
    fn without_the_kernels_word_the_capacity_tells_the_kinds() {
        let folder = tempfile::tempdir().unwrap();
        let cpu = "sys/devices/system/cpu";
        let put = |path: String, text: &str| sample_tree::put(folder.path(), &path, text);
        put(format!("{cpu}/online"), "0-3");
        for (id, highest) in ["208", "203", "132", "132"].into_iter().enumerate() {
            put(format!("{cpu}/cpu{id}/acpi_cppc/highest_perf"), highest);
            put(format!("{cpu}/cpu{id}/cpufreq/cpuinfo_max_freq"), "1");
        }
        let kinds = || read(folder.path()).list.iter().map(|cpu| cpu.kind).collect::<Vec<_>>();
        use CoreKind::{Efficiency, Performance, Uniform};
        assert_eq!(kinds(), [Performance, Performance, Efficiency, Efficiency]);
        assert_eq!(read(folder.path()).list[1].capacity, Some(203));
        // With two packages, nobody looks.
        put(format!("{cpu}/cpu3/topology/physical_package_id"), "1");
        assert_eq!(kinds(), [Uniform; 4]);
    }
}
