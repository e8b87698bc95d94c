//! The guest's USB controller, and the host's USB devices that the guest is given.

use crate::host::input::EventDevice;
use crate::host::usb::Plugged;
use crate::machine::UsbDevice;
use crate::plan::Severity::{Hard, Soft};
use crate::plan::draft::Draft;
use crate::plan::{Late, LateDevice, LateUsb, Severity, assign_usb};
use crate::qemu::device::Device;
use crate::units::Origin;

/// The controller's port that the pointer of an emulated screen is in; those of the host's devices follow.
pub(in crate::plan::command) const POINTER: &str = "1";

/// The USB controller, made by the first that needs it; its bus.
pub(in crate::plan::command) fn controller(draft: &mut Draft, origin: Origin) -> String {
    let id = UsbDevice::CONTROLLER;
    if !draft.options.iter().any(|option| option.has_id(id)) {
        // As many as there can be: with fewer, QEMU puts the device that would take the last free one behind an emulated hub
        // of 12 Mb/s.
        let ports = u32::from(*LateUsb::PORTS.end());
        draft.pcie_device(Device::new("qemu-xhci", id).with("p2", ports).with("p3", ports), origin);
    }
    format!("{id}.0")
}

/// The host's USB devices that the guest is given.
pub(in crate::plan::command) fn write(draft: &mut Draft) {
    let machine = draft.machine;
    let Some(devices) = &machine.usb else { return };
    let origin = draft.file("usb");
    controller(draft, origin);
    if devices.is_empty() {
        return;
    }
    draft.need_driver("usb-host");
    // QEMU puts those that a SPICE client redirects into the first ports that are free.
    let redirected = draft.options.iter().filter(|option| option.is_device("usb-redir")).count();
    let free = LateUsb::PORTS.clone().count().saturating_sub(redirected);
    if devices.len() > free {
        let named = devices.len();
        let detail =
            format!("the guest's USB controller has ports for {free} devices of the host, and `usb` names {named}");
        let remedy = "name fewer devices, lower `usb_redirection`, or give the guest a controller in `pci`";
        draft.no("usb.ports", Hard, detail, remedy);
        draft.about("usb");
    }
    let mut wanted = Vec::new();
    for (index, device) in devices.iter().enumerate() {
        let usb = LateUsb::of(device, LateUsb::PORTS.clone().nth(index + redirected));
        wanted.push(usb.clone());
        draft.late.push(LateDevice {
            id: format!("usb-{index}"),
            what: Late::Usb(usb),
            needed: device.optional == Some(false),
            origin: draft.file(&format!("usb[{index}]")),
        });
    }
    let host = draft.host;
    let Some(plugged) = &host.usb else {
        draft.unknown("usb.present", Soft, "this host was captured without its USB devices");
        draft.remedy("capture the host anew with this vfio-run: `vfio-run host --json`");
        return draft.about("usb");
    };
    let entries: Vec<&LateUsb> = wanted.iter().collect();
    let given = assign_usb(&entries, &vec![None; entries.len()], plugged);
    let has: Vec<&Plugged> = given.iter().flatten().filter_map(|n| plugged.get(*n)).collect();
    for (index, (device, given)) in devices.iter().zip(&given).enumerate() {
        let entry = Entry { index, device, key: key(devices, index) };
        match given.and_then(|n| plugged.get(n)) {
            Some(found) => present(draft, &entry, found, &has),
            None => absent(draft, &entry, plugged),
        }
    }
}

/// An entry of `usb`.
struct Entry<'a> {
    index: usize,
    device: &'a UsbDevice,
    /// What its findings' names begin with.
    key: String,
}

impl Entry<'_> {
    fn field(&self) -> String {
        format!("usb[{}]", self.index)
    }

    fn no(&self, draft: &mut Draft, question: &str, severity: Severity, detail: String, remedy: &str) {
        draft.no(&format!("{}.{question}", self.key), severity, detail, remedy);
        draft.about(&self.field());
    }
}

