//! Virtual CPUs: how many, of which model, and which host CPUs their threads run on.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pin::Pin;
use crate::machine::problems::{Problems, consists_of};
use crate::machine::subject::Subject;
use crate::units::{CpuSet, counted};

/// The most that any QEMU's q35 takes (since 9.0).
const MAX_VCPUS: u32 = 4096;
/// Longer than any value of a CPU's property.
const MAX_VALUE: usize = 64;
/// What QEMU's `phys-bits` takes (`x86_cpu_realizefn()` in its `target/i386/cpu.c`).
const PHYS_BITS: std::ops::RangeInclusive<u32> = 32..=52;

/// What the kernel takes for real time (sched(7)).
const PRIORITIES: std::ops::RangeInclusive<u32> = 1..=99;

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Accelerator {
    /// KVM if it works, else emulation with a warning.
    #[default]
    Auto,
    /// KVM; without it the machine does not start.
    Kvm,
    /// Emulation (TCG): slow, needs no privileges.
    Tcg,
}

/// Virtual CPUs and the placement of QEMU's threads.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cpu {
    /// The number of vCPUs, 1 to 4096. Default: one for each CPU in `pin`; with `leave` or `cores`, or with devices in
    /// `pci`, one for each thread of all cores of the fastest or the named kind but one, or those that are left, in one NUMA
    /// node (at most 64 if only devices ask for it); else 2.
    #[serde(default)]
    #[schemars(range(min = 1, max = 4096))]
    pub vcpus: Option<u32>,
    /// The host CPUs that the vCPU threads run on, one thread to a CPU: `"4-11,16"`, in the order that shows the guest its
    /// siblings and caches. Or a list of what each vCPU has, in the order of their numbers, of which each is a CPU, several
    /// among which the kernel moves it, or `"Any"`: all that no other vCPU has for itself: `["2", "3", "4-5", "Any"]`. Only if each
    /// vCPU has one CPU does the guest see their siblings and caches, and are they kept for it alone. Default: the program
    /// chooses.
    #[serde(default)]
    pub pin: Option<Pin>,
    /// Which kind of core the vCPUs get on a processor with several, if the program chooses. Default: `Performance`.
    #[serde(default)]
    pub cores: Option<CoreWish>,
    /// What counts more if the program chooses and one part of the processor has more cache, another the higher clock (as
    /// AMD's X3D processors with two dies). Default: `Cache`, by which most games gain.
    #[serde(default)]
    pub prefer: Option<Prefer>,
    /// How many cores of the vCPUs' kind are left to the host, CPU 0's among them, if the program chooses. Default: 1 if
    /// `vcpus` is left out, else as many as `vcpus` leaves.
    #[serde(default)]
    pub leave: Option<u32>,
    /// The host CPUs of QEMU's main and worker threads. Default: those closest to the vCPUs that no vCPU runs on.
    #[serde(default)]
    pub emulator: Option<CpuSet>,
    /// The host CPUs of the I/O threads of disks. Default: those of `emulator`.
    #[serde(default)]
    pub iothreads: Option<CpuSet>,
    /// The kernel's scheduling class of the vCPU threads; QEMU's other threads stay as they are. `Fifo(1)`: real time, with
    /// a priority from 1 to 99, so that a vCPU that wants to run waits for no ordinary program. Refused unless each vCPU has a CPU
    /// that nothing else runs on (`host.isolate`, or the kernel's `isolcpus=`), since a busy vCPU would keep everything else
    /// there from running. Default: `Normal`.
    #[serde(default)]
    pub scheduler: Option<Scheduler>,
    /// QEMU's CPU model: `"host"`, `"EPYC-Milan"`. Default: `host` with KVM, `max` without.
    #[serde(default)]
    pub model: Option<String>,
    /// CPU features to switch on and off, and other properties of the CPU, by QEMU's names:
    /// `["+topoext", "-svm", "host-phys-bits-limit=39"]`. Default: none.
    #[serde(default)]
    pub features: Vec<String>,
    /// Whether the guest may run virtual machines of its own (CPU feature `svm` or `vmx`), which WSL 2 and Hyper-V need.
    /// Default: no for Windows, which would run slower, in a virtual machine of its own for memory integrity; others: as
    /// KVM allows.
    #[serde(default)]
    pub nested: Option<bool>,
    /// How many bits a physical address of the guest has, 32 to 52: fewer than the CPU's if the IOMMU has fewer. Default: the
    /// host's with KVM.
    #[serde(default)]
    pub phys_bits: Option<u32>,
    /// Who lets an idle vCPU's CPU sleep. `Guest`: the guest itself, so that KVM need not be left and entered again and the
    /// vCPU goes on at once when an interrupt comes. Its CPUs look fully busy to the host from then on, whatever the guest
    /// does: no other program gets time there, they take more power, and their siblings run no faster while the guest idles.
    /// It needs KVM, and a CPU of its own for each vCPU. Default: `Host`.
    #[serde(default)]
    pub idle: Option<Idle>,
    /// The topology that the guest sees. Default: derived from the placement.
    #[serde(default)]
    pub topology: Option<Topology>,
    /// Hide KVM's signature from the guest, as some GPU drivers require. Default: yes for Windows, no for others.
    #[serde(default)]
    pub hide_kvm: Option<bool>,
}

