//! What a guest would miss that its file does not give it: something to boot from, memory enough for its system, a keyboard.
//! Nothing of it forbids a start.

use super::boot_order::is_bootable;
use super::installing;
use crate::machine::{Backend, Display, Guest, Video};
use crate::plan::Severity::Soft;
use crate::plan::devices::Devices;
use crate::plan::draft::Draft;
use crate::units::Size;

pub(super) fn check(draft: &mut Draft, devices: &Devices) {
    if draft.machine.guest.is_windows() {
        memory(draft);
        if devices.given.iter().any(|given| given.function.is_gpu()) {
            let detail =
                "some games' anti-cheat programs refuse virtual machines, and nothing here hides this one from them";
            draft.unknown("guest.anti_cheat", Soft, detail);
        }
    }
    // Words for QEMU may be disks and keyboards.
    if draft.machine.extra_args.is_empty() {
        something_to_boot(draft, devices);
        keyboard(draft, devices);
        viewer(draft, devices);
    }
}

fn something_to_boot(draft: &mut Draft, devices: &Devices) {
    let machine = draft.machine;
    let disk = machine.disks.iter().any(|disk| disk.file.is_some());
    // A controller, network card or stick of the host is booted from as well. What this host does not have may be one.
    let of_pci = devices.given.iter().any(is_bootable) || (devices.given.is_empty() && !machine.pci.is_empty());
    let of_host = of_pci || machine.usb.as_ref().is_some_and(|usb| !usb.is_empty());
    if machine.kernel.is_none() && !disk && !of_host {
        let detail =
            "the guest has no disk, no CD and no kernel, so there is nothing to boot but what the network may offer";
        draft.no(
            "boot.any",
            Soft,
            detail,
            "name a disk, and for the installation its CD: `disks: [(file: \"win11.qcow2\"), (file: \"setup.iso\")]`",
        );
        draft.about(if draft.line("disks") { "disks" } else { "guest" });
    }
}

/// Microsoft's own minimum; with less the installer refuses, or the system swaps all day.
fn memory(draft: &mut Draft) {
    let (system, least) = match draft.machine.guest {
        Guest::Windows11 => ("Windows 11", 4),
        _ => ("Windows 10", 2),
    };
    let size = draft.machine.memory.size;
    if size.as_bytes() < least * 1024 * Size::MIB {
        let detail = format!("{system} wants {least} GiB of memory at least, and the guest has {size}");
        // What the host does not have would be refused.
        let remedy = match draft.host.memory.total.filter(|total| total.as_bytes() <= least * 1024 * Size::MIB) {
            Some(total) => {
                format!("this host has {} MiB in all: expect a slow guest, or take a larger host", total.as_mib())
            }
            None => format!("write `memory: (size: \"{least} GiB\")`, or more"),
        };
        draft.no("memory.enough", Soft, detail, &remedy);
        draft.about("memory.size");
    }
}

/// Who sits in front of a graphics card that was passed through needs a keyboard that is the guest's. Of other systems many
/// are given a card only to compute.
fn keyboard(draft: &mut Draft, devices: &Devices) {
    let machine = draft.machine;
    let has = |class: u32, shift: u32| devices.given.iter().any(|given| given.function.class >> shift == class);
    let (screen, usb_controller) = (has(0x03, 16), has(0x0c03, 8));
    let shared = usb_controller || machine.usb.is_some() || machine.input.is_some();
    if machine.guest.is_windows() && screen && !shared && machine.display == Display::None {
        draft.no(
            "input.any",
            Soft,
            "the guest has a graphics card and no keyboard or mouse: nobody can use what is on its screen",
            "share the host's (`input: Auto`), give the guest single devices (`usb: [\"046d:c547\"]`), or a USB controller in `pci`",
        );
        draft.about("pci");
    }
}

