//! The guests that run inside a lab host (L2), built from the sources in `guests/`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::compile::{Kind, compile};
use super::cpio::Archive;
use super::{modules, sources};
use crate::kit::cache::{Entry, Key};
use crate::kit::tools;

/// What the Linux guest can drive: a GPU, disks, USB devices, and its own end of the agent's channel. Each costs it a
/// second or so.
const MODULES: &[&str] = &[
    "button",
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "nvme",
    "xhci_pci",
    "usbhid",
    "hid_generic",
    "evdev",
    "usb_storage",
    "sd_mod",
    // ext4 asks for it by name, and nobody answers in an initramfs.
    "crc32c_generic",
    "ext4",
    "bochs",
];

/// What it loads only when its command line asks for vsock.
const VSOCK_MODULES: &[&str] = &["vmw_vsock_virtio_transport"];

/// What it loads only when its command line asks for shared folders.
const SHARE_MODULES: &[&str] = &["virtiofs", "9pnet_virtio", "9p"];

/// What it loads only when its command line asks for the network.
const NET_MODULES: &[&str] = &["virtio_net", "af_packet", "e1000e"];

/// Flags for a program that runs on the bare machine: 32 bits, no library, no relocation, at 1 MiB.
const FREESTANDING: &[&str] = &[
    "-m32",
    "-march=i686",
    "-O2",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-ffreestanding",
    "-fno-pic",
    "-fno-pie",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-nostdlib",
    "-static",
    "-no-pie",
    "-Wl,--section-start=.multiboot=0x100000,-Ttext=0x101000,-e,entry,--build-id=none",
];

/// Adds everything that the guests are made from to a key.
pub fn add_to(mut key: Key) -> Result<Key> {
    for name in ["tiny/entry.S", "tiny/tiny.c", "linux/init", "linux/vsock.c"] {
        key = key.with(read(name)?);
    }
    Ok(key.with(format!("{MODULES:?} {VSOCK_MODULES:?} {SHARE_MODULES:?} {NET_MODULES:?} {FREESTANDING:?}")))
}

/// Builds the tiny multiboot guest.
pub fn build_tiny(into: &Path) -> Result<()> {
    let folder = sources().join("guests/tiny");
    let mut args: Vec<std::ffi::OsString> = FREESTANDING.iter().map(Into::into).collect();
    args.extend(["-o".into(), into.into(), folder.join("entry.S").into(), folder.join("tiny.c").into()]);
    tools::run("gcc", args)?;
    Ok(())
}

/// Builds the initramfs of the Linux guest; its kernel is the release's own.
pub fn build_linux(system: &Entry, into: &Path) -> Result<()> {
    let mut archive = Archive::default();
    for path in ["proc", "sys", "dev", "run"] {
        archive.folder(path);
    }
    archive.file("init", 0o755, &read("linux/init")?);
    archive.file("bin/busybox", 0o755, &fs::read(system.file("busybox"))?);
    let program = into.with_extension("program");
    compile(Kind::Program, &sources().join("guests/linux/vsock.c"), &program)?;
    archive.file("bin/vsock", 0o755, &fs::read(&program)?);
    fs::remove_file(&program)?;
    let mut packed = BTreeSet::new();
    let lists = [
        ("order", MODULES),
        ("order-vsock", VSOCK_MODULES),
        ("order-share", SHARE_MODULES),
        ("order-net", NET_MODULES),
    ];
    for (list, wanted) in lists {
        let mut order = String::new();
        for module in modules::collect(&system.file("modules"), wanted)? {
            if packed.insert(module.name.clone()) {
                order.push_str(&module.name);
                order.push('\n');
                archive.file(&format!("modules/{}", module.name), 0o644, &module.contents);
            }
        }
        archive.file(&format!("modules/{list}"), 0o644, order.as_bytes());
    }
    fs::write(into, archive.finish())?;
    Ok(())
}

fn read(name: &str) -> Result<Vec<u8>> {
    let path = sources().join("guests").join(name);
    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}
