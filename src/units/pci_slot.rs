//! Functions of one PCI device: `"01:00.0"`, or `"01:00.*"` for all of them.

use std::fmt;
use std::str::FromStr;

use super::{ParseUnitError, PciAddress, as_string};

/// One function of a PCI device, or all that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciSlot {
    /// The function, or function 0.
    first: PciAddress,
    /// Whether all functions are meant.
    whole: bool,
}

impl PciSlot {
    /// Whether this function is meant.
    pub fn contains(self, address: PciAddress) -> bool {
        if self.whole { address.of_device() == self.first } else { address == self.first }
    }

    /// Whether a function is meant by both.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }
}

impl From<PciAddress> for PciSlot {
    /// This function alone.
    fn from(first: PciAddress) -> Self {
        Self { first, whole: false }
    }
}

impl FromStr for PciSlot {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let (first, whole) = match text.strip_suffix(".*") {
            Some(device) => (format!("{device}.0"), true),
            None => (text.to_owned(), false),
        };
        let first = first.parse().map_err(|_| ParseUnitError {
            read: text.to_owned(),
            what: "a PCI address",
            allowed: "write bus:device.function in hexadecimal, such as \"01:00.0\", or \"01:00.*\" for all functions",
        })?;
        Ok(Self { first, whole })
    }
}

impl fmt::Display for PciSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PciAddress { domain, bus, device, .. } = self.first;
        if self.whole { write!(f, "{domain:04x}:{bus:02x}:{device:02x}.*") } else { self.first.fmt(f) }
    }
}

as_string!(
    PciSlot,
    "PciSlot",
    "A PCI function's address, such as \"01:00.0\", or \"01:00.*\" for all functions of the device",
    r"^\s*([0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{1,2}:[0-9a-fA-F]{1,2}\.([0-7]|\*)\s*$"
);

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(text: &str) -> PciSlot {
        text.parse().unwrap()
    }

    #[test]
    fn a_function_or_all_of_them() {
        let address = |text: &str| text.parse::<PciAddress>().unwrap();
        assert_eq!(slot("1:0.*").to_string(), "0000:01:00.*");
        assert!(slot("01:00.*").contains(address("01:00.3")));
        assert!(!slot("01:00.*").contains(address("02:00.0")));
        assert!(!slot("01:00.0").contains(address("01:00.1")));
        assert!(slot("01:00.1").overlaps(slot("01:00.*")) && slot("01:00.*").overlaps(slot("01:00.1")));
        assert!(!slot("01:00.1").overlaps(slot("01:00.0")));
    }

    #[test]
    fn refuses_what_is_neither() {
        for text in ["", "01:00", "*", ".*", "01:00.**", "01:20.*"] {
            assert!(text.parse::<PciSlot>().is_err(), "{text}");
        }
    }
}
