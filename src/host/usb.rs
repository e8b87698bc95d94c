//! USB devices that are plugged in: what they are, what of the host uses them, which machine has them.
//! Source: the kernel's `Documentation/ABI/stable/sysfs-bus-usb`, `Documentation/ABI/testing/sysfs-bus-usb`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::block::{Mounts, mounted};
use super::{Root, lease};
use crate::units::{PciAddress, UsbIds, UsbPort, printable};

/// The folder of all USB devices and their interfaces.
const DEVICES: &str = "/sys/bus/usb/devices";
/// All block devices; each name is a link whose path leads through the device that it is on.
const BLOCK: &str = "/sys/class/block";
/// More than a device's text has; what lies beyond is not looked at.
const TEXT: usize = 512;
/// The class of a hub, of a device for people, and that one's word for a keyboard (USB HID 1.11, 4.3).
const HUB: u8 = 0x09;
const KEYBOARD: (u8, u8) = (0x03, 0x01);

/// A USB device that is plugged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plugged {
    /// Where.
    pub port: UsbPort,
    /// Number of its bus.
    pub bus: u16,
    /// Its number on the bus: another one each time that it is plugged in.
    pub number: u8,
    /// Vendor and product.
    pub ids: UsbIds,
    /// What it calls itself, without control characters.
    pub name: String,
    /// Whether it is a hub.
    pub hub: bool,
    /// Whether the kernel has configured it. One that was just plugged in is not at first.
    pub configured: bool,
    /// Whether an interface of it says that it is a keyboard.
    pub keyboard: bool,
    /// The PCI function of its controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<PciAddress>,
    /// Whether this process may use it; `None` if that could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usable: Option<bool>,
    /// Where its disks are mounted, or used as swap.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounted: Vec<String>,
    /// The machine whose launcher has given it to its guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
}

impl Plugged {
    /// Its device node.
    pub fn node(&self) -> PathBuf {
        format!("/dev/bus/usb/{:03}/{:03}", self.bus, self.number).into()
    }

    /// What tells it from every other that was or will be in this port.
    pub fn identity(&self) -> String {
        format!("{}#{}", self.port, self.number)
    }

    /// The name of its lease.
    pub fn lease_name(&self) -> String {
        lease_name(self.port.as_str())
    }
}

/// The name of the lease of a device by its [`Plugged::identity`].
pub fn lease_of(identity: &str) -> String {
    lease_name(identity.split('#').next().unwrap_or_default())
}

fn lease_name(port: &str) -> String {
    format!("usb-{port}")
}

impl std::fmt::Display for Plugged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name.as_str() {
            "" => write!(f, "{} in port {}", self.ids, self.port),
            name => write!(f, "{name} ({} in port {})", self.ids, self.port),
        }
    }
}

/// All devices that are plugged in, hubs among them, in order of their ports. `leases`: the folder of leases.
pub fn plugged(root: &Root, leases: &Path) -> Vec<Plugged> {
    let mut all: Vec<Plugged> = root.names(DEVICES).iter().filter_map(|name| read(root, name.parse().ok()?)).collect();
    all.sort_by(|a, b| a.port.cmp(&b.port));
    let disks = disks(root, &all);
    let mounts = if disks.is_empty() { Mounts::default() } else { Mounts::read(root) };
    for (index, disk) in disks {
        all[index].mounted.extend(mounted(root, disk, &mounts));
    }
    for device in &mut all {
        device.mounted.sort();
        device.mounted.dedup();
        device.lease = lease::holder(&root.path(leases), device.lease_name());
    }
    all
}

fn read(root: &Root, port: UsbPort) -> Option<Plugged> {
    let folder = format!("{DEVICES}/{port}");
    let text = |name: &str| root.text_up_to(format!("{folder}/{name}"), TEXT);
    let words: Vec<String> = [text("manufacturer"), text("product")].into_iter().flatten().collect();
    let interfaces = root.names(&folder).into_iter().filter(|name| name.contains(':'));
    let keyboard = interfaces.into_iter().any(|interface| {
        let code = |name: &str| code(&root.text_up_to(format!("{folder}/{interface}/{name}"), TEXT)?);
        (code("bInterfaceClass"), code("bInterfaceProtocol")) == (Some(KEYBOARD.0), Some(KEYBOARD.1))
    });
    let mut device = Plugged {
        bus: text("busnum")?.parse().ok()?,
        number: text("devnum")?.parse().ok()?,
        ids: format!("{}:{}", text("idVendor")?, text("idProduct")?).parse().ok()?,
        name: printable(&words.join(" ")),
        hub: text("bDeviceClass").and_then(|class| code(&class)) == Some(HUB),
        configured: text("bConfigurationValue").is_some_and(|value| !value.is_empty())
            && root.link(format!("{folder}/driver")).is_some(),
        keyboard,
        controller: root.device_of(&folder),
        usable: None,
        mounted: Vec::new(),
        lease: None,
        port,
    };
    device.usable = root.may_use(&device.node());
    Some(device)
}

