//! What is the same on each computer of its kind, and may be shown, by where it stands among the facts.

use super::stand_ins::StandIns;

/// Facts that have names in place of fields.
const NAMED: &[&str] = &[
    ".files",
    ".accounts",
    ".groups",
    ".acpi_tables",
    ".cpusets.lists",
    ".machines",
    ".network.interfaces",
    ".input.named",
];

/// Texts that are shown as they are, by the beginning of their place. Numbers, sizes, PCI ids and addresses, the kernel's own words.
const SHOWN: &[&str] = &[
    ".cpus.",
    ".memory.",
    ".kvm.",
    ".firmware[].code_format",
    ".firmware[].description",
    ".firmware[].features",
    ".firmware[].machines",
    ".firmware[].vars_format",
    ".process.session",
    ".pci.functions[].address",
    ".pci.functions[].driver",
    ".pci.functions[].ids",
    ".pci.functions[].subsystem",
    ".pci.functions[].port",
    ".pci.functions[].details.bars",
    ".pci.functions[].details.holders[].comm",
    ".pci.functions[].details.link",
    ".pci.functions[].details.modules",
    ".pci.functions[].details.nodes[].subsystem",
    ".pci.functions[].details.power",
    ".pci.functions[].details.reset_methods",
    ".pci.functions[].details.rom",
    ".pci.functions[].details.usb[].ids",
    ".pci.functions[].details.usb[].port",
    ".pci.screen.boot_screens",
    ".pci.screen.consoles",
    ".pci.screen.framebuffers",
    ".pci.screen.showing",
    ".pci.screen.sessions[].class",
    ".pci.screen.sessions[].id",
    ".pci.screen.sessions[].kind",
    ".pci.screen.sessions[].seat",
    ".desktop.found",
    ".desktop.pulse.answer",
    ".desktop.pipewire.answer",
    ".session_bus.answer",
    ".render_nodes[].address",
    ".usb[].port",
    ".usb[].ids",
    ".usb[].controller",
    ".input.devices[].event",
    ".input.devices[].input",
    ".input.devices[].seat",
    ".input.named{}",
    ".tuning.",
    ".cpusets.effective",
    ".cpusets.lists{}",
    ".machines{}",
    ".network.interfaces{}.kind",
    ".user_network.listening[].protocol",
    ".user_network.passt.options",
    ".virtiofsd.options",
];

/// Command lines of the kernel: each word is looked at.
const KERNEL_WORDS: &[&str] = &[".cmdline[]", ".boot.Grub.line", ".boot.KernelCmdline.line"];

/// Words of the kernel's command line whose value tells what the kernel does, and not what the computer is called. With a dot at
/// the end: all parameters of a module.
const PARAMETERS: &[&str] = &[
    "amd_iommu",
    "amd_pstate",
    "amdgpu.",
    "cgroup_disable",
    "clocksource",
    "console",
    "cpufreq.",
    "default_hugepagesz",
    "default_hugepages",
    "efi",
    "hugepages",
    "hugepagesz",
    "i915.",
    "idle",
    "intel_idle.",
    "intel_iommu",
    "intel_pstate",
    "iommu",
    "iommu.",
    "irqaffinity",
    "isolcpus",
    "kvm.",
    "kvm_amd.",
    "kvm_intel.",
    "kthread_cpus",
    "maxcpus",
    "mem",
    "mitigations",
    "modprobe.blacklist",
    "module_blacklist",
    "nohz",
    "nohz_full",
    "nouveau.",
    "nvidia-drm.",
    "nvidia.",
    "pci",
    "pcie_acs_override",
    "pcie_aspm",
    "pcie_port_pm",
    "processor.",
    "preempt",
    "radeon.",
    "rcu_nocbs",
    "rcutree.",
    "rd.driver.blacklist",
    "rd.driver.pre",
    "reboot",
    "swiotlb",
    "skew_tick",
    "split_lock_detect",
    "systemd.unified_cgroup_hierarchy",
    "threadirqs",
    "transparent_hugepage",
    "tsc",
    "usbcore.",
    "vfio",
    "vfio-pci.",
    "vfio_iommu_type1.",
    "vfio_pci.",
    "video",
    "xe.",
];

