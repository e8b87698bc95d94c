//! Whether the guest can have each device, and what speaks against it.

use std::collections::BTreeSet;

use super::super::Severity::{Hard, Soft};
use super::super::draft::{self, Draft};
use super::given::{Devices, Given, VFIO};
use super::rom;
use crate::host::Pci;
use crate::host::pci::PciFunction;
use crate::host::pci::vfio::Answer;
use crate::units::PciAddress;

/// Drivers that a group may have beside vfio-pci (`vfio_dev_driver_allowed()` in the kernel).
const HARMLESS: [&str; 3] = [VFIO, "pci-stub", "pcieport"];

pub(super) fn check(draft: &mut Draft, pci: &Pci, devices: &Devices) {
    iommu(draft, pci);
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
    }
    if !devices.given.is_empty() {
        rights(draft, devices);
    }
    vfio(draft, pci);
}

fn iommu(draft: &mut Draft, pci: &Pci) {
    match pci.iommu {
        Some(true) => draft.yes("pci.iommu", Hard, "an IOMMU is at work"),
        None => draft.unknown("pci.iommu", Hard, "whether an IOMMU is at work could not be read"),
        Some(false) => {
            let cmdline = &draft.host.cmdline;
            let intel = draft.host.cpus.vendor.as_deref() == Some("GenuineIntel");
            let forbidden = cmdline.iter().find(|word| {
                matches!(word.as_str(), "iommu=off" | "intel_iommu=off" | "amd_iommu=off" | "iommu=noagaw")
            });
            let remedy = match forbidden {
                Some(word) => format!("remove `{word}` from the kernel command line"),
                None if intel && !cmdline.iter().any(|word| word.starts_with("intel_iommu=on")) => {
                    "add `intel_iommu=on` to the kernel command line, and switch VT-d on in the firmware's setup"
                        .to_owned()
                }
                None => "switch VT-d (Intel) or the IOMMU (AMD) on in the firmware's setup".to_owned(),
            };
            draft.no("pci.iommu", Hard, "no IOMMU is at work, so no device can be given to a guest", &remedy);
            draft.about("pci");
        }
    }
}

fn bridge(draft: &mut Draft, given: &Given) -> bool {
    let bridge = given.function.is_bridge() || given.details.header.is_some_and(|kind| kind != 0);
    if bridge {
        let detail = format!("{} is a bridge: it leads to devices and is none", given.address());
        draft.no(&given.key("bridge"), Hard, detail, "name the device behind it; `vfio-run devices` lists them");
        draft.about(&given.address_field(draft));
    }
    bridge
}

/// Whether the IOMMU that is at work covers it.
fn grouped(draft: &mut Draft, pci: &Pci, given: &Given) {
    if pci.iommu != Some(true) || given.function.group.is_some() {
        return;
    }
    let detail = format!("{} is in no IOMMU group: the IOMMU leaves it out, so no guest can have it", given.address());
    let off = draft.host.cmdline.iter().find(|word| word.starts_with("intel_iommu=") && word.contains("igfx_off"));
    let remedy = match off {
        Some(word) => format!("remove `igfx_off` from `{word}` on the kernel command line"),
        None => "give the guest another device, or look for a newer firmware of the board".to_owned(),
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
            true => "which is nowhere on this host".to_owned(),
            false => format!("which is at {} now", places.join(" and ")),
        };
        let detail = format!("{address} is {}, not the {expected} that was expected, {now}", function.ids);
        let remedy = format!("correct `{field}`, or `expect` if the card was changed");
        draft.no(&given.key("expected"), Hard, detail, &remedy);
        return draft.about(&field);
    }
    if let Some(expected) = given.entry.subsystem.filter(|expected| Some(*expected) != function.subsystem) {
        let found = function.subsystem.map_or_else(|| "none".to_owned(), |ids| ids.to_string());
        let detail = format!("{address} has the subsystem {found}, not the {expected} that was expected");
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
    let detail = format!("the host needs {} itself: {}", given.address(), uses.join(", "));
    let remedy = "unmount it (`umount`, `swapoff`), or route through another card; else give the guest another device";
    draft.no(&given.key("needed"), Hard, detail, remedy);
    draft.about(&given.address_field(draft));
}

/// Whether another machine, or another program on vfio-pci, has it.
fn owner(draft: &mut Draft, given: &Given) {
    let (address, name) = (given.address(), draft.machine.name.as_str());
    if let Some(machine) = given.details.lease.as_deref().filter(|machine| *machine != name) {
        let detail = format!("{address} is given to the machine {machine}");
        draft.no(&given.key("free"), Hard, detail, &format!("`vfio-run stop {machine}` ends it"));
        return draft.about(&given.address_field(draft));
    }
    // Its undo would take the device from under our guest.
    if let Some(machine) = given.details.left.as_deref().filter(|machine| *machine != name) {
        let detail = format!("{address} was not put back by the machine {machine}, whose launcher is gone");
        return draft.no(&given.key("free"), Hard, detail, &format!("`vfio-run recover {machine}` puts it back"));
    }
    let holders: Vec<String> = given.details.holders.iter().map(ToString::to_string).collect();
    if given.is_ready() && !holders.is_empty() && given.details.lease.is_none() {
        let detail = format!("{address} is in use by {}", holders.join(", "));
        draft.no(&given.key("free"), Hard, detail, "end the program that has it");
        draft.about(&given.address_field(draft));
    }
}

