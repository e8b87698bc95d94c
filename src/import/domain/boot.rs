//! Firmware, variable store, kernel, boot menu and boot order.

use std::path::PathBuf;

use crate::import::account::{ALL, TEXT};
use crate::import::context::Context;
use crate::import::xml::{Node, child, children, text};
use crate::machine::{Firmware, Kernel, Smbios, Uefi};

/// Seconds that the boot menu waits if the domain does not say it; QEMU's own default for SeaBIOS is some two and a half.
const MENU: u32 = 3;

/// Words in the names of builds that do Secure Boot.
const SECURE: [&str; 4] = ["secboot", "secure", "smm", ".ms."];

/// Reads `os`.
pub fn read(cx: &mut Context, root: Node) {
    let Some(os) = child(root, "os") else { return };
    firmware(cx, os);
    kernel(cx, os);
    if let Some(menu) = child(os, "bootmenu") {
        let wait = menu
            .attribute("timeout")
            .and_then(|ms| ms.parse::<u32>().ok())
            .map_or(MENU, |ms| ms.div_ceil(1000).clamp(1, 60));
        let enabled = menu.attribute("enable") == Some("yes");
        if enabled && sources(root) == 1 {
            cx.left(
                menu,
                &["enable", "timeout"],
                "there is one thing to boot from; `boot_menu: 3` shows the menu anyway",
            );
        } else {
            cx.machine.boot_menu = Some(wait).filter(|_| enabled);
            cx.take(menu, &["enable", "timeout"]);
        }
    }
    if let Some(bios) = child(os, "bios") {
        cx.left(bios, &[ALL], "SeaBIOS shows its messages on the screen, and does not restart by itself");
    }
    if let Some(smbios) = child(os, "smbios") {
        match smbios.attribute("mode") {
            Some("host") => {
                cx.machine.smbios = Smbios::Host;
                cx.take(smbios, &["mode"]);
            }
            Some("emulate") => cx.done(smbios, &["mode"], "the SMBIOS tables are QEMU's"),
            Some("sysinfo") => cx.take(smbios, &["mode"]),
            _ => {}
        }
    }
    for table in child(os, "acpi").iter().flat_map(|acpi| children(*acpi, "table")) {
        let path = text(table);
        if path.starts_with('/') {
            cx.machine.acpi_tables.0.push(path.into());
            cx.take(table, &["type", TEXT]);
        }
    }
}

/// How many things there are to boot from.
fn sources(root: Node) -> usize {
    let Some(devices) = child(root, "devices") else { return 0 };
    let given = children(devices, "hostdev").filter(|node| child(*node, "boot").is_some());
    children(devices, "disk").count() + given.count()
}

