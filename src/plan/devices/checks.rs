//! Whether each device can be passed through, and what speaks against it.

use std::collections::BTreeSet;

use super::super::Severity::{Hard, Soft};
use super::super::boot_line;
use super::super::draft::{self, Draft};
use super::given::{Devices, Given, VFIO};
use super::rom;
use crate::host::Pci;
use crate::host::pci::PciFunction;
use crate::host::pci::vfio::{ALLOWED_DRIVERS, Answer};
use crate::units::PciAddress;

/// What a guest has beside its memory that VFIO locks: firmware, the memory of an emulated graphics card, ROMs.
const HEADROOM: u64 = 256 << 20;

pub(super) fn check(draft: &mut Draft, pci: &Pci, devices: &Devices) {
    iommu(draft, pci);
    interrupts(draft, pci);
    for given in &devices.given {
        if bridge(draft, given) {
            continue;
        }
        grouped(draft, pci, given);
        identity(draft, pci, given);
        needed(draft, given);
        owner(draft, given);
        reset(draft, pci, devices, given);
        if given.details.answers == Some(false) {
            draft.no(
                &given.key("answers"),
                Hard,
                format!("{} does not answer: its configuration space reads as all ones", given.address()),
                "switch the host off and on; a restart may not be enough",
            );
            draft.about(&given.address_field(draft));
        }
        if given.first {
            rom::check(draft, given);
            properties(draft, given);
        }
    }
    let groups: BTreeSet<u32> = devices.given.iter().filter_map(|given| given.function.group).collect();
    for group in groups {
        complete(draft, pci, devices, group);
        reserved(draft, pci, devices, group);
    }
    if !devices.given.is_empty() {
        rights(draft, devices);
    }
    vfio(draft, pci);
}

fn iommu(draft: &mut Draft, pci: &Pci) {
    match pci.iommu {
        Some(true) => draft.yes("pci.iommu", Hard, "the IOMMU is enabled"),
        None => draft.unknown("pci.iommu", Hard, "vfio-run could not read whether the IOMMU is enabled"),
        Some(false) => {
            let cmdline = &draft.host.cmdline;
            let intel = draft.host.cpus.vendor.as_deref() == Some("GenuineIntel");
            let forbidden = cmdline.iter().find(|word| {
                matches!(word.as_str(), "iommu=off" | "intel_iommu=off" | "amd_iommu=off" | "iommu=noagaw")
            });
            let remedy = match forbidden {
                Some(word) => format!("remove `{word}` from the kernel command line"),
                None if intel && !cmdline.iter().any(|word| word.starts_with("intel_iommu=on")) => {
                    let add = boot_line::add(draft.host, &["intel_iommu=on".to_owned()]);
                    format!("{add}, and switch VT-d on in the firmware's setup")
                }
                None => "switch VT-d (Intel) or the IOMMU (AMD) on in the firmware's setup".to_owned(),
            };
            draft.no("pci.iommu", Hard, "no IOMMU is enabled, so no device can be passed through", &remedy);
            draft.about("pci");
        }
    }
}

/// Whether the IOMMU remaps interrupts: else a guest could send the host any, and VFIO refuses all devices
/// (`vfio_iommu_type1_attach_group()`).
fn interrupts(draft: &mut Draft, pci: &Pci) {
    let (Some(true), Some(remaps)) = (pci.iommu, pci.barriers.remaps_interrupts) else { return };
    let key = "pci.interrupts";
    if remaps {
        return draft.yes(key, Hard, "the IOMMU remaps interrupts");
    }
    if pci.barriers.unsafe_interrupts {
        let detail = "the IOMMU does not remap interrupts, so a guest with a device can send the host any";
        draft.no(key, Soft, detail, "pass devices only to guests that you trust, as `allow_unsafe_interrupts` says");
        return draft.about("pci");
    }
    let off = ["nointremap", "intremap=off", "noapic", "nolapic"];
    let word = draft.host.cmdline.iter().find(|word| off.contains(&word.as_str()));
    let remedy = match word {
        Some(word) => format!("remove `{word}` from the kernel command line"),
        None => {
            "look for interrupt remapping or x2APIC in the firmware's setup; only if you trust the guest: `options \
                 vfio_iommu_type1 allow_unsafe_interrupts=1` in /etc/modprobe.d"
                .to_owned()
        }
    };
    draft.no(key, Hard, "the IOMMU does not remap interrupts, so VFIO refuses all devices", &remedy);
    draft.about("pci");
}

