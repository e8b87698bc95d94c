//! What of the host can be tuned for a run: attributes with what they say, the policies of cpufreq, interrupts.
//! Sources: `Documentation/admin-guide/pm/cpufreq.rst`, `Documentation/core-api/irq/irq-affinity.rst`.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Root;
use crate::units::{CpuSet, PciAddress};

const POLICIES: &str = "/sys/devices/system/cpu/cpufreq";
const CPUS: &str = "/sys/devices/system/cpu";
const DEVICES: &str = "/sys/bus/pci/devices";

/// What is to be looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WantedTuning {
    /// Attributes; `{n}` stands for the number of each policy of cpufreq, [`Self::EACH_CPU`] for that of each CPU.
    pub files: Vec<String>,
    /// Whether the interrupts are read.
    pub irqs: bool,
}

impl WantedTuning {
    /// Stands for the number of each CPU.
    pub const EACH_CPU: &str = "{cpu}";
}

/// What can be tuned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuning {
    /// The numbers of cpufreq's policies: `policy0` is CPU 0's and may be that of other CPUs too.
    #[serde(default)]
    pub policies: CpuSet,
    /// The attributes that were asked for and can be read.
    #[serde(default)]
    pub files: BTreeMap<PathBuf, Attribute>,
    /// The interrupts, ascending.
    #[serde(default)]
    pub irqs: Vec<Irq>,
    /// Whether irqbalance runs, which moves interrupts.
    #[serde(default)]
    pub irqbalance: bool,
    /// The unit of systemd's that it runs in, if it is in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub irqbalance_unit: Option<String>,
}

/// An attribute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    /// What it says.
    pub text: String,
    /// Whether nobody may write to it, root neither.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// An interrupt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Irq {
    /// Its number.
    pub number: u32,
    /// The CPUs that it may be delivered to (`smp_affinity_list`).
    pub cpus: CpuSet,
    /// Who handles it, by the drivers' names; empty if nobody does, `None` if the kernel does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions: Option<String>,
    /// The PCI function that sends it as a message (MSI).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<PciAddress>,
}

impl Tuning {
    pub(super) fn read(root: &Root, wanted: &WantedTuning) -> Self {
        let policies = numbers(root, POLICIES, "policy");
        let cpus = wanted.files.iter().any(|file| file.contains(WantedTuning::EACH_CPU));
        let cpus = if cpus { numbers(root, CPUS, "cpu") } else { CpuSet::new() };
        let filled = |file: &String, sign: &str, numbers: &CpuSet| {
            numbers.iter().map(|number| file.replace(sign, &number.to_string())).collect::<Vec<_>>()
        };
        let paths = wanted.files.iter().flat_map(|file| match file {
            file if file.contains("{n}") => filled(file, "{n}", &policies),
            file if file.contains(WantedTuning::EACH_CPU) => filled(file, WantedTuning::EACH_CPU, &cpus),
            file => vec![file.clone()],
        });
        // The policy of a CPU that is offline cannot be read (EBUSY).
        let files = paths.filter_map(|path| Some((path.clone().into(), Attribute::read(root, Path::new(&path))?)));
        let files = files.collect();
        let balancer = if wanted.irqs { irqbalance(root) } else { None };
        Self {
            files,
            policies,
            irqs: if wanted.irqs { irqs(root) } else { Vec::new() },
            irqbalance: balancer.is_some(),
            irqbalance_unit: balancer.flatten(),
        }
    }
}

/// The numbers in the names of a folder that begin so.
fn numbers(root: &Root, folder: &str, prefix: &str) -> CpuSet {
    root.names(folder).iter().filter_map(|name| name.strip_prefix(prefix)?.parse::<u32>().ok()).collect()
}

/// Whether irqbalance runs: its socket has its process number in its name. Then the unit of systemd's that it is in, if it
/// is in one.
fn irqbalance(root: &Root) -> Option<Option<String>> {
    let sockets = root.names("/run/irqbalance");
    let mut numbers = sockets.iter().filter_map(|name| {
        let number = name.strip_prefix("irqbalance")?.strip_suffix(".sock")?;
        number.parse::<u32>().ok()
    });
    // A socket may be left of one that was killed.
    let number =
        numbers.find(|number| root.text_up_to(format!("/proc/{number}/comm"), 64).is_some_and(is_irqbalance))?;
    let cgroup = root.text_up_to(format!("/proc/{number}/cgroup"), 4096).unwrap_or_default();
    let group = cgroup.lines().find_map(|line| line.strip_prefix("0::/system.slice/"));
    Some(group.filter(|unit| unit.ends_with(".service") && !unit.contains('/')).map(str::to_owned))
}

fn is_irqbalance(name: String) -> bool {
    name == "irqbalance"
}

impl Attribute {
    fn read(root: &Root, path: &Path) -> Option<Self> {
        let text = root.text_up_to(path, 4096)?;
        let mode = std::fs::metadata(root.path(path)).ok()?.permissions().mode();
        Some(Self { text, read_only: mode & 0o222 == 0 })
    }
}

