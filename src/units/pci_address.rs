//! PCI addresses: `"0000:01:00.0"`, or `"01:00.0"` in domain 0.

use std::fmt;
use std::str::FromStr;

use super::{ParseUnitError, as_string};

/// The address of one PCI function: domain, bus, device, function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    /// PCI domain (segment); 0 on most machines, up to 32 bits behind VMD.
    pub domain: u32,
    /// Bus number.
    pub bus: u8,
    /// Device number on the bus, 0 to 31.
    pub device: u8,
    /// Function of the device, 0 to 7.
    pub function: u8,
}

impl PciAddress {
    /// Function 0 of the same device, which functions of one card share.
    pub fn of_device(self) -> Self {
        Self { function: 0, ..self }
    }
}

impl FromStr for PciAddress {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseUnitError {
            read: text.to_owned(),
            what: "a PCI address",
            allowed: "write bus:device.function in hexadecimal, such as \"01:00.0\"",
        };
        let hex = |s: &str, digits: std::ops::RangeInclusive<usize>, max: u32| {
            (digits.contains(&s.len()) && s.bytes().all(|b| b.is_ascii_hexdigit()))
                .then(|| u32::from_str_radix(s, 16).ok())
                .flatten()
                .filter(|n| *n <= max)
                .ok_or_else(refuse)
        };
        let (rest, function) = text.trim().rsplit_once('.').ok_or_else(refuse)?;
        let (rest, device) = rest.rsplit_once(':').ok_or_else(refuse)?;
        let (domain, bus) = rest.rsplit_once(':').unwrap_or(("0000", rest));
        Ok(Self {
            domain: hex(domain, 4..=8, u32::MAX)?,
            bus: hex(bus, 1..=2, 0xff)? as u8,
            device: hex(device, 1..=2, 31)? as u8,
            function: hex(function, 1..=1, 7)? as u8,
        })
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function)
    }
}

as_string!(
    PciAddress,
    "PciAddress",
    "A PCI function's address, such as \"01:00.0\"",
    r"^([0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{1,2}:[0-9a-fA-F]{1,2}\.[0-7]$"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_with_and_without_a_domain() {
        assert_eq!("01:00.0".parse::<PciAddress>().unwrap().to_string(), "0000:01:00.0");
        assert_eq!("10000:e1:1f.7".parse::<PciAddress>().unwrap().to_string(), "10000:e1:1f.7");
    }

    #[test]
    fn refuses_what_is_no_address() {
        for text in ["", "01:00", "01:20.0", "01:00.8", "g1:00.0", "1:2:3:4.0", "01:00.0.0", "+1:00.0"] {
            assert!(text.parse::<PciAddress>().is_err(), "{text}");
        }
    }
}