/// Whether the firmware has the devices of a group keep memory mapped as it is (RMRR, IVMD): the kernel gives no such group
/// away.
fn reserved(draft: &mut Draft, pci: &Pci, devices: &Devices, group: u32) {
    let Some([(start, end), more @ ..]) = pci.barriers.reserved.get(&group).map(Vec::as_slice) else { return };
    let others = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    let detail = format!(
        "the firmware reserves memory for IOMMU group {group} ({start:#x} to {end:#x}{others}), so the kernel does not let a \
         guest have it"
    );
    let remedy = "look in the firmware's setup for what manages the device (RAID, remote management, USB legacy support), \
                  or for a newer firmware; else pass another device through";
    draft.no(&format!("pci.group{group}.reserved"), Hard, detail, remedy);
    if let Some(given) = devices.given.iter().find(|given| given.function.group == Some(group)) {
        draft.about(&given.address_field(draft));
    }
}

fn bridge(draft: &mut Draft, given: &Given) -> bool {
    let bridge = given.function.is_bridge() || given.function.is_of_board();
    if bridge {
        let detail = format!("{} is a PCI bridge and cannot be passed through", given.address());
        draft.no(&given.key("bridge"), Hard, detail, "name the device behind it; `vfio-run devices` lists them");
        draft.about(&given.address_field(draft));
    }
    bridge
}

/// Whether the IOMMU covers it.
fn grouped(draft: &mut Draft, pci: &Pci, given: &Given) {
    if pci.iommu != Some(true) || given.function.group.is_some() {
        return;
    }
    let detail = format!(
        "{} is in no IOMMU group: the IOMMU does not cover it, so it cannot be passed through",
        given.address()
    );
    let off = draft.host.cmdline.iter().find(|word| word.starts_with("intel_iommu=") && word.contains("igfx_off"));
    let remedy = match off {
        Some(word) => format!("remove `igfx_off` from `{word}` on the kernel command line"),
        None => "pass another device through, or look for a newer firmware of the board".to_owned(),
    };
    draft.no(&given.key("group"), Hard, detail, &remedy);
}

/// Whether the card is the one that was meant.
fn identity(draft: &mut Draft, pci: &Pci, given: &Given) {
    if !given.first {
        return;
    }
    let (address, function) = (given.address(), given.function);
    let field = given.address_field(draft);
    if let Some(expected) = given.entry.expect.filter(|expected| *expected != function.ids) {
        let places: Vec<String> =
            pci.functions.iter().filter(|f| f.ids == expected).map(|f| f.address.to_string()).collect();
        let now = match places.is_empty() {
            true => "and this host has no such device".to_owned(),
            false => format!("which is at {} now", places.join(" and ")),
        };
        let detail = format!("{address} is {}, not {expected} as `expect` says, {now}", function.ids);
        let remedy = format!("correct `{field}`, or `expect` if you changed the card");
        draft.no(&given.key("expected"), Hard, detail, &remedy);
        return draft.about(&field);
    }
    if let Some(expected) = given.entry.subsystem.filter(|expected| Some(*expected) != function.subsystem) {
        let found = function.subsystem.map_or_else(|| "none".to_owned(), |ids| ids.to_string());
        let detail = format!("{address} has the subsystem {found}, not {expected} as `subsystem` says");
        let remedy = format!("correct `{field}` or `{}.subsystem`", given.field());
        draft.no(&given.key("expected"), Hard, detail, &remedy);
        return draft.about(&field);
    }
    if given.entry.expect.is_some() {
        draft.yes(&given.key("expected"), Hard, format!("{address} is {}, as expected", function.ids));
    }
}

/// Whether the host can do without it.
fn needed(draft: &mut Draft, given: &Given) {
    let uses = &given.details.uses;
    if uses.is_empty() {
        return;
    }
    let words: Vec<String> = uses.iter().map(|used| needs(used)).collect();
    let detail = format!("{} {}", given.address(), words.join(" and "));
    let is_route = |used: &String| used.starts_with("default route");
    let remedy = match (uses.iter().any(|used| used == "/"), uses.iter().any(is_route)) {
        (true, _) => "this host itself runs from it: pass another device through",
        (false, true) if uses.iter().all(is_route) => "route through another card, or pass another one through",
        (false, true) => {
            "unmount it (`umount`, `swapoff`) and route through another card, or pass another device through"
        }
        (false, false) => "unmount it (`umount`, `swapoff`), or pass another device through",
    };
    draft.no(&given.key("needed"), Hard, detail, remedy);
    draft.about(&given.address_field(draft));
}

/// What the function does for the host, from an entry of [`Details::uses`](crate::host::pci::Details::uses).
fn needs(used: &str) -> String {
    match used {
        "swap" => "holds swap space".to_owned(),
        _ if used.starts_with("default route") => format!("carries the {used}"),
        _ if used.ends_with(')') || !used.starts_with('/') => format!("holds {used}"),
        _ => format!("holds the mounted file system {used}"),
    }
}