/// Whether it can be made as new for the guest, and for the host afterwards.
fn reset(draft: &mut Draft, pci: &Pci, devices: &Devices, given: &Given) {
    let (address, field) = (given.address(), format!("{}.reset_method", given.field()));
    let Some(methods) = given.details.reset_methods.as_deref() else { return };
    if let Some(wanted) = given.entry.reset_method.as_deref().filter(|_| given.first) {
        if !methods.iter().any(|method| method == wanted) {
            let detail = format!("{address} cannot be reset by `{wanted}`; it can by: {}", methods.join(", "));
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
            format!("{address} cannot be reset: the guest gets it as the host left it, and the host as the guest did"),
            "expect that a restart of the guest may need one of the host",
        ),
        [only] if only == "bus" && siblings().next().is_some() => {
            let others: Vec<String> = siblings().map(|f| f.address.to_string()).collect();
            let detail = format!("{address} is reset with its whole bus, and so would be {}", others.join(", "));
            draft.no(
                &given.key("reset"),
                Soft,
                detail,
                "give the guest these too, or it gets the device without a reset",
            );
        }
        methods => {
            return draft.yes(&given.key("reset"), Soft, format!("{address} can be reset by {}", methods.join(", ")));
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
        .filter(|f| f.driver.as_deref().is_some_and(|driver| !HARMLESS.contains(&driver)))
        .collect();
    let key = format!("pci.group{group}.complete");
    if in_the_way.is_empty() {
        return draft.yes(&key, Hard, format!("nothing else of IOMMU group {group} is in use"));
    }
    let names: Vec<String> =
        in_the_way.iter().map(|f| format!("{} ({})", f.address, f.driver.as_deref().unwrap_or_default())).collect();
    let detail = format!("IOMMU group {group} can only be given as a whole, and the host uses {}", names.join(", "));
    let given = || devices.given.iter().filter(|given| given.function.group == Some(group));
    let card = |given: &Given| in_the_way.iter().all(|f| same_card(f.address, given.address()));
    let remedy = match given().find(|given| card(given)) {
        Some(given) => {
            let PciAddress { domain, bus, device, .. } = given.address();
            format!("give the guest the whole card: `address: \"{domain:04x}:{bus:02x}:{device:02x}.*\"`")
        }
        _ => "give the guest these too, put the card into another slot, or look for ACS in the firmware's setup; \
              kernel patches that split groups are not safe"
            .to_owned(),
    };
    draft.no(&key, Hard, detail, &remedy);
    if let Some(given) = given().next() {
        draft.about(&given.address_field(draft));
    }
}

/// Whether VFIO is there, and gives what is with it already.
fn vfio(draft: &mut Draft, pci: &Pci) {
    if pci.has_vfio == Some(false) {
        let detail = "this kernel has no vfio-pci, which gives devices to a guest, and no module of that name";
        let remedy = "reboot where the kernel was updated, and its modules with it; else install its modules, or one with \
                      CONFIG_VFIO_PCI";
        draft.no("pci.driver", Hard, detail, remedy);
        draft.about("pci");
    }
    match &pci.vfio {
        None => {}
        Some(Answer::Gives) => draft.yes("pci.vfio", Hard, "VFIO gives what is with vfio-pci already"),
        Some(Answer::Refuses { detail, remedy }) => {
            draft.no("pci.vfio", Hard, detail.as_str(), remedy);
            draft.about("pci");
        }
    }
}

/// Whether we may take the devices, and lock the guest's memory.
fn rights(draft: &mut Draft, devices: &Devices) {
    let process = &draft.host.process;
    if process.uid == 0 {
        return;
    }
    let not_ready: Vec<String> =
        devices.given.iter().filter(|given| !given.is_ready()).map(|given| given.address().to_string()).collect();
    if !not_ready.is_empty() {
        let detail = format!("only root can take {} from the host", not_ready.join(", "));
        draft.no("pci.rights", Hard, detail, "start as root, or have them with vfio-pci from boot on");
        draft.about("pci");
    }
    let need = draft.machine.memory.size;
    if let Some(limit) = process.memlock.filter(|limit| *limit < need.as_bytes()) {
        let detail = format!(
            "a device reaches all of the guest's memory, so all {need} are locked, and {} MiB may be",
            limit >> 20
        );
        draft.no("pci.memlock", Hard, detail, "raise `memlock` in /etc/security/limits.conf, or start as root");
        draft.about("memory.size");
    }
}
