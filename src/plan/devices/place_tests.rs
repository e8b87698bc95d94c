//! Where a device is: its place in the guest, and what of the board is beside it on the host.

use super::tests::{at, details, function, host, plan};
use crate::host::Host;
use crate::plan::{Verdict, sample};

#[test]
fn functions_of_a_card_are_functions_of_a_card_in_the_guest() {
    let mut host = host();
    details(at(&mut host, "01:00.0")).boot_vga = None;
    let text = r#"pci: [(address: "01:00.*", x_vga: true, slot: 27, properties: {"x-no-mmap": true})]"#;
    let plan = plan(text, &host);
    let devices: Vec<String> = plan.command.argv().into_iter().filter(|word| word.contains("pci-01-00")).collect();
    assert_eq!(
        devices,
        [
            r#"{"driver":"pcie-root-port","id":"port-pci-01-00-0","bus":"pcie.0","addr":"1b.0","port":216,"chassis":107}"#,
            r#"{"driver":"vfio-pci","id":"pci-01-00-0","bus":"port-pci-01-00-0","host":"0000:01:00.0","addr":"0.0","multifunction":true,"x-vga":true,"x-no-mmap":true}"#,
            r#"{"driver":"vfio-pci","id":"pci-01-00-1","bus":"port-pci-01-00-0","host":"0000:01:00.1","addr":"0.1","x-no-mmap":true}"#,
        ]
    );
}

#[test]
fn the_guests_port_has_the_link_of_the_card() {
    let mut qemu = sample::qemu();
    let known = ["x-speed", "x-width"].map(str::to_owned);
    qemu.devices.insert("pcie-root-port".to_owned(), known.into_iter().collect());
    let machine = sample::machine(r#"(guest: Linux, memory: (size: "4 GiB"), pci: ["01:00.*"])"#);
    let plan = crate::plan::plan(&machine, &|_| None, &host(), &qemu);
    let port = plan.command.argv().into_iter().find(|word| word.contains(r#""id":"port-pci-01-00-0""#)).unwrap();
    assert!(port.contains(r#""x-speed":"16","x-width":"16""#), "{port}");
}

#[test]
fn a_bridge_of_the_board_that_has_a_driver_is_in_the_way_and_is_not_to_be_passed_through() {
    let mut host = host();
    // VFIO goes by the header's type: 0, as a device's.
    host.pci.as_mut().unwrap().functions.push(function("00:1f.0", "8086:7a04", 0x06_0100, "lpc_ich", 2));
    let found = |host: &Host| {
        let plan = plan(r#"pci: ["01:00.*"]"#, host);
        let finding = plan.findings.into_iter().find(|finding| finding.key == "pci.group2.complete").unwrap();
        (finding.ok, finding.remedy.unwrap_or_default())
    };
    let (ok, remedy) = found(&host);
    assert!(ok == Verdict::No && remedy.starts_with("have 0000:00:1f.0 without a driver"), "{remedy}");
    at(&mut host, "00:1f.0").driver = None;
    assert_eq!(found(&host).0, Verdict::Yes);
    // A bridge to another bus may keep its own.
    let bridge = at(&mut host, "00:1f.0");
    (bridge.class, bridge.driver, bridge.details) = (0x06_0400, Some("pcieport".to_owned()), None);
    assert_eq!(found(&host).0, Verdict::Yes);
}

#[test]
fn a_part_of_the_chipset_cannot_be_taken_out_of_it() {
    let mut host = host();
    let functions = &mut host.pci.as_mut().unwrap().functions;
    functions.push(function("00:1f.0", "8086:7a04", 0x06_0100, "lpc_ich", 20));
    functions.push(function("00:1f.3", "8086:7ad0", 0x04_0300, "snd_hda_intel", 20));
    functions.push(function("00:1f.6", "8086:1a1d", 0x02_0000, "e1000e", 20));
    let plan = plan(r#"pci: ["00:1f.3"]"#, &host);
    let finding = plan.findings.into_iter().find(|finding| finding.key == "pci.group20.complete").unwrap();
    let remedy = "this is a part of the board's chipset, which cannot be split: take another device; `audio: Auto` plays the \
                  guest's sound on the host";
    assert_eq!((finding.ok, finding.remedy.as_deref()), (Verdict::No, Some(remedy)));
}