/// A name for the entry that no other has: `usb.046d:c547`, `usb.046d:c547#2`.
fn key(devices: &[UsbDevice], index: usize) -> String {
    let name = |device: &UsbDevice| match (&device.id, &device.port) {
        (Some(id), Some(port)) => format!("{id}@{port}"),
        (Some(id), None) => id.to_string(),
        (None, Some(port)) => port.to_string(),
        (None, None) => String::new(),
    };
    let own = name(&devices[index]);
    match devices[..index].iter().filter(|device| name(device) == own).count() {
        0 => format!("usb.{own}"),
        before => format!("usb.{own}#{}", before + 1),
    }
}

/// The device is plugged in: whether the guest can have it.
fn present(draft: &mut Draft, entry: &Entry, found: &Plugged, given: &[&Plugged]) {
    draft.yes(&format!("{}.present", entry.key), severity(entry), format!("{found} is plugged in"));
    if let Some(owner) = found.lease.as_ref().filter(|owner| **owner != draft.machine.name) {
        let detail = format!("the machine {owner} has {found}");
        entry.no(
            draft,
            "free",
            Hard,
            detail,
            &format!("`vfio-run stop {owner}` ends it, or give this guest another device"),
        );
    }
    if !found.mounted.is_empty() {
        let detail = format!("the host uses {found}: {}", found.mounted.join(", "));
        let first = &found.mounted[0];
        let remedy = match first.as_str() {
            "swap" => "`swapoff` it first".to_owned(),
            _ => format!("`umount {first}`: two systems that write to one file system destroy it"),
        };
        entry.no(draft, "unused", Hard, detail, &remedy);
    }
    let controller =
        found.controller.filter(|address| draft.machine.pci.iter().any(|pci| pci.address.contains(*address)));
    if let Some(address) = controller {
        let detail = format!("the guest has {found} already, with its controller {address} in `pci`");
        entry.no(draft, "controller", Hard, detail, "remove it from `usb`, or the controller from `pci`");
    }
    if found.usable == Some(false) {
        let detail = format!("you may not use {found}: {} is not yours to write to", found.node().display());
        let remedy = "start as root, or give your account access to it with a udev rule (`TAG+=\"uaccess\"`)";
        entry.no(draft, "rights", severity(entry), detail, remedy);
    }
    let events = draft.host.input.as_ref().map(|inputs| inputs.devices.as_slice()).unwrap_or_default();
    only_keyboard(draft, entry, found, given, events);
}

/// The guest takes the last keyboard that the host has.
fn only_keyboard(draft: &mut Draft, entry: &Entry, found: &Plugged, given: &[&Plugged], events: &[EventDevice]) {
    let on = |event: &EventDevice, device: &Plugged| event.usb.as_ref() == Some(&device.port);
    let keyboards = || events.iter().filter(|event| event.keyboard);
    let takes = keyboards().any(|event| on(event, found));
    let leaves = keyboards().any(|event| !given.iter().any(|device| on(event, device)));
    if takes && !leaves {
        let detail = format!("{found} is the host's last keyboard: while the guest runs, nobody can type on the host");
        let remedy = format!(
            "the host gets it back when the guest has shut down, or by `vfio-run stop {}` over the network; `input` shares a \
             keyboard instead, and both Ctrl keys switch",
            draft.machine.name
        );
        entry.no(draft, "keyboard", Soft, detail, &remedy);
    }
}

