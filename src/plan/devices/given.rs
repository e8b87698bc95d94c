//! The functions of the host that are passed through to the guest.

use super::super::draft::Draft;
use crate::host::pci::{Details, PciFunction};
use crate::machine::PciDevice;
use crate::units::PciAddress;

/// The driver that passes functions through to a guest.
pub(super) const VFIO: &str = "vfio-pci";

/// A function that the guest is given.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Given<'a> {
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
pub(in super::super) struct Devices<'a> {
    /// The functions, in order of the entries and then of their addresses.
    pub given: Vec<Given<'a>>,
}

impl Given<'_> {
    /// Its address.
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

    /// The name of a finding about it.
    pub fn key(&self, question: &str) -> String {
        format!("pci.{}.{question}", self.address())
    }

    /// Whether it can be handed to a guest at once.
    pub fn is_ready(&self) -> bool {
        self.function.driver.as_deref() == Some(VFIO)
    }
}

/// The field of an entry that says which device is meant: the entry itself, if it is a text.
pub(super) fn address_field(draft: &Draft, index: usize) -> String {
    let field = format!("pci[{index}].address");
    if draft.line(&field) { field } else { format!("pci[{index}]") }
}
