//! Prints everything that handing a device to a guest may change, a line each: path, tab, value. What a line means, and
//! what else changes on its own, is known on the test's side (`kit/snapshot.rs`).
//!
//! A program of its own without a crate, linked statically so that it runs on every release: tests look at a host often,
//! and on an emulated one a script takes five times as long.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// Folders in which much is that changes on its own: records of udev about what happened, terminals and other nodes by
/// number, the lab's own. And the settings of each network card, half of all sysctls: a card takes its own along.
const LEFT_OUT: &[&str] = &[
    "/run/udev",
    "/run/lab",
    "/run/log",
    "/dev/char",
    "/dev/block",
    "/dev/pts",
    "/proc/sys/net/ipv4/conf",
    "/proc/sys/net/ipv4/neigh",
    "/proc/sys/net/ipv6/conf",
    "/proc/sys/net/ipv6/neigh",
];

/// Of a control group's some seventy files.
const CGROUP_FILES: &[&str] =
    &["cpuset.cpus", "cpuset.cpus.partition", "cpuset.cpus.exclusive", "cpuset.mems", "cgroup.subtree_control"];

/// Files to read whole; a `*` stands for the rest of a name.
const FILES: &[&str] = &[
    "/sys/bus/pci/devices/*/driver_override",
    "/sys/bus/pci/devices/*/power/control",
    "/sys/bus/pci/devices/*/d3cold_allowed",
    "/sys/bus/pci/devices/*/reset_method",
    "/sys/bus/pci/devices/*/enable",
    "/sys/bus/pci/devices/*/sriov_numvfs",
    "/sys/bus/pci/devices/*/numa_node",
    "/sys/class/vtconsole/*/bind",
    "/sys/class/vtconsole/*/name",
    "/proc/fb",
    "/sys/module/kvm/parameters/*",
    "/sys/module/kvm_amd/parameters/*",
    "/sys/module/kvm_intel/parameters/*",
    "/sys/module/vfio/parameters/*",
    "/sys/module/vfio_pci/parameters/*",
    "/sys/module/vfio_iommu_type1/parameters/*",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/kernel/mm/transparent_hugepage/defrag",
    "/sys/kernel/mm/ksm/run",
    "/sys/devices/system/node/node*/hugepages/*/nr_hugepages",
    "/sys/kernel/mm/hugepages/*/nr_overcommit_hugepages",
    "/sys/devices/system/cpu/cpu*/online",
    "/sys/devices/system/cpu/cpu*/power/pm_qos_resume_latency_us",
    "/sys/devices/system/cpu/smt/control",
    "/sys/devices/system/cpu/cpufreq/policy*/scaling_governor",
    "/sys/devices/system/cpu/cpufreq/policy*/scaling_min_freq",
    "/sys/devices/system/cpu/cpufreq/policy*/scaling_max_freq",
    "/sys/devices/system/cpu/cpufreq/boost",
    "/sys/devices/virtual/workqueue/cpumask",
    "/sys/bus/workqueue/devices/writeback/cpumask",
    "/proc/irq/default_smp_affinity",
    "/proc/sys/net/ipv4/conf/*/forwarding",
    "/proc/sys/net/ipv6/conf/*/forwarding",
];

/// Threads of the kernel that every host has at all times and that can be moved, by the beginnings of their names.
const KERNEL_THREADS: &[&str] = &["kthreadd", "kswapd", "kcompactd", "khugepaged", "ksmd", "oom_reaper", "khungtaskd"];

/// Links to print the targets of.
const LINKS: &[&str] = &[
    "/sys/bus/pci/devices/*/driver",
    "/sys/bus/usb/devices/*/driver",
    "/sys/bus/platform/devices/*framebuffer*/driver",
    "/sys/class/net/*",
];

fn main() -> ExitCode {
    let mut out = String::with_capacity(1 << 17);
    for pattern in LINKS {
        for path in matching(pattern) {
            if let Ok(target) = fs::read_link(&path) {
                line(&mut out, &path, &target.to_string_lossy());
            }
        }
    }
    for pattern in FILES {
        for path in matching(pattern) {
            lines(&mut out, &path);
        }
    }
    for module in read("/proc/modules").lines().filter_map(|line| line.split(' ').next()) {
        line(&mut out, &format!("/proc/modules/{module}"), "loaded");
    }
    for mount in read("/proc/mounts").lines() {
        if let [_, place, kind, ..] = mount.split(' ').collect::<Vec<_>>()[..] {
            line(&mut out, &format!("/proc/mounts{place}"), kind);
        }
    }
    firewall(&mut out);
    interrupts(&mut out);
    below("/sys/fs/cgroup", &mut |path, name, kind| {
        if kind.is_dir() {
            line(&mut out, path, "group");
        } else if CGROUP_FILES.contains(&name) {
            lines(&mut out, path);
        }
    });
    below("/proc/sys", &mut |path, _, kind| {
        if kind.is_file() {
            lines(&mut out, path);
        }
    });
    let accounts = Accounts::read();
    for folder in ["/run", "/dev"] {
        node(&mut out, folder, &accounts);
        below(folder, &mut |path, _, _| node(&mut out, path, &accounts));
    }
    processes(&mut out);
    if !units(&mut out) || std::io::stdout().write_all(out.as_bytes()).is_err() {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// What can be read of a file: many a file of the kernel's cannot.
fn read(path: &str) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn line(out: &mut String, path: &str, value: &str) {
    out.push_str(path);
    out.push('\t');
    out.push_str(value);
    out.push('\n');
}

fn lines(out: &mut String, path: &str) {
    for value in read(path).lines() {
        line(out, path, value);
    }
}

/// The names in a folder, in order.
fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The paths that a pattern with `*` in some of its parts stands for, there or not.
fn matching(pattern: &str) -> Vec<String> {
    let mut paths = vec![String::new()];
    for part in pattern.split('/').skip(1) {
        paths = paths
            .iter()
            .flat_map(|path| {
                let fitting = match part.split_once('*') {
                    None => vec![part.to_owned()],
                    Some((start, rest)) => {
                        let fits = |name: &String| {
                            name.strip_prefix(start).is_some_and(|name| name.contains(rest.trim_end_matches('*')))
                        };
                        names(if path.is_empty() { "/" } else { path }).into_iter().filter(fits).collect()
                    }
                };
                fitting.into_iter().map(move |name| format!("{path}/{name}"))
            })
            .collect();
    }
    paths
}

/// Calls back for everything below a folder but what is left out: path, name, kind. Links are not followed.
fn below(folder: &str, each: &mut dyn FnMut(&str, &str, fs::FileType)) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let path = format!("{folder}/{name}");
        let Ok(kind) = entry.file_type() else { continue };
        if LEFT_OUT.contains(&path.as_str()) {
            continue;
        }
        each(&path, &name, kind);
        if kind.is_dir() {
            below(&path, each);
        }
    }
}