/// Whether another machine has it, or another program by way of vfio-pci.
fn owner(draft: &mut Draft, given: &Given) {
    let (address, name) = (given.address(), draft.machine.name.as_str());
    if let Some(machine) = given.details.lease.as_deref().filter(|machine| *machine != name) {
        let detail = format!("the machine {machine} has {address}");
        draft.no(&given.key("free"), Hard, detail, &format!("`vfio-run stop {machine}` ends it"));
        return draft.about(&given.address_field(draft));
    }
    // Its undo would take the device from under our guest.
    if let Some(machine) = given.details.left.as_deref().filter(|machine| *machine != name) {
        let detail = format!("{address} still belongs to {machine}: its launcher died before restoring it");
        return draft.no(&given.key("free"), Hard, detail, &format!("run `vfio-run recover {machine}`"));
    }
    let holders: Vec<String> = given.details.holders.iter().map(ToString::to_string).collect();
    if given.is_ready() && !holders.is_empty() && given.details.lease.is_none() {
        let detail = format!("{} has {address} open", holders.join(", "));
        draft.no(&given.key("free"), Hard, detail, "end that program");
        draft.about(&given.address_field(draft));
    }
}

/// Whether the kernel can reset it for the guest, and for the host afterwards.
fn reset(draft: &mut Draft, pci: &Pci, devices: &Devices, given: &Given) {
    let (address, field) = (given.address(), format!("{}.reset_method", given.field()));
    let Some(methods) = given.details.reset_methods.as_deref() else { return };
    if let Some(wanted) = given.entry.reset_method.as_deref().filter(|_| given.first) {
        if !methods.iter().any(|method| method == wanted) {
            let others = match methods {
                [] => "nor in any other way".to_owned(),
                methods => format!("only by: {}", methods.join(", ")),
            };
            let detail = format!("the kernel cannot reset {address} by `{wanted}`, {others}");
            draft.no(&given.key("reset"), Hard, detail, &format!("correct `{field}`, or leave it out"));
            draft.about(&field);
        }
        return;
    }
    let siblings = || pci.functions.iter().filter(|f| same_bus(f, given.function) && !is_given(devices, f));
    match methods {
        // A bus reset of the card as a whole reaches these.
        [] if devices.given.iter().any(|other| same_bus(other.function, given.function) && can_reset(other)) => return,
        [] => draft.no(
            &given.key("reset"),
            Soft,
            format!("the kernel cannot reset {address}: the guest gets it as the host left it, and the host as the guest left it"),
            "after a restart of the guest you may have to restart the host",
        ),
        [only] if only == "bus" && siblings().next().is_some() => {
            let others: Vec<String> = siblings().map(|f| f.address.to_string()).collect();
            let detail = format!("the kernel resets {address} with its whole bus, and that would reset {}", others.join(", "));
            draft.no(
                &given.key("reset"),
                Soft,
                detail,
                "pass these through too, or the guest gets the device without a reset",
            );
        }
        methods => {
            return draft.yes(&given.key("reset"), Soft, format!("the kernel can reset {address} by {}", methods.join(", ")));
        }
    }
    draft.about(&given.address_field(draft));
}

/// Whether QEMU's driver has the properties that the user wrote; their values are QEMU's to judge.
fn properties(draft: &mut Draft, given: &Given) {
    let Some(known) = draft.qemu.devices.get(VFIO).filter(|known| !known.is_empty()) else { return };
    for name in given.entry.properties.keys().filter(|name| !known.contains(*name)) {
        let near = draft::nearest(name, known.iter().map(String::as_str));
        let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        let detail = format!("`{VFIO}` of {} has no property `{name}`{near}", draft.qemu.binary.display());
        let remedy = "`qemu-system-x86_64 -device vfio-pci,help` lists them";
        draft.no(&format!("pci.{}.property.{name}", given.address()), Hard, detail, remedy);
        draft.about(&format!("{}.properties.{name}", given.field()));
    }
}

fn can_reset(given: &Given) -> bool {
    given.details.reset_methods.as_ref().is_some_and(|methods| !methods.is_empty())
}

fn same_bus(a: &PciFunction, b: &PciFunction) -> bool {
    (a.address.domain, a.address.bus) == (b.address.domain, b.address.bus) && a.address != b.address
}

fn same_card(a: PciAddress, b: PciAddress) -> bool {
    (a.domain, a.bus, a.device) == (b.domain, b.bus, b.device)
}

fn is_given(devices: &Devices, function: &PciFunction) -> bool {
    devices.given.iter().any(|given| given.function.address == function.address)
}

