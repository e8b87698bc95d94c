//! What is known of a PCI function that is looked at closely: its other attributes, one by one.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::config::{Bar, answers, bars, header, hex};
use super::holders::Holder;
use super::nodes::{self, Node};
use super::sysfs::folder;
use super::usb::{self, UsbDevice};
use crate::host::{Root, lease};
use crate::units::{PciAddress, Size};

/// More modules than use one another; the search ends there.
const MAX_MODULES: usize = 64;

/// What is known of a function that was looked at closely.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Details {
    /// NUMA node.
    pub numa_node: Option<u32>,
    /// Whether the host's firmware used it as its screen.
    pub boot_vga: Option<bool>,
    /// Header type: 0 is a device, 1 a bridge; `None` if it does not answer.
    pub header: Option<u8>,
    /// Whether its configuration space answers; one that reads as all ones is dead or without power.
    pub answers: Option<bool>,
    /// Memory and I/O ranges.
    pub bars: Vec<Bar>,
    /// Size of its expansion ROM's range.
    pub rom: Option<Size>,
    /// Ranges that can be resized.
    pub resizable: Vec<Resizable>,
    /// How the kernel can reset it, in the order that it would try; `None` if the kernel does not tell (before Linux
    /// 5.15).
    pub reset_methods: Option<Vec<String>>,
    /// Power state: `D0`, `D3hot`, `D3cold`.
    pub power_state: Option<String>,
    /// Runtime power management: `auto` or `on` (kept awake).
    pub power_control: Option<String>,
    /// Whether it may lose its power altogether.
    pub d3cold_allowed: Option<bool>,
    /// Its link to the port above.
    pub link: Option<Link>,
    /// The driver's module and the modules that use it, topmost first: the order that they are removed in.
    pub modules: Vec<String>,
    /// Device nodes that belong to it.
    pub nodes: Vec<Node>,
    /// Processes that hold one of them open; those of other users are seen by root alone.
    pub holders: Vec<Holder>,
    /// What of the host depends on it: mount points, `swap`, `default route (eth0)`.
    pub uses: Vec<String>,
    /// USB devices behind it, by port.
    pub usb: Vec<UsbDevice>,
    /// The machine whose launcher holds its lease.
    pub lease: Option<String>,
    /// The machine that had it and did not restore it: its launcher died, or failed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<String>,
}

/// A range that can be resized while no driver is bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resizable {
    /// Number of the range.
    pub bar: usize,
    /// The sizes that it can have: bit *n* is 2^(*n*+20) bytes.
    pub sizes: u64,
}

/// A PCI Express link, in the kernel's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Speed now: `8.0 GT/s PCIe`.
    pub speed: Option<String>,
    /// Lanes now.
    pub width: Option<u32>,
    /// The most that it can do.
    pub max_speed: Option<String>,
    /// Lanes that it has.
    pub max_width: Option<u32>,
}

impl Resizable {
    /// The sizes, smallest first.
    pub fn sizes(&self) -> impl DoubleEndedIterator<Item = Size> {
        (0..44u32).filter(|n| self.sizes >> n & 1 == 1).map(|n| Size::bytes(1 << (n + 20)))
    }
}

/// The files `reset` and `reset_method` exist only if the kernel knows a way (`pci_dev_reset_attr_is_visible()` in
/// `drivers/pci/pci-sysfs.c`), and before Linux 5.15 only the former.
fn reset_methods(root: &Root, folder: &str) -> Option<Vec<String>> {
    match root.text_up_to(format!("{folder}/reset_method"), 4096) {
        Some(words) => Some(words.split_whitespace().map(str::to_owned).collect()),
        None if root.path(format!("{folder}/reset")).exists() => None,
        None => Some(Vec::new()),
    }
}

/// Everything else.
pub(super) fn read(root: &Root, address: PciAddress, leases: &Path) -> Details {
    let folder = folder(address);
    let text = |name: &str| root.text_up_to(format!("{folder}/{name}"), 4096);
    let flag = |name: &str| text(name).map(|value| value == "1");
    let (bars, rom) = bars(root, &folder);
    let answers = answers(root, address);
    let header = header(root, address).filter(|_| answers == Some(true));
    Details {
        // Not `driver_override`: reading it waits for a driver that may never release the device, and not even SIGKILL
        // ends that.
        // -1 if the firmware does not say.
        numa_node: text("numa_node").and_then(|node| node.parse().ok()),
        boot_vga: flag("boot_vga"),
        header: header.and_then(|bytes| Some(bytes.get(0xe)? & 0x7f)),
        answers,
        resizable: bars.iter().filter_map(|bar| resizable(root, &folder, bar.index)).collect(),
        bars,
        rom,
        reset_methods: reset_methods(root, &folder),
        power_state: text("power_state"),
        power_control: text("power/control"),
        d3cold_allowed: flag("d3cold_allowed"),
        link: pcie_link(&text),
        modules: root.link(format!("{folder}/driver/module")).map(|name| stack(root, &name)).unwrap_or_default(),
        nodes: nodes::below(root, &folder),
        holders: Vec::new(),
        uses: Vec::new(),
        usb: usb::below(root, &folder),
        lease: lease::holder(&root.path(leases), address),
        left: lease::left_by(&root.path(leases), address),
    }
}

fn resizable(root: &Root, folder: &str, bar: usize) -> Option<Resizable> {
    let sizes = hex(&root.text_up_to(format!("{folder}/resource{bar}_resize"), 64)?)?;
    Some(Resizable { bar, sizes })
}

fn pcie_link(text: &dyn Fn(&str) -> Option<String>) -> Option<Link> {
    let width = |name: &str| text(name).and_then(|lanes| lanes.parse().ok()).filter(|lanes| (1..=32).contains(lanes));
    let speed = |name: &str| text(name).filter(|speed| speed.starts_with(|c: char| c.is_ascii_digit()));
    let link = Link {
        speed: speed("current_link_speed"),
        width: width("current_link_width"),
        max_speed: speed("max_link_speed"),
        max_width: width("max_link_width"),
    };
    (link.width.is_some() || link.max_width.is_some()).then_some(link)
}

/// The module and all modules that use it (`/sys/module/*/holders`), each before those that it uses.
fn stack(root: &Root, module: &str) -> Vec<String> {
    fn visit(root: &Root, module: &str, found: &mut Vec<String>, seen: &mut Vec<String>) {
        if seen.len() >= MAX_MODULES || seen.iter().any(|known| known == module) {
            return;
        }
        seen.push(module.to_owned());
        for holder in root.names(format!("/sys/module/{module}/holders")) {
            visit(root, &holder, found, seen);
        }
        found.push(module.to_owned());
    }
    let mut found = Vec::new();
    visit(root, module, &mut found, &mut Vec::new());
    found
}
