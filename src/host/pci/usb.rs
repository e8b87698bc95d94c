//! USB devices below a USB controller, by port.

use serde::{Deserialize, Serialize};

use super::sysfs::walk;
use crate::host::Root;
use crate::units::printable;

/// A USB device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsbDevice {
    /// Bus and port, as the kernel names it: `3-2.1` is port 1 of the hub in port 2 of bus 3.
    pub port: String,
    /// Vendor and product as `lsusb` writes them: `046d:c547`.
    pub ids: String,
    /// What it calls itself.
    pub name: String,
}

/// The devices below a controller, hubs among them, in order of their ports.
pub(super) fn below(root: &Root, folder: &str) -> Vec<UsbDevice> {
    let mut devices = Vec::new();
    walk(root, folder, &mut |path| devices.extend(device(root, path)));
    devices.sort_by(|a, b| a.port.cmp(&b.port));
    devices
}

fn device(root: &Root, path: &str) -> Option<UsbDevice> {
    let port = path.rsplit('/').next()?;
    // A device is `3-2.1`; `usb3` is the root hub, `3-2:1.0` an interface.
    if !port.starts_with(|c: char| c.is_ascii_digit()) || !port.contains('-') || port.contains(':') {
        return None;
    }
    let text = |name: &str| root.text_up_to(format!("{path}/{name}"), 512);
    let ids = format!("{}:{}", text("idVendor")?, text("idProduct")?);
    let words: Vec<String> = [text("manufacturer"), text("product")].into_iter().flatten().collect();
    Some(UsbDevice { port: port.to_owned(), ids, name: printable(&words.join(" ")) })
}