/// Whether what stands there has names in place of fields.
pub fn has_names(place: &str) -> bool {
    NAMED.contains(&place)
}

/// What is shown in place of a text; `None`: itself.
pub fn shown(place: &str, text: &str, stand_ins: &mut StandIns) -> Option<String> {
    if SHOWN.iter().any(|shown| place.starts_with(shown)) {
        return None;
    }
    if place == ".kernel" {
        return Some(release(text, stand_ins));
    }
    if KERNEL_WORDS.contains(&place) {
        let words: Vec<String> = text.split(' ').map(|word| kernel_word(word, stand_ins)).collect();
        return Some(words.join(" "));
    }
    // What this program says of a use, with a name in it.
    if place.ends_with(".uses[]")
        && let Some((phrase, name)) = text.split_once('(')
    {
        return Some(match phrase {
            "default route " => format!("{phrase}({})", stand_ins.of(name.trim_end_matches(')'))),
            _ => format!("{} ({name}", stand_ins.of(phrase.trim_end())),
        });
    }
    // `unix:path=/run/user/1000/bus,guid=…`, or the keys in another order: the transport and the path are what a plan needs.
    if place == ".session_bus.address"
        && let Some((before, rest)) = text.split_once("path=")
        && let Some((transport, _)) = before.split_once(':')
    {
        let path = rest.split([',', ';']).next().unwrap_or(rest);
        return Some(format!("{transport}:path={}", stand_ins.of(path)));
    }
    // A command that the program itself knows.
    if place.starts_with(".boot") {
        return None;
    }
    Some(stand_ins.of(text))
}

/// A kernel's release: its numbers, and what follows only if a distribution has named it.
fn release(text: &str, stand_ins: &mut StandIns) -> String {
    const NAMES: &[&str] = &[
        "amd64",
        "arch",
        "azure",
        "bazzite",
        "cachyos",
        "cloud",
        "default",
        "fc",
        "generic",
        "gentoo",
        "hardened",
        "hwe",
        "lowlatency",
        "lts",
        "liquorix",
        "MANJARO",
        "nixos",
        "oem",
        "pve",
        "realtime",
        "rt",
        "rc",
        "x86_64",
        "x64v",
        "xanmod",
        "zen",
        "bpo",
        "deb",
    ];
    let known = |part: &str| {
        let word = part.trim_matches(|c: char| c.is_ascii_digit() || c == '+');
        word.len() < 2 || NAMES.contains(&word)
    };
    let parts: Vec<String> = text
        .split('-')
        .map(|part| if part.split('.').all(known) { part.to_owned() } else { stand_ins.of(part) })
        .collect();
    parts.join("-")
}

/// A word of the kernel's command line. A switch is shown; what one is set to, if it is a parameter that is known.
fn kernel_word(word: &str, stand_ins: &mut StandIns) -> String {
    let Some((name, value)) = word.split_once('=') else {
        // A word for an init may be anything; the kernel's own have no such characters.
        let is_switch = word.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == '-') && word.len() <= 24;
        return if is_switch { word.to_owned() } else { stand_ins.of(word) };
    };
    let is_known = PARAMETERS.iter().any(|parameter| match parameter.ends_with('.') {
        true => name.starts_with(parameter),
        false => name == *parameter,
    });
    // `1-15:1/2` are CPUs; all else with a slash is a file.
    let is_file = value.contains('/') && value.contains(|c: char| c.is_ascii_alphabetic());
    if is_known && !is_file { word.to_owned() } else { format!("{name}={}", stand_ins.of(value)) }
}
