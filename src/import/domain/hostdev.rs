//! Devices of the host: PCI functions, put together by card, and USB devices.

use std::collections::BTreeMap;

use crate::host::Root;
use crate::import::account::ALL;
use crate::import::context::Context;
use crate::import::xml::{Node, child, children};
use crate::machine::{PciDevice, Property, UsbDevice};
use crate::units::{PciAddress, PciIds, PciSlot, UsbIds, UsbPort};

/// What a USB device needs that is named by what changes with each plug.
pub const USB_BY_NUMBER: &str = "a USB device by bus and device number is another after each plug: write its id, which `lsusb` shows, into \
                                 `usb: [\"046d:c547\"]`";

/// A function that is passed through.
type Function = (PciAddress, PciDevice);

/// Reads all devices of the host. Returns the PCI function that each alias of libvirt's (`hostdev0`) names, as a place in `pci`.
pub fn read(cx: &mut Context, devices: Node) -> BTreeMap<String, PciAddress> {
    let mut functions: Vec<Function> = Vec::new();
    let mut aliases = BTreeMap::new();
    for (index, node) in children(devices, "hostdev").enumerate() {
        match (node.attribute("mode").unwrap_or("subsystem"), node.attribute("type")) {
            ("subsystem", Some("pci")) => {
                let Some(function) = pci(cx, node) else { continue };
                aliases.insert(format!("hostdev{index}"), function.0);
                if let Some(alias) = child(node, "alias").and_then(|alias| alias.attribute("name")) {
                    aliases.insert(alias.to_owned(), function.0);
                }
                if functions.iter().all(|other| other.0 != function.0) {
                    functions.push(function);
                }
            }
            ("subsystem", Some("usb")) => usb(cx, node),
            (_, kind) => {
                let words = match kind {
                    Some("mdev") => {
                        "mediated devices (vGPU, GVT-g) have no field: write `extra_args: [\"-device\", \"vfio-pci,sysfsdev=…\"]`"
                    }
                    Some("scsi") => "write the device's node: `disks: [(file: \"/dev/sg2\", media: Lun)]`",
                    _ => "only PCI and USB devices of the host can be given",
                };
                cx.needs(node, &[ALL], words);
            }
        }
    }
    cx.machine.pci.extend(functions.into_iter().map(|(_, device)| device));
    aliases
}

/// Whether a domain is of this host: every PCI function that it passes through is there.
pub fn is_of(domain: Node, root: &Root) -> bool {
    let Some(devices) = child(domain, "devices") else { return false };
    let given = children(devices, "hostdev").filter(|node| node.attribute("type") == Some("pci"));
    let mut addresses = given.map(|node| address(child(child(node, "source")?, "address")?)).peekable();
    addresses.peek().is_some() && addresses.all(|address| address.is_some_and(|address| has(root, address)))
}

/// Whether the host has the function. Almost every host has one where Intel's graphics are; so it must be graphics there.
fn has(root: &Root, address: PciAddress) -> bool {
    const GRAPHICS: PciAddress = PciAddress { domain: 0, bus: 0, device: 2, function: 0 };
    let class = root.text(format!("/sys/bus/pci/devices/{address}/class")).unwrap_or_default();
    ids(root, address).is_some() && (address != GRAPHICS || class.starts_with("0x03"))
}

/// What a function of the host is.
fn ids(root: &Root, address: PciAddress) -> Option<PciIds> {
    let part = |name: &str| {
        let text = root.text(format!("/sys/bus/pci/devices/{address}/{name}"))?;
        Some(text.trim().strip_prefix("0x")?.to_owned())
    };
    format!("{}:{}", part("vendor")?, part("device")?).parse().ok()
}

/// The address of a function as libvirt writes it: in hexadecimal with `0x`, or in decimal.
pub fn address(node: Node) -> Option<PciAddress> {
    let number = |name: &str| -> Option<u32> {
        let Some(text) = node.attribute(name) else { return (name == "domain" || name == "function").then_some(0) };
        match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
            Some(digits) => u32::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        }
    };
    let device = u8::try_from(number("slot")?).ok().filter(|device| *device < 32)?;
    let function = u8::try_from(number("function")?).ok().filter(|function| *function < 8)?;
    Some(PciAddress { domain: number("domain")?, bus: u8::try_from(number("bus")?).ok()?, device, function })
}

fn pci(cx: &mut Context, node: Node) -> Option<Function> {
    let source = child(node, "source")?;
    let written = child(source, "address")?;
    let address = address(written)?;
    cx.take(written, &[ALL]);
    cx.take(node, &["mode", "type"]);
    cx.done(node, &["managed"], "vfio-run takes the device from its driver, and gives it back");
    cx.done(source, &["writeFiltering"], "QEMU decides it");
    cx.left(source, &["startupPolicy"], "a device that is missing is told before the start");
    let mut device = PciDevice::at(address.into());
    device.expect = cx.own_host.and_then(|root| ids(root, address));
    if let Some(rom) = child(node, "rom") {
        let file = rom.attribute("file");
        device.rom = file.map(Into::into);
        cx.take(rom, &["file"]);
        match (rom.attribute("bar"), rom.attribute("enabled")) {
            (Some("off"), _) | (_, Some("no")) if file.is_some() => {
                cx.improved(
                    rom,
                    &["bar", "enabled"],
                    "a ROM file with the ROM BAR off was never used; it is now, as it seems meant",
                );
            }
            (Some("off"), _) | (_, Some("no")) => {
                device.properties.insert("rombar".to_owned(), Property::Number(0));
                cx.take(rom, &["bar", "enabled"]);
            }
            _ => cx.done(rom, &["bar", "enabled"], "the guest finds the card's ROM"),
        }
    }
    if let Some(driver) = child(node, "driver") {
        cx.done(driver, &[ALL], "VFIO is what passes a device through");
    }
    if let Some(boot) = child(node, "boot") {
        device.boot = boot.attribute("order").and_then(|order| order.parse().ok());
        cx.take(boot, &["order"]);
    }
    for below in children(node, "acpi").chain(children(node, "teaming")) {
        cx.left(below, &[ALL], "the guest finds its devices by itself");
    }
    cx.left(node, &["display", "ramfb"], "the card has a screen of its own");
    Some((address, device))
}

