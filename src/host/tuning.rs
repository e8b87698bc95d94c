//! What of the host can be tuned for a run: attributes with what they say, the policies of cpufreq, interrupts.
//! Sources: `Documentation/admin-guide/pm/cpufreq.rst`, `Documentation/core-api/irq/irq-affinity.rst`.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Root;
use crate::units::{CpuSet, PciAddress};

const POLICIES: &str = "/sys/devices/system/cpu/cpufreq";
const DEVICES: &str = "/sys/bus/pci/devices";

/// What is to be looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WantedTuning {
    /// Attributes; `{n}` stands for the number of each policy of cpufreq.
    pub files: Vec<String>,
    /// Whether the interrupts are read.
    pub irqs: bool,
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
        let policies: CpuSet =
            root.names(POLICIES).iter().filter_map(|name| name.strip_prefix("policy")?.parse::<u32>().ok()).collect();
        let paths = wanted.files.iter().flat_map(|file| match file.contains("{n}") {
            true => policies.iter().map(|number| file.replace("{n}", &number.to_string())).collect(),
            false => vec![file.clone()],
        });
        // The policy of a CPU that is offline cannot be read (EBUSY).
        let files = paths.filter_map(|path| Some((path.clone().into(), Attribute::read(root, Path::new(&path))?)));
        Self {
            files: files.collect(),
            policies,
            irqs: if wanted.irqs { irqs(root) } else { Vec::new() },
            irqbalance: wanted.irqs && root.names("/run/irqbalance").iter().any(|name| name.starts_with("irqbalance")),
        }
    }
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
            ("run/irqbalance/irqbalance4711.sock", ""),
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
        ];
        let wanted = WantedTuning { files: files.map(str::to_owned).to_vec(), irqs: true };
        let tuning = Tuning::read(&root, &wanted);
        assert_eq!(tuning.policies.to_string(), "0,2,10");
        let said = tuning.files.iter().map(|(path, file)| (path.to_str().unwrap(), &*file.text, file.read_only));
        assert_eq!(
            said.collect::<Vec<_>>(),
            [
                ("/proc/sys/kernel/numa_balancing", "1", false),
                ("/sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "powersave", false),
                ("/sys/devices/system/cpu/cpufreq/policy10/scaling_governor", "performance", false),
                ("/sys/module/kvm/parameters/halt_poll_ns", "200000", true),
            ]
        );
        let irqs = tuning.irqs.iter().map(|irq| (irq.number, irq.cpus.to_string(), irq.actions.as_deref()));
        assert_eq!(irqs.collect::<Vec<_>>(), [(9, "0-3".to_owned(), None), (30, "2".to_owned(), Some("nvme0q1"))]);
        assert_eq!(tuning.irqs.iter().map(|irq| irq.device.is_some()).collect::<Vec<_>>(), [false, true]);
        assert!(tuning.irqbalance);
        assert_eq!(serde_json::from_str::<Tuning>(&serde_json::to_string(&tuning).unwrap()).unwrap(), tuning);

        let asked = WantedTuning { irqs: false, ..wanted };
        assert_eq!(Tuning::read(&root, &asked).irqs, []);
        assert_eq!(serde_json::from_str::<Tuning>("{}").unwrap(), Tuning::default());
    }
}
