//! Name, UUID, the kind of virtualization, the QEMU binary, and what happens at the guest's end.

use crate::import::account::{ALL, TEXT, Verdict};
use crate::import::context::Context;
use crate::import::xml::{Node, child, text};
use crate::machine::{Accelerator, PanicAction, PanicDevice, is_name};

/// Where distributions have the QEMU that PATH names too, or libvirt's own links.
const USUAL: [&str; 5] = [
    "/usr/bin/qemu-system-x86_64",
    "/usr/bin/qemu-kvm",
    "/usr/bin/kvm",
    "/bin/qemu-system-x86_64",
    "/run/libvirt/nix-emulators/qemu-system-x86_64",
];

/// Reads what the domain says of itself.
pub fn read(cx: &mut Context, root: Node) {
    match root.attribute("type") {
        Some("kvm") => cx.done(root, &["type"], "KVM is used if it works"),
        Some("qemu") => {
            cx.machine.accelerator = Accelerator::Tcg;
            cx.take(root, &["type"]);
        }
        _ => {}
    }
    cx.left(root, &["id"], "a number of the domain while it ran");
    if let Some(uuid) = child(root, "uuid") {
        cx.machine.uuid = text(uuid).parse().ok();
        if cx.machine.uuid.is_some() {
            cx.take(uuid, &[TEXT]);
        } else {
            cx.improved(
                uuid,
                &[TEXT],
                "this is no UUID, so the machine has one that follows from its name and never changes",
            );
        }
    }
    if let Some(emulator) = child(root, "devices").and_then(|devices| child(devices, "emulator")) {
        binary(cx, emulator);
    }
    ends(cx, root);
}

/// The name for the machine: the domain's, if it can be one.
pub fn name(cx: &mut Context, root: Node) {
    let Some(node) = child(root, "name") else { return };
    let written = text(node);
    let name = possible_name(written);
    if name == written {
        cx.take(node, &[TEXT]);
    } else {
        cx.improved(node, &[TEXT], format!("a machine's name is a folder's and a unit's too, so it is {name:?}"));
    }
    cx.machine.name = name;
}

/// What of a name can be a machine's.
pub fn possible_name(written: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = written.trim().chars().map(allowed).take(48).collect();
    let name = name.trim_start_matches(['.', '-']);
    if is_name(name) { name.to_owned() } else { "imported".to_owned() }
}

fn binary(cx: &mut Context, node: Node) {
    let path = text(node);
    if USUAL.contains(&path) {
        return cx.done(node, &[TEXT], "QEMU is found in PATH");
    }
    if cx.exists(path) {
        cx.machine.qemu = Some(path.into());
        return cx.take(node, &[TEXT]);
    }
    if !path.is_empty() {
        let words = format!("this host has no {path}; the QEMU in PATH is used. Write `qemu: \"…\"` for another");
        cx.improved(node, &[TEXT], words);
    }
}

fn ends(cx: &mut Context, root: Node) {
    if let Some(node) = child(root, "on_reboot") {
        match text(node) {
            "restart" => cx.done(node, &[TEXT], "when the guest restarts, QEMU resets the machine"),
            "destroy" => {
                cx.machine.extra_args.push("-no-reboot".to_owned());
                cx.comment(
                    "extra_args",
                    "A restart of the guest ends it, as installers have it; without `-no-reboot` it starts anew.",
                );
                cx.taken(
                    node,
                    &[TEXT],
                    "no field says that a restart ends the guest, so `-no-reboot` is in `extra_args`",
                );
            }
            _ => cx.improved(node, &[TEXT], "when the guest restarts, QEMU resets the machine"),
        }
    }
    let panic = child(root, "devices").and_then(|devices| child(devices, "panic"));
    if let Some(node) = panic {
        match node.attribute("model") {
            Some("hyperv" | "s390" | "pseries") => {
                cx.left(node, &[ALL], "Windows writes its dump by itself, and QEMU need not know");
            }
            _ => {
                cx.machine.panic_device = Some(PanicDevice::default());
                cx.take(node, &[ALL]);
            }
        }
    }
    let Some(crash) = child(root, "on_crash") else { return };
    match (text(crash), &mut cx.machine.panic_device) {
        (_, None) => cx.left(crash, &[TEXT], "without a panic device nobody tells that the guest crashed"),
        ("preserve", Some(device)) => {
            device.action = PanicAction::Pause;
            cx.take(crash, &[TEXT]);
        }
        ("destroy", Some(_)) => cx.done(crash, &[TEXT], "QEMU ends when the panic device tells"),
        (_, Some(_)) => cx.improved(
            crash,
            &[TEXT],
            "a guest that panicked ends, and the devices go back to the host; `systemctl` can restart the unit",
        ),
    }
}