/// The rules of the firewall, without what they counted. If its module is not loaded there are none.
fn firewall(out: &mut String) {
    if !Path::new("/sys/module/nf_tables").exists() {
        return;
    }
    if let Ok(listed) = Command::new("/usr/sbin/nft").args(["--stateless", "list", "ruleset"]).output() {
        for rule in String::from_utf8_lossy(&listed.stdout).lines() {
            line(out, "/firewall", rule.trim());
        }
    }
}

/// Which processors each interrupt goes to, by the names of its drivers.
fn interrupts(out: &mut String) {
    for number in names("/proc/irq").iter().filter(|name| name.starts_with(|first: char| first.is_ascii_digit())) {
        let folder = format!("/proc/irq/{number}");
        let actions: Vec<String> =
            names(&folder).into_iter().filter(|name| Path::new(&format!("{folder}/{name}")).is_dir()).collect();
        if !actions.is_empty() {
            let mask = read(&format!("{folder}/smp_affinity_list"));
            for action in actions {
                line(out, &format!("/proc/irq/{action}"), mask.trim());
            }
        }
    }
}

/// Names of users and groups by number.
struct Accounts {
    users: BTreeMap<u32, String>,
    groups: BTreeMap<u32, String>,
}

impl Accounts {
    fn read() -> Self {
        let of = |file: &str| {
            let fields = |line: &str| {
                let mut fields = line.split(':');
                Some((fields.next()?.to_owned(), fields.nth(1)?.parse().ok()?))
            };
            read(file).lines().filter_map(fields).map(|(name, number)| (number, name)).collect()
        };
        Self { users: of("/etc/passwd"), groups: of("/etc/group") }
    }
}

/// What a file is, whose, and for whom.
fn node(out: &mut String, path: &str, accounts: &Accounts) {
    let Ok(about) = fs::symlink_metadata(path) else { return };
    let kind = match about.file_type() {
        kind if kind.is_file() => 'f',
        kind if kind.is_dir() => 'd',
        kind if kind.is_symlink() => 'l',
        kind if kind.is_fifo() => 'p',
        kind if kind.is_socket() => 's',
        kind if kind.is_char_device() => 'c',
        _ => 'b',
    };
    let name_of = |names: &BTreeMap<u32, String>, number: u32| {
        names.get(&number).cloned().unwrap_or_else(|| number.to_string())
    };
    let (user, group) = (name_of(&accounts.users, about.uid()), name_of(&accounts.groups, about.gid()));
    line(out, path, &format!("{kind} {user}:{group} {:o}", about.mode() & 0o7777));
}

/// Which processors each program and some threads of the kernel may run on, and how many there are of it.
fn processes(out: &mut String) {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for number in names("/proc").iter().filter(|name| name.starts_with(|first: char| first.is_ascii_digit())) {
        // The kernel's threads have no program.
        let is_known = |name: &str| KERNEL_THREADS.iter().any(|known| name.starts_with(known));
        if fs::read_link(format!("/proc/{number}/exe")).is_err() && !is_known(&read(&format!("/proc/{number}/comm"))) {
            continue;
        }
        let status = read(&format!("/proc/{number}/status"));
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if let (Some(name), Some(allowed)) = (field("Name:"), field("Cpus_allowed_list:")) {
            *counts.entry(format!("/proc/process/{name}\t{allowed}")).or_default() += 1;
        }
    }
    for (process, count) in counts {
        out.push_str(&format!("{process} ×{count}\n"));
    }
}

/// systemd's units, if it runs; returns whether that could be found out.
fn units(out: &mut String) -> bool {
    if !Path::new("/run/systemd/system").is_dir() {
        return true;
    }
    let mut list = Command::new("systemctl");
    list.args(["list-units", "--all", "--plain", "--no-legend", "--type=service,socket,mount,slice,scope,target"]);
    let listed = match list.stderr(Stdio::inherit()).output() {
        Ok(listed) => listed,
        Err(error) => {
            eprintln!("cannot start systemctl: {error}");
            return false;
        }
    };
    for unit in String::from_utf8_lossy(&listed.stdout).lines() {
        if let [name, _, active, sub, ..] = unit.split_whitespace().collect::<Vec<_>>()[..] {
            line(out, &format!("/unit/{name}"), &format!("{active} {sub}"));
        }
    }
    listed.status.success()
}
