//! Keyboards, mice and other devices that people use, as the kernel's event devices.
//! Source: `Documentation/input/event-codes.rst`, `include/uapi/linux/input-event-codes.h`; what counts as a keyboard is
//! udev's rule (`test_key()` in systemd's `src/udev/udev-builtin-input_id.c`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Root;
use crate::units::{UsbPort, printable};

/// The folder of all event devices, each a link through the device that it is on.
const CLASS: &str = "/sys/class/input";
/// Where udev makes links that keep their names: by what a device is, then by where it is.
const LINKS: [&str; 2] = ["/dev/input/by-id", "/dev/input/by-path"];
/// The seat of devices that belong to no other (sd-login(3)).
const SEAT: &str = "seat0";
/// More than an attribute has; what lies beyond is not looked at.
const TEXT: usize = 4096;

/// Codes: `KEY_ESC` to `KEY_S`, which a full keyboard has all, the left button, a finger on a touchpad, both axes.
const LETTERS: u64 = 0xffff_fffe;
const BTN_LEFT: usize = 0x110;
const BTN_TOOL_FINGER: usize = 0x145;
const X_AND_Y: u64 = 0b11;

/// An event device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventDevice {
    /// Its node's name below /dev/input: `event3`. Another one may have it after the next boot.
    pub event: String,
    /// The kernel's name for the device behind it, which no other gets before the next boot: `input7`.
    pub input: String,
    /// What it calls itself, without control characters.
    pub name: String,
    /// udev's links to it, by what it is before by where it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<PathBuf>,
    /// Whether it is a keyboard that one can type on.
    pub keyboard: bool,
    /// Whether it is a mouse, or a tablet with a button.
    pub mouse: bool,
    /// The seat that it belongs to.
    pub seat: String,
    /// The port, if it is a USB device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usb: Option<UsbPort>,
    /// Whether this process may use it; `None` if that could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usable: Option<bool>,
}

/// All event devices, and what the paths lead to that a machine names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// The devices in order of their numbers.
    pub devices: Vec<EventDevice>,
    /// For each path that leads to an event device, that one's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub named: BTreeMap<PathBuf, String>,
}

impl EventDevice {
    /// What tells it from every other that had or will have its name.
    pub fn identity(&self) -> String {
        format!("{}#{}", self.event, self.input)
    }

    /// The path that finds it again after it was unplugged, as far as there is one.
    pub fn path(&self) -> PathBuf {
        self.links.first().cloned().unwrap_or_else(|| Path::new("/dev/input").join(&self.event))
    }
}

impl Inputs {
    /// Reads all event devices, and where these paths lead to.
    pub fn read(root: &Root, paths: &[PathBuf]) -> Self {
        let named = paths.iter().filter_map(|path| Some((path.clone(), leads_to(root, path)?)));
        Self { named: named.collect(), devices: devices(root) }
    }

    /// The device that this path leads to.
    pub fn at(&self, path: &Path) -> Option<&EventDevice> {
        let event = self.named.get(path)?;
        self.devices.iter().find(|device| device.event == *event)
    }
}

/// The event device that a path leads to: `event3`.
fn leads_to(root: &Root, path: &Path) -> Option<String> {
    let real = std::fs::canonicalize(root.path(path)).ok()?;
    let name = real.file_name()?.to_str()?.to_owned();
    (real.parent()?.ends_with("dev/input") && number(&name).is_some()).then_some(name)
}

/// The number of `event3`.
fn number(name: &str) -> Option<u32> {
    name.strip_prefix("event")?.parse().ok()
}

fn devices(root: &Root) -> Vec<EventDevice> {
    let links = links(root);
    let mut events: Vec<(u32, String)> =
        root.names(CLASS).into_iter().filter_map(|name| Some((number(&name)?, name))).collect();
    events.sort();
    events.into_iter().filter_map(|(_, event)| device(root, event, &links)).collect()
}

