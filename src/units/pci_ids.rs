//! What a PCI device is: `"10de:2684"`, vendor and device.

use std::fmt;
use std::str::FromStr;

use super::ids::pair;
use super::{ParseUnitError, as_string};

/// Vendor and device id of a PCI function, or those of its subsystem, as `lspci -n` writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciIds {
    /// Vendor.
    pub vendor: u16,
    /// Device.
    pub device: u16,
}

impl FromStr for PciIds {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (vendor, device) = pair(text).ok_or_else(|| ParseUnitError {
            read: text.to_owned(),
            what: "a pair of PCI ids",
            allowed: "write vendor:device as `lspci -n` does, such as \"10de:2684\"",
        })?;
        Ok(Self { vendor, device })
    }
}

impl fmt::Display for PciIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.device)
    }
}

as_string!(
    PciIds,
    "PciIds",
    "Vendor and device id as `lspci -n` writes them, such as \"10de:2684\"",
    r"^\s*[0-9a-fA-F]{4}:[0-9a-fA-F]{4}\s*$"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_lspci_writes() {
        assert_eq!("10DE:2684".parse::<PciIds>().unwrap().to_string(), "10de:2684");
        for text in ["", "10de", "10de:", "10de:26845", "0x10de:2684", "10de:2684:1", "+0de:2684"] {
            assert!(text.parse::<PciIds>().is_err(), "{text}");
        }
    }
}
