//! The devices that are passed through to the guest: functions of one card on one root port, as they are on the card.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::host::pci::Link;
use crate::machine::Property;
use crate::plan::command::boot_order;
use crate::plan::command::devices::intel;
use crate::plan::devices::{Devices, Given};
use crate::plan::draft::Draft;
use crate::plan::process::whole_file;
use crate::qemu::device::Device;
use crate::units::PciAddress;

/// QEMU's words for the speed of a link, with those of the kernel.
const SPEEDS: [(&str, &str); 6] =
    [("2.5 ", "2_5"), ("5.0 ", "5"), ("8.0 ", "8"), ("16.0 ", "16"), ("32.0 ", "32"), ("64.0 ", "64")];
/// The widths that a root port of QEMU can have.
const WIDTHS: [u32; 6] = [1, 2, 4, 8, 16, 32];

/// Root ports and devices.
pub(in crate::plan::command) fn write(draft: &mut Draft, devices: &Devices) {
    let mut cards: Vec<Vec<Given>> = Vec::new();
    for given in &devices.given {
        let place = |g: &Given| (g.address().domain, g.address().bus, g.address().device);
        match cards.iter_mut().find(|card| place(&card[0]) == place(given)) {
            Some(card) => card.push(*given),
            None => cards.push(vec![*given]),
        }
    }
    let boots = boot_order::of_devices(draft, devices);
    let boots: BTreeMap<PciAddress, u32> = boots.into_iter().map(|(given, boot)| (given.address(), boot)).collect();
    for mut card in cards {
        card.sort_by_key(|given| given.address().function);
        write_card(draft, &card, &boots);
    }
}

fn write_card(draft: &mut Draft, card: &[Given], boots: &BTreeMap<PciAddress, u32>) {
    let first = card[0];
    let id = |given: &Given| {
        let PciAddress { domain, bus, device, function } = given.address();
        let domain = if domain == 0 { String::new() } else { format!("{domain:04x}-") };
        format!("pci-{domain}{bus:02x}-{device:02x}-{function:x}")
    };
    let slot = card.iter().find_map(|given| Some((given.entry.slot?, format!("{}.slot", given.field()))));
    let built_in = card.len() == 1 && slot.is_none() && intel::is_built_in(&first);
    let bus = if built_in {
        "pcie.0".to_owned()
    } else {
        let Some(port) = draft.port(&id(&first), slot.as_ref().map(|(slot, _)| *slot)) else { return };
        let bus = port.id.clone();
        let origin = draft.file(&slot.map_or_else(|| first.field(), |(_, field)| field));
        let port = with_link(draft, port, first.details.link.as_ref());
        draft.device(port, origin);
        bus
    };
    // A guest looks for function 0 first and gives up if there is none.
    let as_on_card = first.address().function == 0;
    for (number, given) in card.iter().enumerate() {
        let function = if as_on_card { usize::from(given.address().function) } else { number };
        let entry = given.entry;
        let mut device =
            Device::new("vfio-pci", id(given)).of_host().on(&bus).with("host", given.address().to_string());
        device = match built_in {
            true => intel::place(draft, device, given),
            false => device.with("addr", format!("0.{function:x}")),
        };
        if function == 0 && card.len() > 1 {
            device = device.with("multifunction", true);
        }
        if given.first {
            let rom = entry.rom.as_deref().map(|path| whole_file::path(draft, path));
            device = device.with_some("romfile", rom);
            device = device.with_some("x-vga", entry.x_vga.filter(|wanted| *wanted));
        }
        device = device.with_some("bootindex", boots.get(&given.address()).copied());
        for (name, value) in &entry.properties {
            let value = match value {
                Property::Switch(on) => Value::from(*on),
                Property::Number(number) => Value::from(*number),
                Property::Text(text) => Value::from(text.as_str()),
            };
            device = device.with(name, value);
        }
        let field = given.field();
        let raw = entry.properties.keys().map(|name| (name.clone(), format!("{field}.properties.{name}")));
        let mut parts: Vec<_> = raw.map(|(name, field)| (name, draft.raw(&field))).collect();
        let written = [
            ("romfile", given.first && entry.rom.is_some(), "rom"),
            ("x-vga", given.first && entry.x_vga == Some(true), "x_vga"),
            ("bootindex", entry.boot.is_some() && boots.contains_key(&given.address()), "boot"),
        ];
        for (property, _, name) in written.into_iter().filter(|(_, written, _)| *written) {
            parts.push((property.to_owned(), draft.file(&format!("{field}.{name}"))));
        }
        let origin = draft.file(&field);
        draft.device_explained(device, origin, parts);
    }
}

/// Gives the port the link that the card has, since drivers look at what their card could have.
fn with_link(draft: &Draft, port: Device, link: Option<&Link>) -> Device {
    let Some(link) = link else { return port };
    let known =
        |name: &str| draft.qemu.devices.get("pcie-root-port").is_some_and(|properties| properties.contains(name));
    let speed = link.max_speed.as_deref().and_then(|speed| {
        let known = SPEEDS.iter().find(|(kernel, _)| speed.starts_with(kernel))?;
        // 64 GT/s came to QEMU late, and no card has it yet.
        Some(if known.1 == "64" { "32" } else { known.1 })
    });
    let width = link.max_width.and_then(|lanes| WIDTHS.iter().rev().find(|width| **width <= lanes));
    let port = port.with_some("x-speed", speed.filter(|_| known("x-speed")));
    port.with_some("x-width", width.map(ToString::to_string).filter(|_| known("x-width")))
}
