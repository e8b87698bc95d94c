//! Memory, and the pages that back it.

use crate::host::Root;
use crate::import::account::{ALL, TEXT};
use crate::import::context::Context;
use crate::import::xml::{Node, child, children, text};
use crate::machine::{Numa, Pages};
use crate::units::Size;

/// The size that an element with a unit says; libvirt's default is KiB.
pub fn size(node: Node, default: &str) -> Option<Size> {
    scaled(text(node), node.attribute("unit").unwrap_or(default))
}

/// A number in one of libvirt's units: `KB` is 1000 bytes, `KiB` and `K` are 1024.
pub fn scaled(number: &str, unit: &str) -> Option<Size> {
    let number: u64 = number.trim().parse().ok()?;
    let (power, base) = match unit {
        "b" | "B" | "bytes" => (0, 1024),
        "KB" => (1, 1000),
        "k" | "K" | "KiB" => (1, 1024_u64),
        "MB" => (2, 1000),
        "m" | "M" | "MiB" => (2, 1024),
        "GB" => (3, 1000),
        "g" | "G" | "GiB" => (3, 1024),
        "TB" => (4, 1000),
        "t" | "T" | "TiB" => (4, 1024),
        _ => return None,
    };
    number.checked_mul(base.checked_pow(power)?).map(Size::bytes)
}

/// Reads the memory.
pub fn read(cx: &mut Context, root: Node) {
    let written = child(root, "memory").and_then(|node| Some((node, size(node, "KiB")?)));
    if let Some((node, written)) = written {
        cx.take(node, &["unit"]);
        cx.machine.memory.size = written;
        match node.attribute("dumpCore") {
            Some("on") => {
                cx.machine.memory.dump = true;
                cx.take(node, &["dumpCore"]);
            }
            _ => cx.done(node, &["dumpCore"], "a core dump of QEMU leaves the guest's memory out"),
        }
        backing(cx, root);
        round(cx, node, written);
    }
    let Some(current) = child(root, "currentMemory") else { return };
    match (size(current, "KiB"), written) {
        (Some(now), Some((_, all))) if now < all => {
            let words = "the guest has all of `memory` from the start: devices that are passed through pin all of it, so a balloon saves \
                         nothing";
            cx.improved(current, &[ALL], words);
        }
        (Some(_), Some(_)) => cx.done(current, &[ALL], "the guest has all of its memory from the start"),
        _ => {}
    }
}

/// Memory is whole pages; libvirt rounds up too.
fn round(cx: &mut Context, node: Node, written: Size) {
    let page = match cx.machine.memory.pages {
        Pages::Huge(page) => page.as_bytes(),
        _ => Size::MIB,
    };
    let rounded = written.as_bytes().div_ceil(page).saturating_mul(page);
    if rounded == written.as_bytes() {
        cx.take(node, &[TEXT]);
    } else {
        cx.machine.memory.size = Size::bytes(rounded);
        cx.improved(
            node,
            &[TEXT],
            format!("memory is whole pages of {}, so it is {}", Size::bytes(page), Size::bytes(rounded)),
        );
    }
}

fn backing(cx: &mut Context, root: Node) {
    let Some(backing) = child(root, "memoryBacking") else { return };
    if let Some(huge) = child(backing, "hugepages") {
        let page = child(huge, "page").and_then(|page| size_attribute(page)).or_else(|| usual_page(cx.own_host?));
        cx.machine.memory.pages = Pages::Huge(page.unwrap_or(Size::bytes(2 * Size::MIB)));
        cx.taken(huge, &[TEXT], "vfio-run reserves the huge pages for the run, so nothing else need do it");
        if let Some(page) = child(huge, "page") {
            cx.take(page, &["size", "unit"]);
            cx.done(page, &["nodeset"], "the guest has one NUMA node");
        }
    }
    if let Some(node) = child(backing, "nosharepages") {
        cx.machine.memory.merge = Some(false);
        cx.take(node, &[TEXT]);
    }
    let huge = matches!(cx.machine.memory.pages, Pages::Huge(_));
    if let Some(node) = child(backing, "locked") {
        cx.machine.memory.lock = true;
        cx.take(node, &[TEXT]);
    }
    if let Some(node) = child(backing, "access") {
        let shares = child(root, "devices").is_some_and(|devices| child(devices, "filesystem").is_some());
        match node.attribute("mode") {
            Some("shared") if shares || huge => cx.done(node, &["mode"], "shares and huge pages have shared memory"),
            Some("shared") => {
                cx.machine.memory.shared = Some(true);
                cx.take(node, &["mode"]);
            }
            Some("private") => cx.done(node, &["mode"], "memory is shared only if something needs it"),
            _ => {}
        }
    }
    if let Some(node) = child(backing, "source") {
        match node.attribute("type") {
            Some("file") => cx.left(node, &["type"], "memory comes from the kernel (memfd), not from a file"),
            _ => cx.done(node, &["type"], "memory comes from the kernel (memfd)"),
        }
    }
    if let Some(node) = child(backing, "allocation") {
        cx.done(node, &[ALL], "with huge pages and with devices all memory is there before the guest starts");
    }
    if let Some(node) = child(backing, "discard") {
        cx.done(node, &[TEXT], "memory is the kernel's again when QEMU ends");
    }
}

/// The size of huge pages that the host takes if nobody says one, as libvirt does.
fn usual_page(root: &Root) -> Option<Size> {
    let text = root.text_up_to("/proc/meminfo", 16 << 10)?;
    let written = text.lines().find_map(|line| line.strip_prefix("Hugepagesize:"))?;
    scaled(written.trim().strip_suffix("kB")?, "KiB")
}

fn size_attribute(node: Node) -> Option<Size> {
    scaled(node.attribute("size")?, node.attribute("unit").unwrap_or("KiB"))
}

/// Reads the host's NUMA nodes that memory comes from.
pub fn nodes(cx: &mut Context, root: Node) {
    let Some(tune) = child(root, "numatune") else { return };
    let Some(memory) = child(tune, "memory") else { return };
    match memory.attribute("nodeset").map(str::parse) {
        Some(Ok(_)) if cx.machine.memory.numa == Some(Numa::Guest) => {
            cx.done(memory, &["nodeset", "mode"], "memory comes from the nodes of the vCPUs' CPUs");
        }
        Some(Ok(nodes)) => {
            cx.machine.memory.nodes = Some(nodes);
            cx.take(memory, &["nodeset"]);
        }
        Some(Err(_)) => {}
        None => cx.done(memory, &["placement"], "memory comes from the nodes of the vCPUs' CPUs"),
    }
    match memory.attribute("mode") {
        Some("strict") | None => cx.take(memory, &["mode"]),
        Some(_) => cx.improved(
            memory,
            &["mode"],
            "memory comes from these nodes, or the start tells that they have too little",
        ),
    }
    cx.done(memory, &["placement"], "memory comes from the nodes that are named");
    for node in children(tune, "memnode") {
        cx.left(node, &[ALL], "the guest has one NUMA node");
    }
}