/// Nothing of the kind is plugged in.
fn absent(draft: &mut Draft, entry: &Entry, plugged: &[Plugged]) {
    let UsbDevice { id, port, .. } = entry.device;
    let there = port.as_ref().and_then(|port| plugged.iter().find(|device| device.port == *port));
    if let Some(hub) = there.filter(|device| device.hub) {
        let below: Vec<String> = plugged
            .iter()
            .filter(|device| hub.port.is_above(&device.port) && !device.hub)
            .map(ToString::to_string)
            .collect();
        let below = if below.is_empty() { "nothing".to_owned() } else { below.join(", ") };
        let detail = format!("{hub} is a hub, and a guest cannot have one; plugged into it: {below}");
        return entry.no(
            draft,
            "hub",
            Hard,
            detail,
            "name the devices that are plugged into it, or a controller in `pci`",
        );
    }
    if let Some(hub) = plugged.iter().find(|device| device.hub && port.is_none() && Some(device.ids) == *id) {
        let detail = format!("{hub} is a hub, and a guest cannot have one");
        return entry.no(draft, "hub", Hard, detail, "name the devices that are plugged into it");
    }
    let detail = match (id, port, there) {
        (Some(id), _, Some(other)) => format!("{other} is plugged in there, and not {id}"),
        (Some(id), None, None) => {
            let all = plugged.iter().filter(|device| device.ids == *id).count();
            // As many as there are were given to the entries before.
            let how_many = if all == 0 { "no".to_owned() } else { format!("only {all}") };
            format!("{how_many} USB device {id} is plugged in")
        }
        (_, Some(port), None) => format!("nothing is plugged into USB port {port}"),
        (None, ..) => return,
    };
    let remedy = match severity(entry) {
        Hard => {
            "plug it in, or leave `optional: false` out, so that the guest is given it later; `lsusb` lists what there is"
        }
        Soft => "the guest is given it when it is plugged in; `lsusb` lists what there is",
    };
    entry.no(draft, "present", severity(entry), detail, remedy);
}