fn device(root: &Root, event: String, links: &[(String, PathBuf)]) -> Option<EventDevice> {
    let folder = format!("{CLASS}/{event}");
    let bits =
        |kind: &str| bits(&root.text_up_to(format!("{folder}/device/capabilities/{kind}"), TEXT).unwrap_or_default());
    let (keys, rel, abs) = (bits("key"), bits("rel"), bits("abs"));
    let key = |code: usize| keys.get(code / 64).is_some_and(|word| word >> (code % 64) & 1 == 1);
    let both = |axes: &[u64]| axes.first().is_some_and(|word| word & X_AND_Y == X_AND_Y);
    let numbers = root.text_up_to(format!("{folder}/dev"), TEXT).unwrap_or_default();
    let known = root.text_up_to(format!("/run/udev/data/c{numbers}"), 16 << 10).unwrap_or_default();
    let seat = known.lines().find_map(|line| line.strip_prefix("E:ID_SEAT="));
    let links = links.iter().filter(|(to, _)| *to == event).map(|(_, link)| link.clone());
    Some(EventDevice {
        input: root.link(format!("{folder}/device"))?,
        name: printable(&root.text_up_to(format!("{folder}/device/name"), TEXT).unwrap_or_default()),
        links: links.collect(),
        keyboard: keys.first().is_some_and(|word| word & LETTERS == LETTERS),
        mouse: key(BTN_LEFT) && (both(&rel) || both(&abs) && !key(BTN_TOOL_FINGER)),
        seat: printable(seat.unwrap_or(SEAT)),
        usb: root.device_of(&folder),
        usable: root.may_use(&Path::new("/dev/input").join(&event)),
        event,
    })
}

/// Bits as the kernel prints them: words of 64 in hexadecimal, the highest first (`input_print_bitmap()`).
fn bits(text: &str) -> Vec<u64> {
    text.split_ascii_whitespace().rev().map(|word| u64::from_str_radix(word, 16).unwrap_or(0)).collect()
}

/// udev's links: the name that each leads to, and the link.
fn links(root: &Root) -> Vec<(String, PathBuf)> {
    let mut links = Vec::new();
    for folder in LINKS {
        for name in root.names(folder) {
            let link = Path::new(folder).join(name);
            links.extend(root.link(&link).map(|to| (to, link)));
        }
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::sample_tree;

    #[test]
    fn keyboards_and_mice_are_told_from_what_only_has_keys() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| sample_tree::put(folder.path(), path, text);
        let link = |to: &str, at: &str| {
            let at = folder.path().join(at);
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(to, at).unwrap();
        };
        let device = |event: u32, parent: &str, [key, rel, abs]: [&str; 3]| {
            let path = format!("devices/{parent}/input/input{}", event + 4);
            put(&format!("sys/{path}/event{event}/dev"), &format!("13:{}", 64 + event));
            put(&format!("sys/{path}/name"), &format!("device {event}\u{1b}\n"));
            for (kind, text) in [("key", key), ("rel", rel), ("abs", abs)] {
                put(&format!("sys/{path}/capabilities/{kind}"), text);
            }
            link(&format!("../../input{}", event + 4), &format!("sys/{path}/event{event}/device"));
            link(&format!("../../{path}/event{event}"), &format!("sys/class/input/event{event}"));
        };
        let keyboard = "1000000000007 ff9f207ac14057ff febeffdfffefffff fffffffffffffffe";
        device(0, "platform/i8042/serio0", [keyboard, "0", "0"]);
        device(1, "LNXSYSTM:00/LNXPWRBN:00", ["10000000000000 0", "0", "0"]);
        device(
            10,
            "pci0000:00/0000:00:14.0/usb3/3-2/3-2.1/3-2.1:1.0/0003:046D:C547.0001",
            ["1f0000 0 0 0 0", "903", "0"],
        );
        device(2, "pci0000:00/i2c", ["e520 10000 0 0 0 0", "0", "2608000 3"]);
        put("run/udev/data/c13:74", "S:input/by-id/usb-x-event-mouse\nE:ID_SEAT=seat-two\n");
        link("../event10", "dev/input/by-id/usb-x-event-mouse");
        put("dev/input/event10", "");
        link("../event10", "dev/input/by-path/pci-event-mouse");

        let mouse = PathBuf::from("/dev/input/by-id/usb-x-event-mouse");
        let other = PathBuf::from("/dev/input/by-id/none");
        let inputs = Inputs::read(&Root::new(folder.path()), &[mouse.clone(), other.clone(), "/sys/class".into()]);
        let short: Vec<_> = inputs.devices.iter().map(|d| (d.event.as_str(), d.keyboard, d.mouse)).collect();
        assert_eq!(
            short,
            [("event0", true, false), ("event1", false, false), ("event2", false, false), ("event10", false, true)]
        );
        let found = inputs.at(&mouse).unwrap();
        assert_eq!((found.identity().as_str(), found.seat.as_str()), ("event10#input14", "seat-two"));
        assert_eq!(found.usb.as_ref().map(UsbPort::as_str), Some("3-2.1"));
        assert_eq!(found.links, [mouse, "/dev/input/by-path/pci-event-mouse".into()]);
        assert_eq!(found.name, "device 10\u{fffd}");
        assert_eq!((inputs.at(&other), inputs.named.len()), (None, 1));
        assert_eq!(inputs.devices[0].path(), Path::new("/dev/input/event0"));
        assert_eq!(Inputs::read(&Root::new("/nowhere"), &[]), Inputs::default());
    }
}
