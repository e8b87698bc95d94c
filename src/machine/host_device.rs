//! A device of the host that somebody gives a running guest, or takes from it.

use std::path::PathBuf;
use std::str::FromStr;

use super::UsbDevice;

/// A device of the host, as the command line names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostDevice {
    /// A USB device, by its id or its port.
    Usb(UsbDevice),
    /// A keyboard or mouse that host and guest share, by its path below /dev/input.
    Input(PathBuf),
}

impl FromStr for HostDevice {
    type Err = <UsbDevice as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.starts_with("/dev/") {
            true => Ok(Self::Input(text.into())),
            false => text.parse().map(Self::Usb),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_keyboard_or_mouse_and_all_else_a_usb_device() {
        let path = "/dev/input/by-id/usb-a-event-kbd";
        assert_eq!(path.parse::<HostDevice>(), Ok(HostDevice::Input(path.into())));
        assert_eq!("3-2.1".parse::<HostDevice>(), Ok(HostDevice::Usb("3-2.1".parse().unwrap())));
        assert!("by-id/usb-a-event-kbd".parse::<HostDevice>().is_err());
    }
}
