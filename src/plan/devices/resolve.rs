//! Which functions of the host the machine means.

use super::super::Severity::Hard;
use super::super::draft::Draft;
use super::checks;
use super::given::{Devices, Given, address_field};
use crate::host::Pci;
use crate::machine::PciDevice;

/// Finds the functions that the machine means and checks each.
pub(in super::super) fn resolve<'a>(draft: &mut Draft<'a>) -> Devices<'a> {
    let (machine, host) = (draft.machine, draft.host);
    let mut devices = Devices::default();
    if machine.pci.is_empty() {
        return devices;
    }
    let Some(pci) = &host.pci else {
        let detail = "this host was captured without its PCI devices, so the plan is without the devices in `pci`";
        draft.unknown("pci.exists", Hard, detail);
        draft.remedy("capture the host anew with this vfio-run: `vfio-run host --json`");
        draft.about("pci");
        return devices;
    };
    for (index, entry) in machine.pci.iter().enumerate() {
        let before = devices.given.len();
        for function in pci.of_slot(entry.address) {
            let Some(details) = function.details.as_deref() else { continue };
            let first = devices.given.len() == before;
            devices.given.push(Given { index, entry, function, details, first });
        }
        if devices.given.len() == before {
            missing(draft, pci, index, entry);
        }
    }
    checks::check(draft, pci, &devices);
    devices
}

/// Nothing is at the address; says where the expected card is now.
fn missing(draft: &mut Draft, pci: &Pci, index: usize, entry: &PciDevice) {
    let now = entry.expect.map(|ids| {
        let places: Vec<String> =
            pci.functions.iter().filter(|f| f.ids == ids).map(|f| f.address.to_string()).collect();
        match places.is_empty() {
            true => format!("; no {ids} is anywhere on this host"),
            false => format!("; {ids} is at {} now", places.join(" and ")),
        }
    });
    let detail = format!("no PCI device is at {}{}", entry.address, now.unwrap_or_default());
    let field = address_field(draft, index);
    let remedy = format!("correct `{field}`; `vfio-run devices` lists what there is");
    draft.no(&format!("pci.{}.exists", entry.address), Hard, detail, &remedy);
    draft.about(&field);
}
