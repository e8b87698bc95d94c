//! The devices that the guest has for itself: which functions they are, whether they can be had, what is done to the host
//! for it, and in which order.

mod changes;
mod checks;
mod hidden;
mod rom;
#[cfg(test)]
mod session_tests;
mod stopped;
mod taking;
#[cfg(test)]
mod tests;

pub(super) use changes::make;
pub use taking::{Taking, taking};

use super::Severity::Hard;
use super::draft::Draft;
use crate::host::Pci;
use crate::host::pci::{Details, PciFunction};
use crate::machine::PciDevice;
use crate::units::PciAddress;

/// The driver that gives functions to a guest.
const VFIO: &str = "vfio-pci";

/// A function that the guest is given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given<'a> {
    /// Which entry of `pci` means it.
    pub index: usize,
    /// That entry.
    pub entry: &'a PciDevice,
    /// The function.
    pub function: &'a PciFunction,
    /// What is known of it.
    pub details: &'a Details,
    /// Whether it is the first that the entry means: what is said of a card as a whole is said of this one.
    pub first: bool,
}

/// All that the guest is given.
#[derive(Debug, Default)]
pub(super) struct Devices<'a> {
    /// The functions, in order of the entries and then of their addresses.
    pub given: Vec<Given<'a>>,
}

impl Given<'_> {
    /// Where it is.
    pub fn address(&self) -> PciAddress {
        self.function.address
    }

    /// The field of its entry.
    pub fn field(&self) -> String {
        format!("pci[{}]", self.index)
    }

    /// The field that says which device is meant.
    pub fn address_field(&self, draft: &Draft) -> String {
        address_field(draft, self.index)
    }

    /// Whether it can be handed to a guest at once.
    fn is_ready(&self) -> bool {
        self.function.driver.as_deref() == Some(VFIO)
    }
}

/// The field of an entry that says which device is meant: the entry itself, where it is a text.
fn address_field(draft: &Draft, index: usize) -> String {
    let field = format!("pci[{index}].address");
    if draft.line(&field) { field } else { format!("pci[{index}]") }
}

/// Finds the functions that the machine means and checks each.
pub(super) fn resolve<'a>(draft: &mut Draft<'a>) -> Devices<'a> {
    let (machine, host) = (draft.machine, draft.host);
    let mut devices = Devices::default();
    if machine.pci.is_empty() {
        return devices;
    }
    let Some(pci) = &host.pci else {
        let detail = "the host's PCI devices were not looked at, so the plan is without the devices in `pci`";
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

/// Nothing is at the address; says where what was expected is now.
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
