//! What of the host somebody gives a running guest, or takes from it.

use std::path::PathBuf;
use std::str::FromStr;

use super::UsbDevice;
use crate::units::PciAddress;

/// A device of the host, as the command line names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostDevice {
    /// A USB device, by its id or its port.
    Usb(UsbDevice),
    /// A keyboard or mouse that host and guest share, by its path below /dev/input.
    Input(PathBuf),
    /// A disk: an image, or a block device.
    Disk(PathBuf),
}

impl FromStr for HostDevice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            _ if text.starts_with("/dev/input/") => Ok(Self::Input(text.into())),
            _ if text.contains('/') => Ok(Self::Disk(text.into())),
            _ if text.parse::<PciAddress>().is_ok() => Err(format!(
                "{text:?} is a PCI device, which a guest that runs neither gets nor loses; `pci` in its machine file gives it one \
                 from its next start on"
            )),
            _ => text.parse().map(Self::Usb).map_err(|error: String| {
                let file = format!("./{text}");
                format!("{error}; the path of a disk has a slash, such as {file:?}, and an input device's begins with /dev/input/")
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_disk_unless_it_is_an_event_device_and_all_else_a_usb_device() {
        let path = "/dev/input/by-id/usb-a-event-kbd";
        assert_eq!(path.parse::<HostDevice>(), Ok(HostDevice::Input(path.into())));
        assert_eq!("3-2.1".parse::<HostDevice>(), Ok(HostDevice::Usb("3-2.1".parse().unwrap())));
        for disk in ["/srv/a.qcow2", "./a.raw", "/dev/sdb"] {
            assert_eq!(disk.parse::<HostDevice>(), Ok(HostDevice::Disk(disk.into())));
        }
        let bare = "a.qcow2".parse::<HostDevice>().unwrap_err();
        assert!(bare.contains("\"./a.qcow2\"") && bare.contains("/dev/input/"), "{bare}");
        let card = "01:00.0".parse::<HostDevice>().unwrap_err();
        assert!(card.contains("is a PCI device"), "{card}");
    }
}