/// What the report says of a domain that is no machine with PCI Express.
pub fn board(cx: &mut Context, root: Node) {
    let Some(kind) = child(root, "os").and_then(|os| child(os, "type")) else { return };
    if text(kind) == "hvm" {
        cx.take(kind, &[TEXT]);
    }
    match kind.attribute("arch") {
        Some("x86_64") => cx.take(kind, &["arch"]),
        Some("i686") => cx.done(kind, &["arch"], "a 64-bit CPU runs 32-bit guests too"),
        _ => {}
    }
    let Some(machine) = kind.attribute("machine") else { return };
    if let Some(version) = machine.strip_prefix("pc-q35-") {
        let old = version.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major < 4);
        if old {
            let words = "`q35` in QEMU's newest version: boards before 4.0 have slow root ports (PCI Express links without 8 or 16 GT/s)";
            cx.improved(kind, &["machine"], words);
        } else {
            cx.done(kind, &["machine"], "the board is `q35`, in the newest version that QEMU has");
        }
    } else if machine == "q35" {
        cx.done(kind, &["machine"], "the board is `q35`, in the newest version that QEMU has");
    } else if machine.starts_with("pc") {
        let who = if cx.is_windows() { "Windows 10 and later find" } else { "the guest finds" };
        let words = format!(
            "i440fx has no PCI Express, so the board is `q35` now: {who} new devices at the first start; disks keep their kind of \
             controller (IDE becomes SATA). `vfio-run man identity` tells more, such as how to try it on a copy"
        );
        cx.improved(kind, &["machine"], words);
        let who = if cx.is_windows() { "Windows" } else { "the guest" };
        let words = format!("It was a board of i440fx; now it is q35, so {who} finds new devices at its first start.");
        cx.comment("guest", words);
    } else {
        cx.needs(
            kind,
            &["machine"],
            "only boards of a PC can be taken over; `machine_type` names another of q35's versions",
        );
    }
}

/// Says what a Windows before 10 lacks for this computer.
pub fn old_windows(cx: &mut Context, root: Node) {
    const OLD: [&str; 9] = ["2k", "xp", "vista", "7", "8", "8.1", "2k3", "2k8", "2k8r2"];
    let is_old = |node: &Node| {
        let id = node.attribute("id").and_then(|id| id.rsplit_once("microsoft.com/win/"));
        node.tag_name().name() == "os" && id.is_some_and(|(_, version)| OLD.contains(&version))
    };
    if let Some(os) = root.descendants().filter(Node::is_element).find(is_old) {
        let words = "this computer is for Windows 10 and 11: Windows 8 and older may lack drivers for its SATA controller (AHCI; XP has \
                     none), its USB controller (xHCI; 7 has none) and NVMe. Install them before the guest moves, or keep libvirt \
                     for it";
        // Many never changed what they chose when they made the domain, so it is no more than told.
        cx.taken(os, &["id"], words);
        cx.comment(
            "guest",
            "The domain said an older Windows: this computer is for Windows 10 and 11; the report tells more.",
        );
    }
}

/// Says what is wrong with a guest of Windows without Hyper-V's interfaces.
pub fn enlightenments(cx: &mut Context, root: Node) {
    let hyperv = child(root, "features").and_then(|features| child(features, "hyperv"));
    if !cx.is_windows() {
        if let Some(hyperv) = hyperv {
            cx.left(hyperv, &[ALL], "Hyper-V's interfaces are for Windows");
        }
        return;
    }
    let on = |name: &str| {
        let child = hyperv.and_then(|hyperv| child(hyperv, name));
        child.is_some_and(|child| child.attribute("state") != Some("off"))
    };
    let passthrough = hyperv.is_some_and(|hyperv| hyperv.attribute("mode") == Some("passthrough"));
    if passthrough {
        return;
    }
    if hyperv.is_none() || !on("relaxed") {
        cx.account.remark(
            Verdict::Improved,
            "Windows had none of Hyper-V's interfaces; it gets all that KVM offers, which saves much CPU time",
        );
    } else if !on("synic") || !on("stimer") || !on("vpindex") {
        cx.account.remark(
            Verdict::Improved,
            "Windows had a part of Hyper-V's interfaces (no vpindex, synic or stimer); it gets all that KVM offers, so an idle guest \
             takes less CPU time",
        );
    }
}