/// Puts the functions of one card into one entry, if this host knows that they are all that the card has. A processor with
/// graphics has USB controllers beside them in the same slot, which a domain may well leave to the host.
pub fn together(cx: &mut Context) {
    let all = std::mem::take(&mut cx.machine.pci);
    let functions = all.into_iter().filter_map(|device| Some((device.address.to_string().parse().ok()?, device)));
    let functions: Vec<Function> = functions.collect();
    let mut cards: Vec<Vec<Function>> = Vec::new();
    for function in functions {
        let same =
            |card: &&mut Vec<Function>| card.first().is_some_and(|first| first.0.of_device() == function.0.of_device());
        match cards.iter_mut().find(same) {
            Some(card) if card.iter().any(|known| known.0 == function.0) => {}
            Some(card) => card.push(function),
            None => cards.push(vec![function]),
        }
    }
    for mut card in cards {
        card.sort_by_key(|function| function.0);
        // What is said of one function must not hold for the others.
        let rom = &card[0].1.rom;
        let plain = |(_, device): &Function| {
            device.properties.is_empty() && device.x_vga != Some(true) && (device.rom.is_none() || device.rom == *rom)
        };
        let whole = card.len() > 1 && are_all(cx.own_host, &card) && card.iter().all(plain);
        let parsed = whole.then(|| {
            let PciAddress { domain, bus, device, .. } = card[0].0;
            format!("{domain:04x}:{bus:02x}:{device:02x}.*").parse::<PciSlot>().ok()
        });
        let Some(slot) = parsed.flatten() else {
            cx.machine.pci.extend(card.into_iter().map(|(_, device)| device));
            continue;
        };
        let mut functions = card.into_iter().map(|(_, device)| device);
        let Some(mut first) = functions.next() else { continue };
        first.address = slot;
        for other in functions {
            first.boot = first.boot.or(other.boot);
        }
        let field = format!("pci[{}]", cx.machine.pci.len());
        cx.comment(field, "All functions of the card, in one slot of the guest's as on the card.");
        cx.machine.pci.push(first);
    }
}

/// Whether these functions, in their order, are all of a card's.
fn are_all(root: Option<&Root>, card: &[Function]) -> bool {
    let Some(root) = root else { return false };
    let there = root.names("/sys/bus/pci/devices").into_iter().filter_map(|name| name.parse::<PciAddress>().ok());
    let mut there: Vec<PciAddress> = there.filter(|other| other.of_device() == card[0].0.of_device()).collect();
    there.sort();
    there.iter().eq(card.iter().map(|(address, _)| address))
}

fn usb(cx: &mut Context, node: Node) {
    let Some(source) = child(node, "source") else { return };
    let hex = |name: &str| {
        let text = child(source, name)?.attribute("id")?;
        u16::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
    };
    let ids = hex("vendor").zip(hex("product")).map(|(vendor, product)| UsbIds { vendor, product });
    let by_number = child(source, "address");
    let mut device = UsbDevice { id: ids, ..UsbDevice::default() };
    if let Some(number) = by_number {
        let port = port(cx, number);
        match (ids, port) {
            (Some(_), _) => cx.improved(number, &[ALL], "a device's number is another after each plug; its id stays"),
            (None, Some(port)) if number.has_attribute("port") => {
                device.port = Some(port);
                cx.take(number, &[ALL]);
            }
            (None, Some(port)) => {
                cx.improved(
                    number,
                    &[ALL],
                    format!("a device's number is another after each plug; this one is in port {port} now"),
                );
                device.port = Some(port);
            }
            (None, None) => {
                cx.take(node, &["mode", "type", "managed"]);
                return cx.needs(number, &[ALL], USB_BY_NUMBER);
            }
        }
    }
    if device.id.is_none() && device.port.is_none() {
        return;
    }
    for name in ["vendor", "product"] {
        child(source, name).into_iter().for_each(|part| cx.take(part, &["id"]));
    }
    if source.attribute("startupPolicy") == Some("mandatory") {
        device.optional = Some(false);
    }
    cx.take(source, &["startupPolicy"]);
    cx.left(source, &["guestReset"], "the guest may reset its device");
    cx.take(node, &["mode", "type"]);
    cx.done(node, &["managed"], "the guest is given the device, also when it is plugged in later");
    if let Some(boot) = child(node, "boot") {
        cx.left(boot, &[ALL], "USB devices have no place in the boot order");
    }
    let list = cx.machine.usb.get_or_insert_default();
    // libvirt takes two of one id only by their numbers.
    list.push(device);
}

/// The port of the device that has this number on this host.
fn port(cx: &Context, node: Node) -> Option<UsbPort> {
    let number = |name: &str| node.attribute(name)?.parse::<u32>().ok();
    let bus = number("bus")?;
    if let Some(port) = node.attribute("port") {
        return format!("{bus}-{port}").parse().ok();
    }
    let device = number("device")?;
    const DEVICES: &str = "/sys/bus/usb/devices";
    let root = cx.root?;
    root.names(DEVICES).into_iter().find_map(|name| {
        let port = name.parse().ok()?;
        let read = |file: &str| root.parse::<u32>(format!("{DEVICES}/{name}/{file}"));
        (read("busnum")? == bus && read("devnum")? == device).then_some(port)
    })
}