fn severity(entry: &Entry) -> Severity {
    if entry.device.optional == Some(false) { Hard } else { Soft }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::input::Inputs;
    use crate::plan::sample::{self, Shape, event_device, plugged};
    use crate::plan::{Finding, Plan, Verdict};

    fn with(fields: &str, usb: Vec<Plugged>, events: Vec<EventDevice>) -> Plan {
        let mut host = sample::host(Shape::simple(4, 1));
        host.usb = Some(usb);
        host.input = Some(Inputs { devices: events, ..Inputs::default() });
        sample::plan(&format!("(guest: Other, memory: (size: \"1 GiB\"), {fields})"), &host)
    }

    fn finding<'p>(plan: &'p Plan, key: &str) -> &'p Finding {
        let keys = || plan.findings.iter().map(|finding| finding.key.as_str()).collect::<Vec<_>>();
        plan.findings.iter().find(|finding| finding.key == key).unwrap_or_else(|| panic!("{:?}", keys()))
    }

    #[test]
    fn one_controller_is_for_all_and_has_all_ports() {
        for fields in ["usb: []", "usb: [\"046d:c547\"], display: Vnc()", "display: Vnc()"] {
            let plan = with(fields, vec![], vec![]);
            let argv = plan.command.argv().join(" ");
            assert_eq!(argv.matches("qemu-xhci").count(), 1, "{fields}: {argv}");
            assert!(argv.contains(r#""id":"usb0","bus":"port-usb0","p2":15,"p3":15"#), "{argv}");
            assert!(!argv.contains("usb-host"), "{argv}");
        }
        assert!(!with("usb: None", vec![], vec![]).command.argv().join(" ").contains("xhci"));
    }

    #[test]
    fn devices_are_given_late_each_at_its_own_port_of_the_guest() {
        let plan =
            with("usb: [\"046d:c547\", (port: \"1-3\", optional: false)]", vec![plugged("1-3", "0951:1666")], vec![]);
        let late: Vec<_> = plan.late.iter().map(|late| (late.id.as_str(), late.needed, late.to_string())).collect();
        let expected = [
            ("usb-0", false, "USB device 046d:c547".to_owned()),
            ("usb-1", true, "what is in USB port 1-3".to_owned()),
        ];
        assert_eq!(late, expected);
        assert!(matches!(&plan.late[1].what, Late::Usb(usb) if usb.guest_port == Some(3)));
        assert_eq!(finding(&plan, "usb.1-3.present").ok, Verdict::Yes);
        let waits = finding(&plan, "usb.046d:c547.present");
        assert!(waits.ok == Verdict::No && !waits.blocks(), "{waits:?}");
        assert_eq!(waits.detail, "no USB device 046d:c547 is plugged in");
    }

    #[test]
    fn what_must_be_there_and_is_not_forbids_the_start() {
        let two = "usb: [(id: \"046d:c547\", optional: false), (id: \"046d:c547\", optional: false)]";
        let plan = with(two, vec![plugged("1-1", "046d:c547")], vec![]);
        assert_eq!(finding(&plan, "usb.046d:c547.present").ok, Verdict::Yes);
        let missing = finding(&plan, "usb.046d:c547#2.present");
        assert!(missing.blocks() && missing.detail == "only 1 USB device 046d:c547 is plugged in", "{missing:?}");
        let other = with("usb: [(id: \"046d:c547\", port: \"1-1\")]", vec![plugged("1-1", "0951:1666")], vec![]);
        let other = finding(&other, "usb.046d:c547@1-1.present");
        assert_eq!(other.detail, "Device 1 (0951:1666 in port 1-1) is plugged in there, and not 046d:c547");
    }

    #[test]
    fn what_the_host_or_another_guest_needs_is_not_taken() {
        let cases: [(&str, Plugged, &str, bool); 5] = [
            (
                "free",
                Plugged { lease: Some("linux".to_owned()), ..plugged("1-1", "046d:c547") },
                "the machine linux has Device 1",
                true,
            ),
            (
                "unused",
                Plugged { mounted: vec!["/media/stick".to_owned()], ..plugged("1-1", "046d:c547") },
                "the host uses Device 1 (046d:c547 in port 1-1): /media/stick",
                true,
            ),
            (
                "rights",
                Plugged { usable: Some(false), ..plugged("1-1", "046d:c547") },
                "you may not use Device 1",
                false,
            ),
            ("controller", plugged("1-1", "046d:c547"), "with its controller 0000:00:14.0 in `pci`", true),
            (
                "hub",
                Plugged { hub: true, ..plugged("1-1", "05e3:0610") },
                "plugged into it: Device 2 (046d:c548 in port 1-1.2)",
                true,
            ),
        ];
        for (question, device, expected, blocks) in cases {
            let pci = if question == "controller" { ", pci: [\"00:14.0\"]" } else { "" };
            let mut below = plugged("1-1.2", "046d:c548");
            below.controller = None;
            let plan = with(&format!("usb: [\"1-1\"]{}", pci), vec![device, below], vec![]);
            let found = finding(&plan, &format!("usb.1-1.{question}"));
            assert!(found.detail.contains(expected) && found.ok == Verdict::No, "{found:?}");
            assert_eq!(found.blocks(), blocks, "{found:?}");
        }
    }

    #[test]
    fn the_last_keyboard_is_not_taken_without_a_word() {
        let keyboard = |event: &str, port: Option<&str>| {
            let usb = port.map(|port| port.parse().unwrap());
            EventDevice { usb, ..event_device(event, "", true) }
        };
        let usb = || vec![plugged("1-1", "046d:c547"), plugged("1-2", "046d:c548")];
        let said = |events: Vec<EventDevice>| {
            let plan = with("usb: [\"1-1\", \"1-2\"]", usb(), events);
            plan.findings.iter().filter(|finding| finding.key.ends_with(".keyboard")).count()
        };
        assert_eq!(said(vec![keyboard("event0", None), keyboard("event1", Some("1-1"))]), 0);
        assert_eq!(said(vec![keyboard("event0", Some("1-2")), keyboard("event1", Some("1-1"))]), 2);
        assert_eq!(said(vec![]), 0);
    }
}