/// A kind of core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CoreWish {
    /// The fastest that the processor has.
    Performance,
    /// The slower ones, which leaves the fast ones to the host.
    Efficiency,
}

/// What counts more where parts of a processor differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Prefer {
    /// The larger level 3 cache.
    Cache,
    /// The higher clock.
    Clock,
}

/// A scheduling class of the kernel's (sched(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Scheduler {
    /// The class of all programs.
    Normal,
    /// Real time: it runs until it waits by itself, or one of a higher priority wants to run.
    Fifo(u32),
    /// Real time: it takes turns with others of its priority.
    RoundRobin(u32),
}

impl Scheduler {
    /// The priority in real time, from 1 to 99; `None` without.
    pub fn priority(self) -> Option<u32> {
        match self {
            Self::Normal => None,
            Self::Fifo(priority) | Self::RoundRobin(priority) => Some(priority),
        }
    }
}

/// Who lets the CPU of an idle vCPU sleep (QEMU: `-overcommit cpu-pm=on`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Idle {
    /// The host, which may run other programs there meanwhile.
    Host,
    /// The guest.
    Guest,
}

/// The CPU topology that the guest sees (QEMU: `-smp`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// Sockets. Default 1.
    #[serde(default = "one")]
    pub sockets: u32,
    /// Dies in a socket. Default 1.
    #[serde(default = "one")]
    pub dies: u32,
    /// Modules in a die: cores that share a level 2 cache, as most efficiency cores do. It needs QEMU 10. Default 1.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub modules: u32,
    /// Cores in a module, or in a die if no modules are written.
    pub cores: u32,
    /// Threads of a core. Default 1.
    #[serde(default = "one")]
    pub threads: u32,
}

fn one() -> u32 {
    1
}

fn is_one(number: &u32) -> bool {
    *number == 1
}

impl Topology {
    /// The number of vCPUs that it holds; `None` if the product is beyond 32 bits.
    pub fn vcpus(self) -> Option<u32> {
        let parts = [self.dies, self.modules, self.cores, self.threads];
        parts.into_iter().try_fold(self.sockets, u32::checked_mul)
    }
}