/// Windows is used by its screen, unless it is reached over the network.
fn viewer(draft: &mut Draft, devices: &Devices) {
    let machine = draft.machine;
    // What this host does not have may be a card.
    let card = devices.given.iter().any(|given| given.function.is_gpu())
        || (devices.given.is_empty() && !machine.pci.is_empty());
    let reachable = machine.networks.iter().flatten().any(|network| {
        !network.forward.is_empty() || !matches!(network.backend, Backend::User | Backend::Slirp | Backend::None)
    });
    // SPICE alone carries input, for a card's own screen.
    let empty = matches!(machine.display, Display::Spice(_)) && machine.video == Some(Video::None);
    if machine.guest.is_windows()
        && (machine.display == Display::None || empty)
        && !card
        && (!reachable || installing::setup(draft).is_some())
    {
        let (detail, remedy) = match empty {
            true => ("nobody sees the guest's screen: `video: None` leaves SPICE nothing to show", "leave `video` out"),
            false => (
                "nobody sees the guest's screen: it has neither a `display` nor a graphics card of the host",
                "write `display: Spice`, and for a window of this desktop `display: Gtk`",
            ),
        };
        draft.no("screen.any", Soft, detail, remedy);
        draft.about(match empty {
            true => "video",
            false if draft.line("display") => "display",
            false => "guest",
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::sample::{Shape, host, plan};
    use crate::units::Size;

    /// The keys of the findings that warn of what is missing.
    fn missing(machine: &str) -> Vec<String> {
        let plan = plan(machine, &host(Shape::simple(8, 1)));
        let ours = ["boot.any", "memory.enough", "input.any", "screen.any"];
        plan.findings.iter().map(|f| f.key.clone()).filter(|key| ours.contains(&key.as_str())).collect()
    }

    #[test]
    fn a_guest_without_anything_to_boot_or_with_too_little_memory_is_told() {
        let with = |guest: &str, size: &str, more: &str| {
            missing(&format!("(guest: {guest}, memory: (size: \"{size}\"){more})"))
        };
        assert_eq!(with("Windows11", "256 MiB", ""), ["memory.enough", "boot.any", "screen.any"]);
        assert_eq!(with("Windows10", "2 GiB", ", disks: [(file: \"/a.qcow2\")], display: Spice()"), [""; 0]);
        assert_eq!(with("Windows11", "2 GiB", ", disks: [(file: \"/a.qcow2\")], display: Spice()"), ["memory.enough"]);
        let seen = |more: &str| with("Windows11", "4 GiB", &format!(", disks: [(file: \"/a.qcow2\")]{more}"));
        assert_eq!(seen(""), ["screen.any"]);
        assert_eq!(seen(", display: Spice(), video: None"), ["screen.any"]);
        assert_eq!(seen(", networks: [(forward: [\"3389\"])]"), [""; 0]);
        assert_eq!(seen(", networks: [(backend: Bridge(\"br0\"))]"), [""; 0]);
        assert_eq!(with("Linux", "256 MiB", ", disks: [(media: Cd)]"), ["boot.any"]);
        assert_eq!(with("Linux", "256 MiB", ", kernel: (image: \"/vmlinuz\")"), [""; 0]);
        assert_eq!(with("Linux", "256 MiB", ", usb: [\"046d:c547\"]"), [""; 0]);
        assert_eq!(with("Linux", "256 MiB", ", extra_args: [\"-cdrom\", \"/a.iso\"]"), [""; 0]);
    }

    #[test]
    fn nothing_is_proposed_that_the_host_does_not_have() {
        for (total, words) in
            [(8 << 30, "write `memory: (size: \"4 GiB\")`"), (2 << 30, "this host has 2048 MiB in all")]
        {
            let mut host = host(Shape::simple(8, 1));
            host.memory.total = Some(Size::bytes(total));
            let plan = plan("(guest: Windows11, memory: (size: \"1 GiB\"))", &host);
            let found = plan.findings.iter().find(|finding| finding.key == "memory.enough").unwrap();
            assert!(found.remedy.as_deref().unwrap().starts_with(words), "{found:?}");
        }
    }
}
