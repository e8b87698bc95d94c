//! What needs no decision: elements and attributes of which always the same becomes.

use super::account::Verdict::{self, DoneByItself as Done, Improved, LeftOut as Left};
use super::account::{ALL, TEXT};
use super::context::Context;
use super::xml::{Node, text};

/// A rule: the path of an element below the domain, an attribute with the value that it must have, what of the element is meant
/// (`*`: all that is in it), what becomes of it and why. A path that begins with `//` is meant anywhere.
struct Rule(&'static str, Option<(&'static str, &'static str)>, &'static [&'static str], Verdict, &'static str);

const PLACES: &str = "vfio-run chooses the guest's addresses and puts functions of one card into one slot";
const HARDWARE: &str = "every machine has it";
const HYPERV: &str = "Windows gets the whole set of Hyper-V interfaces that the host's KVM offers";
const LIBVIRT: &str = "libvirt's own; nothing here reads it";
const NO_PC: &str = "no PC has it";
const TIMERS: &str = "the family chooses the timers";
const RESOURCES: &str = "the guest has no limits of this kind; its CPUs are its own";

const RULES: &[Rule] = &[
    Rule("//alias", None, &[ALL], Left, LIBVIRT),
    Rule("//address", None, &[ALL], Done, PLACES),
    Rule("metadata", None, &[ALL], Left, LIBVIRT),
    Rule("title", None, &[TEXT], Left, "the name says which machine it is"),
    Rule("description", None, &[TEXT], Left, "the name says which machine it is"),
    Rule("genid", None, &[TEXT], Left, "it tells a guest that it was restored from a snapshot, and there are none"),
    Rule("seclabel", None, &[ALL], Done, "QEMU has a user id of its own and a sandbox (`vfio-run man security`)"),
    Rule("resource", None, &[ALL], Done, "vfio-run makes the guest's cgroup"),
    Rule("memtune", None, &[ALL], Left, RESOURCES),
    Rule("blkiotune", None, &[ALL], Left, RESOURCES),
    Rule("perf", None, &[ALL], Left, LIBVIRT),
    Rule("capabilities", None, &[ALL], Left, "vfio-run asks QEMU itself what it can do"),
    Rule("deprecation", None, &[ALL], Left, "vfio-run asks QEMU itself what it can do"),
    Rule("throttlegroups", None, &[ALL], Left, RESOURCES),
    Rule("idmap", None, &[ALL], Left, "it is for containers"),
    Rule("keywrap", None, &[ALL], Left, "only mainframes have it"),
    Rule("maxMemory", None, &["*"], Left, "memory is not plugged in later; the guest has all of it from the start"),
    Rule("iothreads", None, &[TEXT], Done, "each virtio disk has an I/O thread of its own"),
    Rule("iothreadids", None, &[ALL], Done, "each virtio disk has an I/O thread of its own"),
    Rule("defaultiothread", None, &[ALL], Done, "each virtio disk has an I/O thread of its own"),
    Rule("on_poweroff", None, &[TEXT], Done, "when the guest powers off, QEMU ends and the host is restored"),
    Rule("on_lockfailure", None, &[TEXT], Left, "QEMU's own locks keep two guests from one image"),
    Rule("features/acpi", None, &[ALL], Done, HARDWARE),
    Rule("features/apic", None, &[ALL], Done, HARDWARE),
    Rule("features/pae", None, &[ALL], Done, HARDWARE),
    Rule("features/hap", None, &[ALL], Done, "KVM uses it if the CPU has it"),
    Rule(
        "features/ioapic",
        Some(("driver", "qemu")),
        &[ALL],
        Improved,
        "KVM's own interrupt controller takes less time; QEMU's is for a guest with an emulated IOMMU",
    ),
    Rule("features/ioapic", None, &[ALL], Done, "KVM's is the default"),
    Rule("features/viridian", None, &[ALL], Done, HYPERV),
    Rule(
        "features/async-teardown",
        None,
        &[ALL],
        Done,
        "the guest's memory is a file of the kernel's, which goes with QEMU",
    ),
    Rule("features/ps2", None, &[ALL], Left, "every machine has a PS/2 keyboard and mouse"),
    Rule("features/tcg", None, &[ALL], Left, "it is for emulation without KVM"),
    Rule("features/privnet", None, &[ALL], Left, "only containers have it"),
    Rule("features/gic", None, &[ALL], Left, NO_PC),
    Rule("features/htm", None, &[ALL], Left, NO_PC),
    Rule("features/hpt", None, &[ALL], Left, NO_PC),
    Rule("features/nested-hv", None, &[ALL], Left, NO_PC),
    Rule("features/cfpc", None, &[ALL], Left, NO_PC),
    Rule("features/sbbc", None, &[ALL], Left, NO_PC),
    Rule("features/ibs", None, &[ALL], Left, NO_PC),
    Rule("features/ccf-assist", None, &[ALL], Left, NO_PC),
    Rule("features/ras", None, &[ALL], Left, NO_PC),
    Rule("features/vmport", Some(("state", "off")), &[ALL], Done, "no guest here needs VMware's port"),
    Rule("features/vmport", Some(("state", "auto")), &[ALL], Done, "no guest here needs VMware's port"),
    Rule("features/vmport", Some(("state", "on")), &[ALL], Left, "only VMware's own mouse driver uses it"),
    Rule("features/smm", None, &[ALL], Done, "it follows from the firmware"),
    Rule("features/vmcoreinfo", None, &[ALL], Left, "it is for dumps of Linux guests by libvirt"),
    Rule("features/pvspinlock", None, &[ALL], Done, "KVM's spinlocks follow from the placement"),
    Rule("features/kvm/hint-dedicated", None, &[ALL], Done, "vCPUs have CPUs of their own if they can be had"),
    Rule(
        "features/kvm/poll-control",
        None,
        &[ALL],
        Left,
        "only Linux guests know it, and only without CPUs of their own",
    ),
    Rule("features/kvm/dirty-ring", None, &[ALL], Left, "it is for moving a guest to another host while it runs"),
    Rule("features/kvm/pv-ipi", None, &[ALL], Left, "KVM decides it"),
    Rule("features/pmu", Some(("state", "on")), &[ALL], Done, "the host's CPU has it"),
    Rule("features/hyperv", None, &["mode"], Done, HYPERV),
    Rule(
        "features/hyperv/evmcs",
        None,
        &[ALL],
        Done,
        "it is switched on on Intel hosts with `nested`, and nowhere else",
    ),
    Rule("features/hyperv/reset", None, &[ALL], Left, "it is for debugging: Windows resets by ACPI"),
    Rule("features/hyperv/relaxed", None, &[ALL], Done, HYPERV),
    Rule("features/hyperv/vapic", None, &[ALL], Done, HYPERV),
    Rule("features/hyperv/spinlocks", None, &[ALL], Done, "the number of attempts follows from the placement"),
    Rule("features/hyperv/vpindex", None, &[ALL], Done, HYPERV),
    Rule("features/hyperv/runtime", None, &[ALL], Done, HYPERV),
    Rule("features/hyperv/synic", None, &[ALL], Done, HYPERV),
    Rule("features/hyperv/stimer", None, &[ALL], Done, HYPERV),
    Rule("features/hyperv/frequencies", None, &[ALL], Done, HYPERV),
    Rule("features/hyperv/reenlightenment", None, &[ALL], Done, HYPERV),
    Rule("features/hyperv/tlbflush", None, &[ALL], Done, HYPERV),
    Rule("features/hyperv/ipi", None, &[ALL], Done, HYPERV),
    Rule("features/hyperv/avic", None, &[ALL], Done, HYPERV),
    Rule("features/hyperv/emsr_bitmap", None, &[ALL], Done, HYPERV),
    Rule("features/hyperv/xmm_input", None, &[ALL], Done, HYPERV),
    Rule("clock/timer", None, &[ALL], Done, TIMERS),
    Rule(
        "devices/controller",
        Some(("type", "pci")),
        &[ALL],
        Done,
        "vfio-run makes the root ports that the devices need",
    ),
    Rule(
        "devices/controller",
        Some(("type", "usb")),
        &[ALL],
        Done,
        "there is an xHCI controller if a device needs one",
    ),
    Rule("devices/controller", Some(("type", "sata")), &[ALL], Done, "q35 has one"),
    Rule("devices/controller", Some(("type", "ide")), &[ALL], Done, "its disks are on q35's SATA controller"),
    Rule("devices/controller", Some(("type", "fdc")), &[ALL], Left, "q35 has no floppy drive"),
    Rule("devices/controller", Some(("type", "ccid")), &[ALL], Left, "there are no smart card readers"),
    Rule("devices/controller", Some(("type", "virtio-serial")), &[ALL], Done, "channels bring it along"),
    Rule("devices/controller", Some(("type", "scsi")), &[ALL], Done, "virtio disks on SCSI bring it along"),
    Rule("devices/controller", Some(("type", "xenbus")), &[ALL], Left, "only Xen has it"),
    Rule("devices/crypto", None, &[ALL], Left, "the guest's CPU encrypts by itself"),
    Rule("devices/hub", None, &[ALL], Done, "the xHCI controller has ports enough"),
    Rule("devices/input", Some(("bus", "ps2")), &[ALL], Done, "every machine has a PS/2 keyboard and mouse"),
    Rule("devices/input", Some(("bus", "usb")), &[ALL], Done, "a tablet comes with a screen, and PS/2 is always there"),
    Rule("devices/rng", None, &[ALL], Done, "every guest gets random numbers of the host's"),
    Rule("devices/smartcard", None, &[ALL], Left, "there are no smart card readers"),
    Rule("devices/nvram", None, &[ALL], Left, "PCs have none"),
    Rule("devices/parallel", None, &[ALL], Left, "there are no parallel ports"),
    Rule("devices/console", None, &[ALL], Left, "it is the serial port's other name"),
];

/// Elements that have others in them, and mean nothing without.
const CONTAINERS: [&str; 7] = ["cpu", "cputune", "numatune", "memoryBacking", "features", "pm", "devices"];

/// Applies the rules to all that has no entry yet.
pub fn apply(cx: &mut Context, root: Node) {
    for node in root.descendants().filter(Node::is_element) {
        let path = plain_path(node);
        let holds = node.children().any(|child| child.is_element());
        if holds && !text(node).is_empty() {
            cx.left(node, &[TEXT], "nobody reads a text between elements");
        } else if !holds && CONTAINERS.contains(&path.as_str()) {
            cx.left(node, &[TEXT], "there is nothing in it");
        }
        for Rule(meant, condition, names, verdict, words) in RULES {
            let fits = match meant.strip_prefix("//") {
                Some(name) => node.tag_name().name() == name,
                None => path == *meant,
            };
            if fits && condition.is_none_or(|(name, value)| node.attribute(name) == Some(value)) {
                cx.account.enter(*verdict, node, names, words);
            }
        }
    }
}

/// The path of an element below the domain, without numbers.
fn plain_path(node: Node) -> String {
    let mut parts: Vec<&str> = node
        .ancestors()
        .filter(|up| up.is_element() && up.parent_element().is_some())
        .map(|up| up.tag_name().name())
        .collect();
    parts.reverse();
    parts.join("/")
}