impl Subject for Cpu {
    fn check(&self, problems: &mut Problems) {
        let mut empty = Vec::new();
        for (name, set) in [("emulator", &self.emulator), ("iothreads", &self.iothreads)] {
            empty.extend(set.as_ref().filter(|set| set.is_empty()).map(|_| format!("cpu.{name}")));
        }
        empty.extend(self.pin.as_ref().filter(|pin| pin.is_empty()).map(|_| "cpu.pin".to_owned()));
        for field in empty {
            problems.add(field.clone(), format!("`{field}` names no CPU")).help("leave it out for the default");
        }
        if let Some(Pin::Each(each)) = &self.pin {
            for (vcpu, _) in each.iter().enumerate().filter(|(_, cpus)| cpus.named().is_some_and(CpuSet::is_empty)) {
                let field = format!("cpu.pin[{vcpu}]");
                problems.add(field.clone(), format!("`{field}` names no CPU")).help("write \"Any\" for all");
            }
        }
        if let Some(priority) = self.scheduler.and_then(Scheduler::priority).filter(|n| !PRIORITIES.contains(n)) {
            problems
                .add("cpu.scheduler", format!("`cpu.scheduler` cannot have the priority {priority}"))
                .allowed(format!("{} to {}", PRIORITIES.start(), PRIORITIES.end()));
        }
        counts(self, problems);
        let choice =
            [("cores", self.cores.is_some()), ("prefer", self.prefer.is_some()), ("leave", self.leave.is_some())];
        for (name, _) in choice.into_iter().filter(|(_, written)| *written && self.pin.is_some()) {
            problems
                .add(
                    format!("cpu.{name}"),
                    format!("`cpu.{name}` is for CPUs that the program chooses, but `cpu.pin` names them"),
                )
                .help("keep one of the two");
        }
        if let Some(leave) = self.leave.filter(|leave| *leave > MAX_VCPUS) {
            problems.add("cpu.leave", format!("`cpu.leave` cannot be {leave}")).allowed(format!("0 to {MAX_VCPUS}"));
        }
        if let Some(model) = &self.model
            && (model.is_empty() || !consists_of(model, "-._+"))
        {
            problems
                .add("cpu.model", format!("`cpu.model` cannot be {model:?}"))
                .allowed("the model's name alone, such as \"host\" or \"EPYC-Milan\"")
                .help("features go into `features`: [\"+topoext\", \"-svm\"]");
        }
        features(&self.features, problems);
        if let Some(bits) = self.phys_bits.filter(|bits| !PHYS_BITS.contains(bits)) {
            problems.add("cpu.phys_bits", format!("`cpu.phys_bits` cannot be {bits}")).allowed(format!(
                "{} to {}",
                PHYS_BITS.start(),
                PHYS_BITS.end()
            ));
        }
    }
}

fn counts(cpu: &Cpu, problems: &mut Problems) {
    if let Some(vcpus) = cpu.vcpus.filter(|vcpus| !(1..=MAX_VCPUS).contains(vcpus)) {
        problems.add("cpu.vcpus", format!("`cpu.vcpus` cannot be {vcpus}")).allowed(format!("1 to {MAX_VCPUS}"));
        return;
    }
    let pins = cpu.pin.as_ref().filter(|pin| !pin.is_empty()).and_then(|pin| u32::try_from(pin.len()).ok());
    if let Some(pins) = pins.filter(|pins| *pins > MAX_VCPUS) {
        problems.add("cpu.pin", format!("`cpu.pin` is for {pins} vCPUs")).allowed(format!("at most {MAX_VCPUS}"));
        return;
    }
    if let (Some(vcpus), Some(pins), Some(pin)) = (cpu.vcpus, pins, &cpu.pin)
        && vcpus != pins
    {
        problems
            .add("cpu.vcpus", format!("`cpu.vcpus` is {vcpus}, but `cpu.pin` {}", pin.counted()))
            .allowed("as many vCPUs as CPUs to pin them to")
            .help("leave `vcpus` out: it follows from `pin`");
    }
    let Some(topology) = cpu.topology else { return };
    let parts = [
        ("sockets", topology.sockets),
        ("dies", topology.dies),
        ("modules", topology.modules),
        ("cores", topology.cores),
        ("threads", topology.threads),
    ];
    if let Some((name, _)) = parts.iter().find(|(_, count)| *count == 0) {
        problems
            .add(format!("cpu.topology.{name}"), format!("`cpu.topology.{name}` cannot be 0"))
            .allowed("at least 1");
        return;
    }
    let held = topology.vcpus().filter(|held| *held <= MAX_VCPUS);
    let wanted = cpu.vcpus.map(|n| (n, "`cpu.vcpus` is")).or(pins.map(|n| (n, "`cpu.pin` is for")));
    match (held, wanted) {
        (None, _) => {
            problems
                .add("cpu.topology", "`cpu.topology` has too many vCPUs")
                .allowed(format!("sockets × dies × modules × cores × threads of at most {MAX_VCPUS}"));
        }
        (Some(held), Some((wanted, what))) if held != wanted => {
            let product = parts.map(|(_, count)| count.to_string()).join(" × ");
            problems
                .add(
                    "cpu.topology",
                    format!("`cpu.topology` has {}, but {what} {wanted}", counted(held as usize, "vCPU", "vCPUs")),
                )
                .allowed(format!(
                    "sockets × dies × modules × cores × threads equal to the vCPUs; here {product} = {held}"
                ))
                .help("leave `topology` out: it is derived from the placement");
        }
        _ => {}
    }
}