/// Two hexadecimal digits.
fn code(text: &str) -> Option<u8> {
    u8::from_str_radix(text, 16).ok()
}

/// The disks on these devices by their numbers, each with the index of its device.
fn disks(root: &Root, devices: &[Plugged]) -> Vec<(usize, (u64, u64))> {
    let mut found = Vec::new();
    for name in root.names(BLOCK) {
        let port: Option<UsbPort> = root.device_of(format!("{BLOCK}/{name}"));
        let Some(index) = port.and_then(|port| devices.iter().position(|device| device.port == port)) else { continue };
        let numbers = root.text_up_to(format!("{BLOCK}/{name}/dev"), TEXT);
        let numbers = numbers.as_deref().and_then(|text| text.split_once(':'));
        if let Some((Ok(major), Ok(minor))) = numbers.map(|(major, minor)| (major.parse(), minor.parse())) {
            found.push((index, (major, minor)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::sample_tree;

    #[test]
    fn what_is_plugged_in_is_read_with_what_the_host_does_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let tree = "sys/devices/pci0000:00/0000:00:14.0/usb3";
        let put = |path: &str, text: &str| sample_tree::put(folder.path(), path, text);
        let link = |to: &str, at: &str| {
            let at = folder.path().join(at);
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(to, at).unwrap();
        };
        let device = |path: &str, ids: (&str, &str), number: &str, class: &str| {
            let port = path.rsplit('/').next().unwrap();
            for (name, text) in [
                ("idVendor", ids.0),
                ("idProduct", ids.1),
                ("busnum", "3"),
                ("devnum", number),
                ("bDeviceClass", class),
                ("bConfigurationValue", "1"),
            ] {
                put(&format!("{tree}/{path}/{name}"), text);
            }
            link("../../../../../../bus/usb/drivers/usb", &format!("{tree}/{path}/driver"));
            link(
                &format!("../../../devices/pci0000:00/0000:00:14.0/usb3/{path}"),
                &format!("sys/bus/usb/devices/{port}"),
            );
        };
        device("3-2", ("05e3", "0610"), "2", "09");
        device("3-2/3-2.1", ("046d", "c547"), "5", "00");
        put(&format!("{tree}/3-2/3-2.1/product"), "Receiver \u{1b}[2J\n");
        put(&format!("{tree}/3-2/3-2.1/3-2.1:1.0/bInterfaceClass"), "03\n");
        put(&format!("{tree}/3-2/3-2.1/3-2.1:1.0/bInterfaceProtocol"), "01\n");
        device("3-4", ("46f4", "0001"), "7", "00");
        put(&format!("{tree}/3-4/bConfigurationValue"), "");
        let disk = "3-4/3-4:1.0/host6/target6:0:0/6:0:0:0/block/sda";
        put(&format!("{tree}/{disk}/dev"), "8:0\n");
        link(&format!("../../devices/pci0000:00/0000:00:14.0/usb3/{disk}"), "sys/class/block/sda");
        link(&format!("../../devices/pci0000:00/0000:00:14.0/usb3/{disk}"), "sys/dev/block/8:0");
        put("proc/self/mountinfo", "36 35 8:0 / /media/stick rw - vfat /dev/sda rw\n");
        // What is no device: a root hub, an interface, one that vanishes while it is read.
        std::fs::create_dir_all(folder.path().join("sys/bus/usb/devices/usb3")).unwrap();
        std::fs::create_dir_all(folder.path().join("sys/bus/usb/devices/3-9")).unwrap();

        let all = plugged(&Root::new(folder.path()), Path::new("/run/vfio-run/.leases"));
        let short: Vec<_> = all.iter().map(|d| (d.port.as_str(), d.hub, d.keyboard, d.configured)).collect();
        assert_eq!(short, [("3-2", true, false, true), ("3-2.1", false, true, true), ("3-4", false, false, false)]);
        assert_eq!(all[1].to_string(), "Receiver \u{fffd}[2J (046d:c547 in port 3-2.1)");
        assert_eq!(all[1].node(), Path::new("/dev/bus/usb/003/005"));
        assert_eq!(all[1].controller, "00:14.0".parse().ok());
        assert_eq!((all[2].mounted.as_slice(), all[1].mounted.len()), (["/media/stick".to_owned()].as_slice(), 0));
        assert_eq!(all[2].identity(), "3-4#7");
        assert!(plugged(&Root::new("/nowhere"), Path::new("/")).is_empty());
    }
}