fn firmware(cx: &mut Context, os: Node) {
    let features = child(os, "firmware");
    let feature = |name: &str| {
        let features = features.iter().flat_map(|features| children(*features, "feature"));
        let on = features
            .filter(|feature| feature.attribute("name") == Some(name))
            .filter_map(|feature| feature.attribute("enabled"));
        on.map(|enabled| enabled == "yes").next()
    };
    let loader = child(os, "loader");
    let nvram = child(os, "nvram");
    let secure = feature("secure-boot").or_else(|| {
        let written = loader.and_then(|loader| loader.attribute("secure"));
        written.map(|secure| secure == "yes")
    });
    let path = loader.map(text).filter(|path| path.starts_with('/'));
    let uefi = os.attribute("firmware") == Some("efi") || path.is_some_and(|path| !is_seabios(path));
    cx.take(os, &["firmware"]);
    if !uefi {
        if cx.machine.kernel.is_none() {
            cx.machine.firmware = Firmware::Bios;
        }
        if let Some(loader) = loader {
            cx.done(loader, &[ALL], "SeaBIOS is QEMU's own");
        }
        return;
    }
    let mut uefi = Uefi { secure_boot: secure, enrolled_keys: feature("enrolled-keys"), ..Uefi::default() };
    // A store with Microsoft's keys that a build without Secure Boot uses says nothing.
    if uefi.secure_boot != Some(true) {
        uefi.enrolled_keys = None;
    }
    // A build for Secure Boot does not start without system management mode, whether it has keys or not.
    let built = path.is_some_and(|path| {
        let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
        SECURE.iter().any(|word| name.contains(word))
    });
    uefi.secure_boot = Some(built || secure == Some(true));
    if let Some(features) = features {
        cx.take(features, &[ALL]);
    }
    let store = nvram.and_then(store_path);
    if let Some(loader) = loader {
        cx.take(loader, &["secure", "readonly"]);
        if loader.attribute("readonly") == Some("no") {
            cx.improved(loader, &["readonly"], "no guest can write the firmware's code");
        }
        cx.done(loader, &["stateless"], "each machine has a variable store of its own");
        cx.done(loader, &["format"], "the format is read from the file");
        let rom = loader.attribute("type") == Some("rom");
        match (path, store) {
            (Some(code), Some(vars)) if !rom => {
                uefi.code = Some(code.into());
                uefi.vars = Some(vars);
                cx.take(loader, &["type", TEXT]);
            }
            _ if rom => {
                let words = "OVMF as a ROM has no variable store that lasts; the machine gets a build in flash with a store of its own";
                cx.improved(loader, &["type", TEXT], words);
            }
            _ => cx.done(loader, &["type", TEXT], "the build is chosen from the firmware descriptors of the host"),
        }
    }
    if let Some(nvram) = nvram {
        let words = if uefi.vars.is_some() {
            cx.comment("firmware", "The variable store so far: vfio-run copies it once, and leaves it as it is.");
            "vfio-run copies the variable store once, with its boot entries and keys, and leaves libvirt's as it is"
        } else {
            "the machine gets a variable store of its own; UEFI finds the disk's boot loader anew"
        };
        cx.done(nvram, &["template", "templateFormat", "format", "type"], "the store is copied once, and then kept");
        cx.taken(nvram, &[ALL], words);
    }
    cx.machine.firmware = Firmware::Uefi(uefi);
}

/// Whether a firmware is SeaBIOS, by the names that QEMU and distributions give its builds. No type says it: libvirt's default
/// is a ROM, and UEFI can be one too.
fn is_seabios(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.starts_with("bios") || path.contains("seabios")
}

/// The path of the variable store: as text, or as a source.
fn store_path(nvram: Node) -> Option<PathBuf> {
    let source = child(nvram, "source").and_then(|source| source.attribute("file").or(source.attribute("dev")));
    let path = Some(text(nvram)).filter(|path| !path.is_empty()).or(source)?;
    path.starts_with('/').then(|| path.into())
}

fn kernel(cx: &mut Context, os: Node) {
    let Some(image) = child(os, "kernel") else { return };
    let part = |name: &str| child(os, name).map(|node| (node, text(node)));
    let initrd = part("initrd");
    let cmdline = part("cmdline");
    cx.machine.kernel = Some(Kernel {
        image: text(image).into(),
        initrd: initrd.map(|(_, path)| path.into()),
        cmdline: cmdline.map(|(_, line)| line.to_owned()).unwrap_or_default(),
    });
    for node in [Some(image), initrd.map(|(node, _)| node), cmdline.map(|(node, _)| node)].into_iter().flatten() {
        cx.take(node, &[TEXT]);
    }
}

/// What `os` says of the boot order: `hd`, `cdrom`, `network`, `fd`.
pub fn order(cx: &mut Context, root: Node) -> Vec<String> {
    let Some(os) = child(root, "os") else { return Vec::new() };
    let mut order = Vec::new();
    for node in children(os, "boot") {
        match node.attribute("dev") {
            Some(dev @ ("hd" | "cdrom")) => {
                order.push(dev.to_owned());
                cx.take(node, &["dev"]);
            }
            Some("network") => cx.left(node, &["dev"], "no machine boots from the network here"),
            Some("fd") => cx.left(node, &["dev"], "q35 has no floppy drive"),
            _ => {}
        }
    }
    order
}
