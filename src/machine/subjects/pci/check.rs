//! What of passed-through PCI devices no host could run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{PciDevice, Rebar};
use crate::machine::named::Named;
use crate::machine::problems::{Problems, consists_of};
use crate::machine::subject::Subject;
use crate::units::Size;

/// More than a board has slots for.
const MAX_DEVICES: usize = 16;
/// Slots of the guest's root bus that neither the board nor a device of ours takes.
const FREE_SLOTS: std::ops::RangeInclusive<u8> = 26..=30;
/// The smallest size that a resizable range can have (PCI Express 6.0, 7.8.6).
const MIN_REBAR: u64 = Size::MIB;
/// Properties that follow from other fields.
const OURS: [(&str, &str); 8] = [
    ("driver", "`pci`"),
    ("id", "`pci`"),
    ("bus", "`slot`"),
    ("addr", "`slot`"),
    ("host", "`address`"),
    ("multifunction", "`address`"),
    ("romfile", "`rom`"),
    ("x-vga", "`x_vga`"),
];

impl Subject for Vec<PciDevice> {
    fn check(&self, problems: &mut Problems) {
        if self.len() > MAX_DEVICES {
            problems
                .add(format!("pci[{MAX_DEVICES}]"), format!("{} PCI devices are too many", self.len()))
                .allowed(format!("at most {MAX_DEVICES}"));
        }
        let mut slots = BTreeMap::new();
        for (i, device) in self.iter().enumerate() {
            let field = format!("pci[{i}]");
            if let Some(other) = self[..i].iter().find(|other| other.address.overlaps(device.address)) {
                problems
                    .add(&field, format!("`{}` is listed twice, as `{}` before", device.address, other.address))
                    .allowed("each function once");
            }
            one(device, &field, problems);
            if let Some(slot) = device.slot {
                let at = format!("{field}.slot");
                if !FREE_SLOTS.contains(&slot) {
                    problems.add(at, format!("`{field}.slot` cannot be {slot}")).allowed(format!(
                        "{} to {}: vfio-run and QEMU use the other slots",
                        FREE_SLOTS.start(),
                        FREE_SLOTS.end()
                    ));
                } else if let Some(other) = slots.insert(slot, i) {
                    problems.add(at, format!("`slot: {slot}` is that of `pci[{other}]` already"));
                }
            }
        }
        let mut vga = self.iter().enumerate().filter(|(_, device)| device.x_vga == Some(true));
        vga.next();
        if let Some((i, _)) = vga.next() {
            problems
                .add(format!("pci[{i}].x_vga"), "`x_vga: true` for a second device")
                .allowed("one: a PC has the addresses of one VGA card");
        }
    }

    fn paths(&mut self) -> Vec<(String, &mut PathBuf)> {
        let roms = self.iter_mut().enumerate().filter_map(|(i, device)| Some((i, device.rom.as_mut()?)));
        roms.map(|(i, rom)| (format!("pci[{i}].rom"), rom)).collect()
    }

    fn name(&self, named: &mut Named) {
        named.slots.extend(self.iter().map(|device| device.address));
        named.roms.extend(self.iter().filter_map(|device| device.rom.clone()));
    }
}

fn one(device: &PciDevice, field: &str, problems: &mut Problems) {
    if let Some(Rebar::Size(size)) = device.rebar
        && (size.as_bytes() < MIN_REBAR || !size.as_bytes().is_power_of_two())
    {
        problems
            .add(format!("{field}.rebar.Size"), format!("`rebar` cannot be {size}"))
            .allowed("a power of two from \"1 MiB\", or `Max`");
    }
    if let Some(method) = &device.reset_method
        && (method.is_empty() || method.len() > 32 || !consists_of(method, "_"))
    {
        problems
            .add(format!("{field}.reset_method"), format!("`reset_method` cannot be {method:?}"))
            .allowed("one word of the device's `reset_method` below /sys, such as \"flr\" or \"bus\"");
    }
    for name in device.properties.keys() {
        let at = format!("{field}.properties.{name}");
        if let Some((_, other)) = OURS.iter().find(|(ours, _)| ours == name) {
            problems
                .add(at, format!("the property `{name}` follows from {other}"))
                .help("leave it out of `properties`");
        } else if name == "bootindex" && device.boot.is_some() {
            problems.add(at, "`bootindex` follows from `boot`").help("leave it out of `properties`");
        } else if name.is_empty() || name.len() > 64 || !consists_of(name, "-_") {
            problems
                .add(at, format!("{name:?} is not the name of a property"))
                .allowed("a name from `qemu-system-x86_64 -device vfio-pci,help`");
        }
    }
}
