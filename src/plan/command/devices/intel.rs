//! Intel's built-in graphics, which is no card on a slot: its drivers and its own firmware look for it at 00:02.0, and for the
//! table of its outputs (OpRegion), which QEMU copies from the host.
//! Source: QEMU's `docs/igd-assign.txt`.

use crate::plan::Severity::Soft;
use crate::plan::devices::Given;
use crate::plan::draft::Draft;
use crate::qemu::device::Device;
use crate::units::PciAddress;

const INTEL: u16 = 0x8086;
const PLACE: PciAddress = PciAddress { domain: 0, bus: 0, device: 2, function: 0 };
const OPREGION: &str = "x-igd-opregion";

/// Whether it is the graphics in the processor.
pub(super) fn is_built_in(given: &Given) -> bool {
    given.address() == PLACE && given.function.ids.vendor == INTEL && given.function.is_gpu()
}

/// Puts it where the guest expects it.
pub(super) fn place(draft: &mut Draft, device: Device, given: &Given) -> Device {
    let known = draft.qemu.devices.get("vfio-pci").is_some_and(|properties| properties.contains(OPREGION));
    let written = given.entry.properties.contains_key(OPREGION);
    let field = given.address_field(draft);
    if draft.machine.uefi().is_some() && given.entry.rom.is_none() {
        let detail = "the guest's UEFI knows no Intel graphics: its outputs stay dark until the guest's driver runs, and some \
                      drivers find none without the card's own firmware";
        let remedy = format!(
            "name a ROM with IgdAssignmentDxe in `{}.rom` (QEMU's docs/igd-assign.txt), or keep another screen meanwhile",
            given.field()
        );
        draft.no(&given.key("outputs"), Soft, detail, &remedy);
        draft.about(&field);
    }
    let device = device.with("addr", "2.0");
    if known && !written { device.with(OPREGION, true) } else { device }
}

#[cfg(test)]
mod tests {
    use crate::host::Pci;
    use crate::host::pci::{Details, PciFunction};
    use crate::plan::sample;

    #[test]
    fn the_graphics_in_the_processor_is_where_its_drivers_look_for_it() {
        let device = |address: &str, ids: &str, more: &str| {
            let function = PciFunction {
                address: address.parse().unwrap(),
                ids: ids.parse().unwrap(),
                subsystem: None,
                class: 0x03_0000,
                driver: Some("vfio-pci".to_owned()),
                group: None,
                port: None,
                details: Some(Box::<Details>::default()),
            };
            let mut host = sample::host(sample::Shape::simple(4, 2));
            host.pci = Some(Pci { functions: vec![function], ..Pci::default() });
            let mut qemu = sample::qemu();
            qemu.devices.insert("vfio-pci".to_owned(), ["host", "x-igd-opregion"].map(str::to_owned).into());
            let text = format!(r#"(guest: Linux, memory: (size: "1 GiB"), pci: [(address: "{address}"{more})])"#);
            let plan = crate::plan::plan(&sample::machine(&text), &|_| None, &host, &qemu);
            let dark = plan.findings.iter().any(|f| f.key == "pci.0000:00:02.0.outputs");
            (plan.command.argv().into_iter().find(|word| word.contains("\"vfio-pci\"")).unwrap(), dark)
        };
        let (built_in, dark) = device("00:02.0", "8086:a780", "");
        assert!(
            built_in.contains(r#""bus":"pcie.0","host":"0000:00:02.0","addr":"2.0","x-igd-opregion":true"#),
            "{built_in}"
        );
        assert!(dark);
        let (written, dark) =
            device("00:02.0", "8086:a780", r#", rom: "/igd.rom", properties: {"x-igd-opregion": false}"#);
        assert!(written.contains(r#""x-igd-opregion":false"#) && !written.contains("true") && !dark, "{written}");
        // A card of Intel's has a slot, and so has what the user puts into one.
        for (address, ids, more) in
            [("03:00.0", "8086:56a0", ""), ("00:02.0", "1234:1111", ""), ("00:02.0", "8086:a780", ", slot: 27")]
        {
            let (card, _) = device(address, ids, more);
            assert!(card.contains(r#""bus":"port-pci-"#) && !card.contains("opregion"), "{card}");
        }
    }
}
