//! Devices that QEMU is given over its monitor just before the guest runs, and again each time that they are plugged in.
//! They are no part of the command line: QEMU takes them from the host at once, and they come and go.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::host::usb::Plugged;
use crate::machine::UsbDevice;
use crate::units::{DiskFormat, Origin, UsbIds, UsbPort};

/// A device of the host that QEMU is given late.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateDevice {
    /// Its id in QEMU: `usb-0`, `input-0`.
    pub id: String,
    /// What it is.
    pub what: Late,
    /// Whether the machine does not start without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub needed: bool,
    /// Why it is there.
    pub origin: Origin,
}

/// What is given late.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Late {
    /// A USB device.
    Usb(LateUsb),
    /// An event device.
    Input(LateInput),
    /// A disk that somebody attached while the guest ran.
    Disk(LateDisk),
}

/// An image, or a block device, that somebody gave the running guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateDisk {
    /// Its path, from the root on.
    pub file: PathBuf,
    /// What its bytes mean.
    pub format: DiskFormat,
    /// Whether the guest may only read it.
    pub read_only: bool,
    /// The serial number that the guest reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// The port of the guest's USB controller; `None`: it is on the SCSI controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_port: Option<u8>,
}

impl LateDisk {
    /// Id of the controller that all virtio-scsi disks share.
    pub const SCSI: &str = "scsi0";
}

/// Which USB device, and where the guest finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateUsb {
    /// What it is; `None`: anything.
    pub ids: Option<UsbIds>,
    /// The host's port; `None`: any.
    pub port: Option<UsbPort>,
    /// The port of the guest's controller; `None`: a free one.
    pub guest_port: Option<u8>,
}

/// Which event device, and how QEMU uses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateInput {
    /// Its path on the host.
    pub path: PathBuf,
    /// The node that is made for QEMU's account; `None`: QEMU opens the host's own.
    pub node: Option<PathBuf>,
    /// QEMU's word for the keys that give it to the guest and back.
    pub toggle: String,
    /// Whether those keys move all others with it.
    pub grab_all: bool,
    /// Whether repeated key presses reach the guest.
    pub repeat: bool,
}

impl LateUsb {
    /// The ports of the guest's controller that the host's devices can have: QEMU's controller has 15 for each speed
    /// (`hw/usb/hcd-xhci.h`), and the first is for the pointer of an emulated screen.
    pub const PORTS: RangeInclusive<u8> = 2..=15;

    /// The device that an entry of the machine file, or a request, means.
    pub fn of(device: &UsbDevice, guest_port: Option<u8>) -> Self {
        Self { ids: device.id, port: device.port.clone(), guest_port }
    }

    /// Whether this is it. A hub never is.
    pub fn is(&self, device: &Plugged) -> bool {
        !device.hub && self.names(device)
    }

    /// Whether its id and port are these, whatever it is.
    pub fn names(&self, device: &Plugged) -> bool {
        self.ids.is_none_or(|ids| ids == device.ids) && self.port.as_ref().is_none_or(|port| *port == device.port)
    }
}

/// Which of the devices each entry has: what it has already it keeps; of the others, those go first that name a port, since
/// one of several equal devices is theirs. Gives indices into `plugged`.
pub fn assign_usb(wanted: &[&LateUsb], has: &[Option<usize>], plugged: &[Plugged]) -> Vec<Option<usize>> {
    let mut given = has.to_vec();
    for by_port in [true, false] {
        for (index, entry) in wanted.iter().enumerate().filter(|(_, entry)| entry.port.is_some() == by_port) {
            if given[index].is_none() {
                let free = |n: &usize| entry.is(&plugged[*n]) && !given.contains(&Some(*n));
                given[index] = (0..plugged.len()).find(free);
            }
        }
    }
    given
}

impl fmt::Display for LateDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            Late::Usb(usb) => usb.fmt(f),
            Late::Input(input) => write!(f, "{}", input.path.display()),
            Late::Disk(disk) => write!(f, "{}", disk.file.display()),
        }
    }
}

impl fmt::Display for LateUsb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.ids, &self.port) {
            (Some(ids), None) => write!(f, "USB device {ids}"),
            (Some(ids), Some(port)) => write!(f, "USB device {ids} in port {port}"),
            (None, Some(port)) => write!(f, "what is in USB port {port}"),
            (None, None) => f.write_str("any USB device"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::sample::plugged;

    fn wanted(text: &str) -> LateUsb {
        LateUsb::of(&text.parse().unwrap(), None)
    }

    #[test]
    fn equal_devices_are_told_apart_and_none_is_given_twice() {
        let all = [plugged("1-1", "046d:c547"), plugged("1-2", "046d:c547"), plugged("1-3", "0951:1666")];
        let entries = [wanted("046d:c547"), wanted("1-1"), wanted("046d:c547"), wanted("0951:1667")];
        let entries: Vec<&LateUsb> = entries.iter().collect();
        assert_eq!(assign_usb(&entries, &[None; 4], &all), [Some(1), Some(0), None, None]);
        // The one that is there stays where it is.
        assert_eq!(assign_usb(&entries[2..3], &[Some(1)], &all), [Some(1)]);
        assert_eq!(assign_usb(&[entries[0], entries[2]], &[None, Some(0)], &all), [Some(1), Some(0)]);
    }

    #[test]
    fn a_hub_is_nobodys() {
        let hub = Plugged { hub: true, ..plugged("1-1", "05e3:0610") };
        assert!(!wanted("1-1").is(&hub) && !wanted("05e3:0610").is(&hub));
    }
}