/// One of `cpu.features` as QEMU takes it: `+topoext`, `-svm` or `host-phys-bits-limit=39`.
pub fn property(feature: &str) -> Option<(&str, &str)> {
    let (name, value) = match feature.split_at_checked(1)? {
        ("+", name) => (name, "on"),
        ("-", name) => (name, "off"),
        _ => feature.split_once('=')?,
    };
    let named = !name.is_empty() && consists_of(name, "-._");
    // QEMU ends a value at a comma.
    let valued = !value.is_empty() && value.len() <= MAX_VALUE && value.chars().all(|c| c != ',' && !c.is_control());
    (named && valued).then_some((name, value))
}

fn features(features: &[String], problems: &mut Problems) {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (i, feature) in features.iter().enumerate() {
        let field = format!("cpu.features[{i}]");
        let Some((name, _)) = property(feature) else {
            let problem = problems.add(field, format!("{feature:?} does not switch a CPU feature"));
            problem.allowed(
                "a feature's name after `+` or `-`, or a property with its value: [\"+topoext\", \"-svm\", \"host-phys-bits-limit=39\"]",
            );
            if !feature.is_empty() && consists_of(feature, "-._") {
                problem.help(format!("write \"+{feature}\" or \"-{feature}\""));
            }
            continue;
        };
        if seen.insert(name, feature).is_some_and(|before| before != feature) {
            problems.add(field, format!("{feature:?} contradicts an earlier `{name}`")).help("keep one of the two");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::machine::parse;

    #[test]
    fn a_feature_is_a_switch_or_a_value() {
        let rows = [
            ("+topoext", Some(("topoext", "on"))),
            ("-svm", Some(("svm", "off"))),
            ("host-phys-bits-limit=39", Some(("host-phys-bits-limit", "39"))),
            ("model-id=A B (TM)", Some(("model-id", "A B (TM)"))),
            ("svm", None),
            ("+", None),
            ("", None),
            ("vendor=", None),
            ("vendor=a,kvm=off", None),
            ("=5", None),
        ];
        for (feature, expected) in rows {
            assert_eq!(property(feature), expected, "{feature}");
        }
    }

    #[test]
    fn a_feature_that_is_written_twice_contradicts_itself() {
        let refused = |features: &str| {
            let text = format!(r#"(guest: Other, memory: (size: "1 GiB"), cpu: (features: {features}))"#);
            parse(Path::new("/a.ron"), &text).err().map(|problems| problems.to_string())
        };
        assert_eq!(refused(r#"["+svm", "+svm"]"#), None);
        for twice in [r#"["+svm", "-svm"]"#, r#"["+vendor", "vendor=AuthenticAMD"]"#] {
            assert!(refused(twice).unwrap().contains("contradicts an earlier `"), "{twice}");
        }
    }

    #[test]
    fn wishes_for_a_choice_are_refused_beside_a_pin() {
        let refused = |cpu: &str| {
            let text = format!(r#"(guest: Other, memory: (size: "1 GiB"), cpu: ({cpu}))"#);
            parse(Path::new("/a.ron"), &text).err().map(|problems| problems.to_string())
        };
        assert_eq!(refused("cores: Efficiency, prefer: Clock, leave: 2"), None);
        for wish in ["cores: Efficiency", "prefer: Clock", "leave: 2"] {
            assert!(refused(&format!("pin: \"1-2\", {wish}")).unwrap().contains("but `cpu.pin` names them"), "{wish}");
        }
        assert!(refused("leave: 4097").unwrap().contains("`cpu.leave` cannot be 4097"));
    }
}