/// Whether nothing of the group stays with the host: the IOMMU cannot tell its members apart.
fn complete(draft: &mut Draft, pci: &Pci, devices: &Devices, group: u32) {
    let in_the_way: Vec<&PciFunction> = pci
        .of_group(group)
        .filter(|f| !f.is_bridge() && !is_given(devices, f))
        .filter(|f| f.driver.as_deref().is_some_and(|driver| !ALLOWED_DRIVERS.contains(&driver)))
        .collect();
    let key = format!("pci.group{group}.complete");
    if in_the_way.is_empty() {
        return draft.yes(&key, Hard, format!("the host uses nothing else of IOMMU group {group}"));
    }
    let names: Vec<String> =
        in_the_way.iter().map(|f| format!("{} ({})", f.address, f.driver.as_deref().unwrap_or_default())).collect();
    let detail =
        format!("IOMMU group {group} can only be passed through as a whole, but the host uses {}", names.join(", "));
    let given = || devices.given.iter().filter(|given| given.function.group == Some(group));
    let card = |given: &Given| in_the_way.iter().all(|f| same_card(f.address, given.address()));
    let board: Vec<String> = in_the_way.iter().filter(|f| f.is_of_board()).map(|f| f.address.to_string()).collect();
    let of_chipset = |given: &&Given| {
        pci.of_group(group).any(|f| f.is_of_board() && !f.is_bridge() && same_card(f.address, given.address()))
    };
    let remedy = match given().find(|given| card(given)) {
        _ if given().any(|given| of_chipset(&given)) => {
            let sound = given().any(|given| given.function.class >> 16 == 0x04);
            let instead = if sound { "; `audio: Auto` plays the guest's sound on the host" } else { "" };
            format!("this is a part of the board's chipset, which cannot be split: take another device{instead}")
        }
        // They cannot be passed through with the rest, but without a driver they are in nobody's way.
        _ if !board.is_empty() => format!(
            "have {} without a driver: `echo ADDRESS > /sys/bus/pci/devices/ADDRESS/driver/unbind`, or its driver's module \
             in a `blacklist` of /etc/modprobe.d; pass all others through too",
            board.join(", ")
        ),
        Some(given) => {
            let PciAddress { domain, bus, device, .. } = given.address();
            format!("pass the whole card through: `address: \"{domain:04x}:{bus:02x}:{device:02x}.*\"`")
        }
        _ => "pass these through too, put the card into another slot, or look for ACS in the firmware's setup; \
              kernel patches that split groups are not safe"
            .to_owned(),
    };
    draft.no(&key, Hard, detail, &remedy);
    if let Some(given) = given().next() {
        draft.about(&given.address_field(draft));
    }
}

/// Whether VFIO is there, and accepts the devices that are bound to vfio-pci already.
fn vfio(draft: &mut Draft, pci: &Pci) {
    if pci.has_vfio == Some(false) {
        let detail = "this kernel has no vfio-pci driver, and no module of that name";
        let remedy = "reboot if the kernel and its modules were updated; else install its modules, or a kernel with CONFIG_VFIO_PCI";
        draft.no("pci.driver", Hard, detail, remedy);
        draft.about("pci");
    }
    match &pci.vfio {
        None => {}
        Some(Answer::Gives) => draft.yes("pci.vfio", Hard, "VFIO accepts the devices already bound to vfio-pci"),
        Some(Answer::Refuses { detail, remedy }) => {
            draft.no("pci.vfio", Hard, detail.as_str(), remedy);
            draft.about("pci");
        }
    }
}

/// Whether we may bind the devices to vfio-pci, and lock the guest's memory.
fn rights(draft: &mut Draft, devices: &Devices) {
    let process = &draft.host.process;
    if process.uid == 0 {
        return;
    }
    let not_ready: Vec<String> =
        devices.given.iter().filter(|given| !given.is_ready()).map(|given| given.address().to_string()).collect();
    if !not_ready.is_empty() {
        let detail = format!("only root can bind {} to vfio-pci", not_ready.join(", "));
        draft.no("pci.rights", Hard, detail, "start as root, or have them bound to vfio-pci at boot");
        draft.about("pci");
    }
    let need = draft.machine.memory.size;
    let Some(limit) = process.memlock else { return };
    let raise = "raise `memlock` in /etc/security/limits.conf to the guest's memory and 1 GiB, or start as root";
    if limit < need.as_bytes() {
        let detail = format!(
            "passing a device through locks all guest memory ({need}), but this process may lock only {} MiB (RLIMIT_MEMLOCK)",
            limit >> 20
        );
        draft.no("pci.memlock", Hard, detail, raise);
        draft.about("memory.size");
    } else if limit < need.as_bytes() + HEADROOM {
        let detail = format!(
            "passing a device through locks all guest memory ({need}) and what firmware and emulated devices have, but this \
             process may lock only {} MiB (RLIMIT_MEMLOCK)",
            limit >> 20
        );
        draft.no("pci.memlock", Soft, detail, raise);
        draft.about("memory.size");
    }
}
