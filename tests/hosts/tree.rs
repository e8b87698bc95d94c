//! A fake root: the files of /sys and /proc that a host with a given shape would have.

use std::fs;
use std::path::{Path, PathBuf};

use vfio_run::units::CpuSet;

use crate::board::{self, Board};

/// One kind of cache of a host: its `index` folder and the sets of CPUs that share one.
pub struct CacheShape {
    pub index: u32,
    pub level: u32,
    pub kind: &'static str,
    pub kib: u64,
    pub shared: Vec<CpuSet>,
}

/// A NUMA node.
pub struct NodeShape {
    pub cpus: CpuSet,
    pub total_kib: u64,
    pub free_kib: u64,
    pub distances: &'static str,
}

/// A core: its SMT siblings, `core_id` and package.
pub struct CoreShape {
    pub cpus: CpuSet,
    pub core: u32,
    pub package: u32,
}

/// A host.
pub struct Shape {
    pub kernel: &'static str,
    pub cmdline: &'static str,
    pub isolated: &'static str,
    pub vendor: &'static str,
    pub model: &'static str,
    pub flags: String,
    pub cores: Vec<CoreShape>,
    pub caches: Vec<CacheShape>,
    pub nodes: Vec<NodeShape>,
    pub available_kib: u64,
    /// P and E cores of a hybrid.
    pub hybrid: Option<(&'static str, &'static str)>,
    /// Pools as (KiB, pages, free) of node 0; the other nodes have them empty.
    pub pools: Vec<(u64, u64, u64)>,
    /// Effective user and cgroup.
    pub uid: u32,
    pub cgroup: &'static str,
    pub memlock: &'static str,
    /// `kvm_amd/avic` → `N`.
    pub parameters: Vec<(&'static str, &'static str)>,
    /// Its cards, screen and desktop; `None`: nothing is known of them.
    pub board: Option<Board>,
}

/// Writes the tree below a folder.
pub fn write(root: &Path, shape: &Shape) {
    let all: CpuSet = shape.cores.iter().flat_map(|core| core.cpus.iter().collect::<Vec<_>>()).collect();
    let put = |path: String, text: String| {
        let path: PathBuf = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text + "\n").unwrap();
    };
    let cpu = "sys/devices/system/cpu";
    put(format!("{cpu}/online"), all.to_string());
    put(format!("{cpu}/isolated"), shape.isolated.to_owned());
    for core in &shape.cores {
        for id in core.cpus.iter() {
            put(format!("{cpu}/cpu{id}/topology/physical_package_id"), core.package.to_string());
            put(format!("{cpu}/cpu{id}/topology/die_id"), "0".to_owned());
            put(format!("{cpu}/cpu{id}/topology/core_id"), core.core.to_string());
            put(format!("{cpu}/cpu{id}/topology/core_cpus_list"), core.cpus.to_string());
        }
    }
    for cache in &shape.caches {
        for set in &cache.shared {
            for id in set.iter() {
                let folder = format!("{cpu}/cpu{id}/cache/index{}", cache.index);
                put(format!("{folder}/level"), cache.level.to_string());
                put(format!("{folder}/type"), cache.kind.to_owned());
                put(format!("{folder}/size"), format!("{}K", cache.kib));
                put(format!("{folder}/shared_cpu_list"), set.to_string());
            }
        }
    }
    if let Some((performance, efficiency)) = shape.hybrid {
        put("sys/devices/cpu_core/cpus".to_owned(), performance.to_owned());
        put("sys/devices/cpu_atom/cpus".to_owned(), efficiency.to_owned());
    }
    let nodes: CpuSet = (0..shape.nodes.len() as u32).collect();
    put("sys/devices/system/node/online".to_owned(), nodes.to_string());
    for (id, node) in shape.nodes.iter().enumerate() {
        let folder = format!("sys/devices/system/node/node{id}");
        put(format!("{folder}/cpulist"), node.cpus.to_string());
        put(format!("{folder}/distance"), node.distances.to_owned());
        let (total, free) = (node.total_kib, node.free_kib);
        let info = format!("\nNode {id} MemTotal:       {total} kB\nNode {id} MemFree:        {free} kB");
        put(format!("{folder}/meminfo"), info);
        for (kib, pages, free) in &shape.pools {
            let (pages, free) = if id == 0 { (*pages, *free) } else { (0, 0) };
            let pool = format!("{folder}/hugepages/hugepages-{kib}kB");
            put(format!("{pool}/nr_hugepages"), pages.to_string());
            put(format!("{pool}/free_hugepages"), free.to_string());
            put(format!("{pool}/surplus_hugepages"), "0".to_owned());
        }
    }
    write_proc(shape, &all, &put);
    if let Some(board) = &shape.board {
        board::write(root, board);
    }
    for (parameter, value) in &shape.parameters {
        let (module, name) = parameter.split_once('/').unwrap();
        put(format!("sys/module/{module}/parameters/{name}"), (*value).to_owned());
    }
    put("sys/fs/cgroup/cgroup.controllers".to_owned(), "cpuset cpu io memory hugetlb pids rdma misc".to_owned());
    put("run/systemd/system/.keep".to_owned(), String::new());
    put("dev/kvm".to_owned(), String::new());
    for program in ["qemu-system-x86_64", "swtpm"] {
        put(format!("usr/bin/{program}"), String::new());
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(root.join("usr/bin").join(program), executable).unwrap();
    }
    for (name, description, build, vars, machines, features) in OVMF {
        let text = serde_json::json!({
            "description": description,
            "interface-types": ["uefi"],
            "mapping": {
                "device": "flash",
                "executable": { "filename": format!("/usr/share/OVMF/{build}"), "format": "raw" },
                "nvram-template": { "filename": format!("/usr/share/OVMF/{vars}"), "format": "raw" }
            },
            "targets": [{ "architecture": "x86_64", "machines": machines }],
            "features": features,
            "tags": []
        });
        put(format!("usr/share/qemu/firmware/{name}"), text.to_string());
    }
}

