//! Where a USB device is plugged in: `"3-2.1"`, as the kernel names it.

use std::fmt;
use std::str::FromStr;

use super::{ParseUnitError, as_string};

/// Hubs that can stand between a device and its bus, and the device itself (USB 2.0, 4.1.1).
const MAX_PORTS: usize = 6;

/// Bus and ports: `3-2.1` is port 1 of the hub in port 2 of bus 3. Buses count from 1 in the order that the host finds them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UsbPort(String);

impl UsbPort {
    /// The port's name, which is also that of a folder in sysfs.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the other port is behind this one, which is then a hub's.
    pub fn is_above(&self, other: &Self) -> bool {
        other.0.strip_prefix(&self.0).is_some_and(|rest| rest.starts_with('.'))
    }
}

impl FromStr for UsbPort {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number =
            |s: &str| (1..=3).contains(&s.len()) && !s.starts_with('0') && s.bytes().all(|b| b.is_ascii_digit());
        let port = text.trim();
        let valid = port.split_once('-').is_some_and(|(bus, ports)| {
            number(bus) && ports.split('.').count() <= MAX_PORTS && ports.split('.').all(number)
        });
        if !valid {
            return Err(ParseUnitError {
                read: text.to_owned(),
                what: "a USB port",
                allowed: "write bus-port as below /sys/bus/usb/devices, such as \"3-2\", or \"3-2.1\" behind a hub",
            });
        }
        Ok(Self(port.to_owned()))
    }
}

impl fmt::Display for UsbPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

as_string!(
    UsbPort,
    "UsbPort",
    "Bus and port as below /sys/bus/usb/devices, such as \"3-2\", or \"3-2.1\" behind a hub",
    r"^\s*[1-9][0-9]{0,2}-[1-9][0-9]{0,2}(\.[1-9][0-9]{0,2}){0,5}\s*$"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_names_of_the_kernel_and_nothing_else() {
        for text in ["3-2", "3-2.1", "10-14.1.2.3.4.5"] {
            assert_eq!(text.parse::<UsbPort>().unwrap().as_str(), text);
        }
        for text in
            ["", "usb3", "3", "3-", "-2", "3-0", "03-2", "3-2:1.0", "3-2.", "1-1.1.1.1.1.1.1", "3-2/..", "3-1000"]
        {
            assert!(text.parse::<UsbPort>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_hub_is_above_what_is_plugged_into_it() {
        let port = |text: &str| text.parse::<UsbPort>().unwrap();
        assert!(port("3-2").is_above(&port("3-2.1")) && port("3-2").is_above(&port("3-2.1.4")));
        assert!(!port("3-2").is_above(&port("3-2")) && !port("3-2").is_above(&port("3-21")));
    }
}
