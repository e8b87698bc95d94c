//! USB devices of the host that the guest is given.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;

use crate::machine::named::Named;
use crate::machine::problems::Problems;
use crate::machine::short_or_fields::{FromShort, ShortOrFields};
use crate::machine::subject::Subject;
use crate::units::{UsbIds, UsbPort};

/// The guest's controller has 15 ports, and one is for the pointer of an emulated screen.
const MAX_DEVICES: usize = 14;

/// A USB device that the guest is given: what it is, where it is plugged in, or both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UsbDevice {
    /// What it is: vendor and product, as `lsusb` shows them. The guest is given it in whichever port it is.
    #[serde(default)]
    pub id: Option<UsbIds>,
    /// Where it is plugged in: the guest is given what is in this port of the host. `vfio-run devices` and
    /// /sys/bus/usb/devices have the ports' names.
    #[serde(default)]
    pub port: Option<UsbPort>,
    /// Whether the machine starts without it. The guest is given it when it is plugged in. Default: yes.
    #[serde(default)]
    pub optional: Option<bool>,
}

impl UsbDevice {
    /// The name of the guest's USB controller for QEMU.
    pub const CONTROLLER: &str = "usb0";
}

impl fmt::Display for UsbDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.id, &self.port) {
            (Some(id), Some(port)) => write!(f, "{id} in port {port}"),
            (Some(id), None) => id.fmt(f),
            (None, Some(port)) => write!(f, "port {port}"),
            (None, None) => f.write_str("any"),
        }
    }
}

impl Subject for Vec<UsbDevice> {
    fn check(&self, problems: &mut Problems) {
        if self.len() > MAX_DEVICES {
            problems
                .add(format!("usb[{MAX_DEVICES}]"), format!("{} USB devices are too many", self.len()))
                .allowed(format!("at most {MAX_DEVICES}"))
                .help("give the guest a whole USB controller in `pci`");
        }
        for (i, device) in self.iter().enumerate() {
            if device.id.is_none() && device.port.is_none() {
                problems
                    .add(format!("usb[{i}]"), "a USB device needs an `id`, a `port` or both")
                    .allowed("what `lsusb` shows, such as `\"046d:c547\"`, or a port, such as `\"3-2.1\"`");
            }
            let same = |other: &UsbDevice| device.port.is_some() && other.port == device.port;
            if let (Some(first), Some(port)) = (self[..i].iter().position(same), &device.port) {
                problems
                    .add(format!("usb[{i}].port"), format!("port {port} is already that of `usb[{first}]`"))
                    .help("one device is in one port; name each once");
            }
        }
    }

    fn name(&self, named: &mut Named) {
        named.desk = true;
    }
}

impl FromShort for UsbDevice {
    type Short = String;
    const EXPECTED: &str = "an id, a port or fields";

    fn from_short(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl std::str::FromStr for UsbDevice {
    type Err = String;

    /// Reads `046d:c547` or `3-2.1`: a device by its id or its port alone.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(port) = text.parse() {
            return Ok(Self { port: Some(port), ..Self::default() });
        }
        match text.parse() {
            Ok(id) => Ok(Self { id: Some(id), ..Self::default() }),
            Err(_) => Err(format!(
                "{text:?} is not a USB device; write vendor:product as `lsusb` does, such as \"046d:c547\", or a port, such as \
                 \"3-2.1\""
            )),
        }
    }
}

/// Reads the list.
pub(in crate::machine) fn list<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<UsbDevice>>, D::Error> {
    let written = Option::<Vec<ShortOrFields<_>>>::deserialize(from)?;
    Ok(written.map(|list| list.into_iter().map(|ShortOrFields(device)| device).collect()))
}

/// What the list takes: for a text the pattern counts, for an object the fields.
pub(in crate::machine) fn list_schema(generator: &mut SchemaGenerator) -> Schema {
    let patterns = [UsbIds::json_schema(generator), UsbPort::json_schema(generator)];
    let patterns = patterns.iter().filter_map(|schema| schema.get("pattern")?.as_str().map(|text| format!("({text})")));
    let mut item = UsbDevice::json_schema(generator);
    item.insert("type".to_owned(), json!(["string", "object"]));
    item.insert("pattern".to_owned(), json!(patterns.collect::<Vec<_>>().join("|")));
    schemars::json_schema!({ "type": "array", "items": item })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::machine::parse;

    fn read(written: &str) -> Result<Vec<UsbDevice>, String> {
        let text = format!("(guest: Linux, memory: (size: \"1 GiB\"), usb: {written})");
        let read = parse(Path::new("m.ron"), &text).map_err(|refused| refused.to_string());
        read.map(|source| source.machine.usb.unwrap_or_default())
    }

    #[test]
    fn a_device_is_named_by_id_by_port_or_by_both() {
        let devices = read(r#"["046D:c547", "3-2.1", (id: "046d:c548", port: "1-4", optional: false)]"#).unwrap();
        let said: Vec<String> = devices.iter().map(ToString::to_string).collect();
        assert_eq!(said, ["046d:c547", "port 3-2.1", "046d:c548 in port 1-4"]);
        assert_eq!(devices[2].optional, Some(false));
        assert_eq!(read("[]").unwrap(), []);
        assert_eq!(read(r#"["046d:c547", "046d:c547"]"#).unwrap().len(), 2);
    }

    #[test]
    fn what_names_no_device_is_refused_with_what_would() {
        for (written, expected) in [
            (r#"["mouse"]"#, "\"mouse\" is not a USB device"),
            (r#"["3-2:1.0"]"#, "\"3-2:1.0\" is not a USB device"),
            ("[(optional: true)]", "a USB device needs an `id`, a `port` or both"),
            (r#"["3-2", (port: "3-2", id: "046d:c547")]"#, "port 3-2 is already that of `usb[0]`"),
            (r#"[(id: "3-2")]"#, "\"3-2\" is not a pair of USB ids"),
            (&format!("[{}]", "\"046d:c547\",".repeat(15)), "15 USB devices are too many"),
        ] {
            let refused = read(written).unwrap_err();
            assert!(refused.contains(expected), "{written}: {refused}");
        }
    }
}