fn write_proc(shape: &Shape, all: &CpuSet, put: &dyn Fn(String, String)) {
    let total: u64 = shape.nodes.iter().map(|node| node.total_kib).sum();
    let free: u64 = shape.nodes.iter().map(|node| node.free_kib).sum();
    let available = shape.available_kib;
    put(
        "proc/meminfo".to_owned(),
        format!("MemTotal:       {total} kB\nMemFree:        {free} kB\nMemAvailable:   {available} kB"),
    );
    let bits = shape.board.as_ref().map(|board| board.address_bits);
    let sizes =
        bits.map(|bits| format!("address sizes\t: {bits} bits physical, 48 bits virtual\n")).unwrap_or_default();
    let info = |id: u32| {
        format!(
            "processor\t: {id}\nvendor_id\t: {}\nmodel name\t: {}\nflags\t\t: {}\n{sizes}power management:\n",
            shape.vendor, shape.model, shape.flags
        )
    };
    put("proc/cpuinfo".to_owned(), all.iter().map(info).collect::<Vec<_>>().join("\n"));
    put("proc/cmdline".to_owned(), shape.cmdline.to_owned());
    put("proc/sys/kernel/osrelease".to_owned(), shape.kernel.to_owned());
    let uid = shape.uid;
    put(
        "proc/self/status".to_owned(),
        format!(
            "Name:\tvfio-run\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t{uid}\t{uid}\t{uid}\t{uid}\nCpus_allowed_list:\t{all}"
        ),
    );
    put("proc/self/cgroup".to_owned(), format!("0::{}", shape.cgroup));
    put(
        "proc/self/limits".to_owned(),
        format!(
            "Limit                     Soft Limit           Hard Limit           Units     \n\
             Max locked memory         {0:<20} {0:<20} bytes     ",
            shape.memlock
        ),
    );
    put("proc/swaps".to_owned(), "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority".to_owned());
}

/// A descriptor of Debian's package ovmf 2022.11-6+deb12u2: name, description, code, variables, machines, features.
type Ovmf = (&'static str, &'static str, &'static str, &'static str, &'static [&'static str], &'static [&'static str]);

const OVMF: [Ovmf; 3] = [
    (
        "40-edk2-x86_64-secure-enrolled.json",
        "UEFI firmware for x86_64, with Secure Boot and SMM, SB enabled, MS certs enrolled",
        "OVMF_CODE_4M.ms.fd",
        "OVMF_VARS_4M.ms.fd",
        &["pc-q35-*"],
        &["acpi-s3", "amd-sev", "enrolled-keys", "requires-smm", "secure-boot", "verbose-dynamic"],
    ),
    (
        "50-edk2-x86_64-secure.json",
        "UEFI firmware for x86_64, with Secure Boot and SMM, empty varstore",
        "OVMF_CODE_4M.secboot.fd",
        "OVMF_VARS_4M.fd",
        &["pc-q35-*"],
        &["acpi-s3", "amd-sev", "requires-smm", "secure-boot", "verbose-dynamic"],
    ),
    (
        "60-edk2-x86_64.json",
        "UEFI firmware for x86_64, without Secure Boot without SMM, with empty varstore",
        "OVMF_CODE_4M.fd",
        "OVMF_VARS_4M.fd",
        &["pc-i440fx-*", "pc-q35-*"],
        &["acpi-s3", "amd-sev", "verbose-dynamic"],
    ),
];