fn irqs(root: &Root) -> Vec<Irq> {
    let mut senders = BTreeMap::new();
    for name in root.names(DEVICES) {
        let Ok(address) = name.parse::<PciAddress>() else { continue };
        let numbers = root.names(format!("{DEVICES}/{name}/msi_irqs"));
        senders.extend(numbers.iter().filter_map(|number| Some((number.parse::<u32>().ok()?, address))));
    }
    let mut numbers: Vec<u32> = root.names("/proc/irq").iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    let irqs = numbers.into_iter().filter_map(|number| {
        let cpus = root.list(format!("/proc/irq/{number}/smp_affinity_list"))?;
        let actions = root.text_up_to(format!("/sys/kernel/irq/{number}/actions"), 4096);
        Some(Irq { number, cpus, actions, device: senders.get(&number).copied() })
    });
    irqs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_read_and_what_is_not_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "powersave\n"),
            ("sys/devices/system/cpu/cpufreq/policy10/scaling_governor", "performance\n"),
            ("sys/devices/system/cpu/cpufreq/policy2/other", ""),
            ("sys/devices/system/cpu/cpufreq/boost", "1"),
            ("proc/sys/kernel/numa_balancing", "1\n"),
            ("sys/module/kvm/parameters/halt_poll_ns", "200000\n"),
            ("proc/irq/default_smp_affinity", "f"),
            ("proc/irq/9/smp_affinity_list", "0-3\n"),
            ("proc/irq/30/smp_affinity_list", "2\n"),
            ("proc/irq/31/smp_affinity_list", "no list\n"),
            ("sys/kernel/irq/30/actions", "nvme0q1\n"),
            ("sys/bus/pci/devices/0000:01:00.0/msi_irqs/30", "msix\n"),
            ("run/irqbalance/irqbalance12.sock", ""),
            ("run/irqbalance/irqbalance4711.sock", ""),
            ("proc/4711/comm", "irqbalance\n"),
            ("proc/4711/cgroup", "0::/system.slice/irqbalance.service\n"),
            ("sys/devices/system/cpu/cpu1/power/pm_qos_resume_latency_us", "0\n"),
            ("sys/devices/system/cpu/cpuidle/power/pm_qos_resume_latency_us", "0\n"),
        ] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let parameter = folder.path().join("sys/module/kvm/parameters/halt_poll_ns");
        std::fs::set_permissions(&parameter, std::fs::Permissions::from_mode(0o444)).unwrap();
        let root = Root::new(folder.path());
        let files = [
            "/sys/devices/system/cpu/cpufreq/policy{n}/scaling_governor",
            "/proc/sys/kernel/numa_balancing",
            "/proc/sys/kernel/missing",
            "/sys/module/kvm/parameters/halt_poll_ns",
            "/sys/devices/system/cpu/cpu{cpu}/power/pm_qos_resume_latency_us",
        ];
        let wanted = WantedTuning { files: files.map(str::to_owned).to_vec(), irqs: true };
        let tuning = Tuning::read(&root, &wanted);
        assert_eq!(tuning.policies.to_string(), "0,2,10");
        let said = tuning.files.iter().map(|(path, file)| (path.to_str().unwrap(), &*file.text, file.read_only));
        assert_eq!(
            said.collect::<Vec<_>>(),
            [
                ("/proc/sys/kernel/numa_balancing", "1", false),
                ("/sys/devices/system/cpu/cpu1/power/pm_qos_resume_latency_us", "0", false),
                ("/sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "powersave", false),
                ("/sys/devices/system/cpu/cpufreq/policy10/scaling_governor", "performance", false),
                ("/sys/module/kvm/parameters/halt_poll_ns", "200000", true),
            ]
        );
        let irqs = tuning.irqs.iter().map(|irq| (irq.number, irq.cpus.to_string(), irq.actions.as_deref()));
        assert_eq!(irqs.collect::<Vec<_>>(), [(9, "0-3".to_owned(), None), (30, "2".to_owned(), Some("nvme0q1"))]);
        assert_eq!(tuning.irqs.iter().map(|irq| irq.device.is_some()).collect::<Vec<_>>(), [false, true]);
        assert_eq!((tuning.irqbalance, tuning.irqbalance_unit.as_deref()), (true, Some("irqbalance.service")));
        for (group, unit) in [("0::/irqbalance", None), ("0::/user.slice/a.service", None)] {
            std::fs::write(folder.path().join("proc/4711/cgroup"), group).unwrap();
            assert_eq!(irqbalance(&root), Some(unit));
        }
        std::fs::remove_dir_all(folder.path().join("proc/4711")).unwrap();
        assert_eq!(irqbalance(&root), None, "what is left of one that was killed");
        assert_eq!(serde_json::from_str::<Tuning>(&serde_json::to_string(&tuning).unwrap()).unwrap(), tuning);

        let asked = WantedTuning { irqs: false, ..wanted };
        assert_eq!(Tuning::read(&root, &asked).irqs, []);
        assert_eq!(serde_json::from_str::<Tuning>("{}").unwrap(), Tuning::default());
    }
}
