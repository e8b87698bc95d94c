//! What a USB device is: `"046d:c547"`, vendor and product.

use std::fmt;
use std::str::FromStr;

use super::ids::pair;
use super::{ParseUnitError, as_string};

/// Vendor and product id of a USB device, as `lsusb` writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UsbIds {
    /// Vendor.
    pub vendor: u16,
    /// Product.
    pub product: u16,
}

impl FromStr for UsbIds {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (vendor, product) = pair(text).ok_or_else(|| ParseUnitError {
            read: text.to_owned(),
            what: "a pair of USB ids",
            allowed: "write vendor:product as `lsusb` does, such as \"046d:c547\"",
        })?;
        Ok(Self { vendor, product })
    }
}

impl fmt::Display for UsbIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.product)
    }
}

as_string!(
    UsbIds,
    "UsbIds",
    "Vendor and product id as `lsusb` writes them, such as \"046d:c547\"",
    r"^\s*[0-9a-fA-F]{4}:[0-9a-fA-F]{4}\s*$"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_lsusb_writes() {
        assert_eq!("046D:C547".parse::<UsbIds>().unwrap().to_string(), "046d:c547");
        for text in ["", "046d", "046d:", "046d:c5470", "0x046d:c547", "046d:c547:1", "+46d:c547"] {
            assert!(text.parse::<UsbIds>().is_err(), "{text}");
        }
    }
}
