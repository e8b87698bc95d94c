//! `sysinfo`: what the guest reads in its SMBIOS tables.

use crate::host::Root;
use crate::import::account::{ALL, TEXT, Verdict};
use crate::import::context::Context;
use crate::import::xml::{Node, child, children, text};
use crate::machine::{Smbios, SmbiosFields};

/// Reads `sysinfo`.
pub fn read(cx: &mut Context, root: Node) {
    let mode = child(root, "os").and_then(|os| child(os, "smbios")).and_then(|smbios| smbios.attribute("mode"));
    for info in children(root, "sysinfo") {
        match info.attribute("type") {
            Some("smbios") if mode == Some("sysinfo") => {
                cx.take(info, &["type"]);
                fields(cx, info);
            }
            Some("smbios") => {
                let words = "it had no effect without `<smbios mode='sysinfo'/>`, so the guest does not know these values; \
                             `smbios: Fields(…)` gives it some";
                cx.improved(info, &[ALL], words);
            }
            Some("fwcfg") => {
                cx.take(info, &["type"]);
                for entry in children(info, "entry") {
                    let (Some(name), value) = (entry.attribute("name"), text(entry)) else { continue };
                    let word = match entry.attribute("file") {
                        Some(file) => format!("name={name},file={file}"),
                        None => format!("name={name},string={value}"),
                    };
                    cx.machine.extra_args.extend(["-fw_cfg".to_owned(), word]);
                    cx.take(entry, &["name", "file", TEXT]);
                }
            }
            _ => {}
        }
    }
}

fn fields(cx: &mut Context, info: Node) {
    let mut fields = SmbiosFields::default();
    for part in info.children().filter(Node::is_element) {
        let structure = part.tag_name().name();
        for entry in children(part, "entry") {
            let value = text(entry).to_owned();
            if structure == "oemStrings" {
                fields.oem_strings.push(value);
                cx.take(entry, &[TEXT]);
                continue;
            }
            let name = entry.attribute("name").unwrap_or_default();
            if (structure, name) == ("system", "uuid") {
                let same = value.parse().ok() == cx.machine.uuid;
                if !same {
                    cx.improved(
                        entry,
                        &["name", TEXT],
                        "libvirt takes no other UUID than the domain's, which the guest sees",
                    );
                }
                cx.done(entry, &["name", TEXT], "the guest sees the machine's `uuid`");
            } else if set(&mut fields, structure, name, &value) {
                cx.take(entry, &["name", TEXT]);
            }
        }
    }
    if cx.root.is_some_and(|root| is_hosts(&fields, root)) {
        cx.machine.smbios = Smbios::Host;
        cx.account.remark(
            Verdict::Improved,
            "these SMBIOS values are this host's, as somebody copied them: the guest gets all of the host's own tables",
        );
    } else if fields != SmbiosFields::default() {
        cx.machine.smbios = Smbios::Fields(Box::new(fields));
    }
}

/// Whether maker and model of computer and board are this host's.
fn is_hosts(fields: &SmbiosFields, root: &Root) -> bool {
    let (system, board) = (&fields.system, &fields.board);
    let pairs = [
        (&system.manufacturer, "sys_vendor"),
        (&system.product, "product_name"),
        (&board.manufacturer, "board_vendor"),
        (&board.product, "board_name"),
    ];
    pairs.into_iter().all(|(value, file)| {
        let hosts = root.text(format!("/sys/class/dmi/id/{file}"));
        value.is_some() && value.as_deref().map(str::trim) == hosts.as_deref().map(str::trim)
    })
}

/// Sets a field by libvirt's or QEMU's name for the structure and its part; says whether there is one.
pub fn set(fields: &mut SmbiosFields, structure: &str, name: &str, value: &str) -> bool {
    let (bios, system, board) = (&mut fields.bios, &mut fields.system, &mut fields.board);
    let (chassis, processor, memory) = (&mut fields.chassis, &mut fields.processor, &mut fields.memory);
    let field = match (structure, name) {
        ("bios" | "0", "vendor") => &mut bios.vendor,
        ("bios" | "0", "version") => &mut bios.version,
        ("bios" | "0", "date") => &mut bios.date,
        ("bios" | "0", "release") => &mut bios.release,
        ("system" | "1", "manufacturer") => &mut system.manufacturer,
        ("system" | "1", "product") => &mut system.product,
        ("system" | "1", "version") => &mut system.version,
        ("system" | "1", "serial") => &mut system.serial,
        ("system" | "1", "sku") => &mut system.sku,
        ("system" | "1", "family") => &mut system.family,
        ("baseBoard" | "2", "manufacturer") => &mut board.manufacturer,
        ("baseBoard" | "2", "product") => &mut board.product,
        ("baseBoard" | "2", "version") => &mut board.version,
        ("baseBoard" | "2", "serial") => &mut board.serial,
        ("baseBoard" | "2", "asset") => &mut board.asset,
        ("baseBoard" | "2", "location") => &mut board.location,
        ("chassis" | "3", "manufacturer") => &mut chassis.manufacturer,
        ("chassis" | "3", "version") => &mut chassis.version,
        ("chassis" | "3", "serial") => &mut chassis.serial,
        ("chassis" | "3", "asset") => &mut chassis.asset,
        ("chassis" | "3", "sku") => &mut chassis.sku,
        ("processor" | "4", "sock_pfx") => &mut processor.socket_prefix,
        ("processor" | "4", "manufacturer") => &mut processor.manufacturer,
        ("processor" | "4", "version") => &mut processor.version,
        ("processor" | "4", "serial") => &mut processor.serial,
        ("processor" | "4", "asset") => &mut processor.asset,
        ("processor" | "4", "part") => &mut processor.part,
        ("17", "loc_pfx") => &mut memory.locator_prefix,
        ("17", "bank") => &mut memory.bank,
        ("17", "manufacturer") => &mut memory.manufacturer,
        ("17", "serial") => &mut memory.serial,
        ("17", "asset") => &mut memory.asset,
        ("17", "part") => &mut memory.part,
        _ => return speed(fields, structure, name, value),
    };
    *field = Some(value.to_owned());
    true
}

fn speed(fields: &mut SmbiosFields, structure: &str, name: &str, value: &str) -> bool {
    let Ok(value) = value.parse() else { return false };
    let field = match (structure, name) {
        ("4", "max-speed") => &mut fields.processor.max_speed,
        ("4", "current-speed") => &mut fields.processor.current_speed,
        ("17", "speed") => &mut fields.memory.speed,
        _ => return false,
    };
    *field = Some(value);
    true
}
