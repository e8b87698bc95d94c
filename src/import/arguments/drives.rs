//! Drives, and the devices that they are on.

use std::collections::BTreeSet;
use std::path::Path;

use super::option::Members;
use super::state::{Became, State};
use crate::import::context::Context;
use crate::machine::{Bus, Cache, Discard, Disk, Firmware, Media, Uefi};
use crate::units::DiskFormat;

/// `-drive`, `-hda`, `-cdrom`.
pub fn drive(cx: &mut Context, state: &mut State, option: &str, value: &str) -> Option<Became> {
    if option == "pflash" {
        return flash(cx, value, false);
    }
    if option != "drive" {
        if value.contains(':') && !value.starts_with('/') {
            return None;
        }
        let mut disk = of_file(value);
        disk.bus = Some(Bus::Sata);
        if option == "cdrom" {
            disk.media = Some(Media::Cd);
        }
        state.disks.push((disk, None));
        return Became::taken();
    }
    let members = Members::parse(value)?;
    let kind = members.get("if").unwrap_or("ide");
    // Older QEMUs took no notice of the interface if a device refers to the drive.
    if members.get("id").is_some_and(|id| state.used.contains(id)) {
        return Became::taken();
    }
    match kind {
        "pflash" => return flash(cx, members.get("file")?, members.get("unit") == Some("1")),
        "floppy" => return Became::left("q35 has no floppy drive"),
        _ => {}
    }
    let disk = of(&members)?;
    let bus = match kind {
        // A device that refers to it would have taken it.
        "none" => return None,
        "virtio" => Bus::VirtioBlk,
        "scsi" => Bus::VirtioScsi,
        "ide" | "sata" => Bus::Sata,
        _ => return None,
    };
    let order = members.get("bootindex").and_then(|order| order.parse().ok());
    state.disks.push((Disk { bus: Some(bus), ..disk }, order));
    match members.get("cache") {
        Some("unsafe") => Became::improved(
            "`unsafe` takes no notice when the guest wants its data on the disk; O_DIRECT keeps the order",
        ),
        _ => Became::taken(),
    }
}

fn of_file(path: &str) -> Disk {
    let ends = path.ends_with(".qcow2");
    Disk {
        file: Some(path.into()),
        format: (!ends && path.contains("qcow")).then_some(DiskFormat::Qcow2),
        ..Disk::default()
    }
}

/// A drive's own members.
fn of(members: &Members) -> Option<Disk> {
    let file = members.get("file").or(members.get("filename")).or(members.get("file.filename"));
    let mut disk = file.map_or_else(Disk::default, of_file);
    let remote = file.is_some_and(|file| !Path::new(file).is_absolute() && file.contains(':'));
    // What the guest writes is thrown away then; no field says that, so QEMU gets the drive as it was.
    if remote || members.on("snapshot") == Some(true) {
        return None;
    }
    disk.media = Some(if members.get("media") == Some("cdrom") { Media::Cd } else { disk.media() });
    if disk.file.is_none() && disk.media != Some(Media::Cd) {
        return None;
    }
    match members.get("format").or(members.get("driver")) {
        Some("qcow2") => {
            disk.format = Some(DiskFormat::Qcow2).filter(|_| !file.is_some_and(|file| file.ends_with(".qcow2")))
        }
        Some("raw" | "file" | "host_device" | "host_cdrom") | None => {}
        Some(_) => return None,
    }
    disk.cache = match members.get("cache") {
        Some("writeback") => Some(Cache::Writeback),
        Some("writethrough") => Some(Cache::Writethrough),
        Some("directsync") => Some(Cache::Directsync),
        _ => None,
    };
    disk.discard = (members.get("discard") == Some("ignore")).then_some(Discard::Ignore);
    disk.read_only = members.on("readonly").or(members.on("read-only")).filter(|only| *only);
    disk.serial = members.get("serial").filter(|serial| Disk::check_serial(serial).is_ok()).map(str::to_owned);
    Some(disk)
}

/// An image of firmware, or of its variable store. `second`: it is said to be the store.
pub fn flash(cx: &mut Context, file: &str, second: bool) -> Option<Became> {
    if matches!(cx.machine.firmware, Firmware::Auto | Firmware::Bios) {
        cx.machine.firmware = Firmware::Uefi(Uefi { secure_boot: Some(false), ..Uefi::default() });
    }
    let Firmware::Uefi(uefi) = &mut cx.machine.firmware else { return None };
    let second = second || uefi.code.is_some();
    if !second {
        let name = file.to_ascii_lowercase();
        let built = ["secboot", "secure", "smm", ".ms."].iter().any(|word| name.contains(word));
        uefi.secure_boot = Some(built);
        uefi.code = Some(file.into());
        return Became::taken();
    }
    uefi.vars = Some(file.into());
    cx.comment("firmware", "The variable store so far: vfio-run copies it once, and leaves it as it is.");
    Became::taken()
}

/// `-device` of a disk.
pub fn device(state: &mut State, driver: &str, members: &Members) -> Option<Became> {
    let (bus, cd) = match driver {
        "virtio-blk-pci" | "virtio-blk" => (Bus::VirtioBlk, false),
        "scsi-hd" | "scsi-disk" => (Bus::VirtioScsi, false),
        "scsi-cd" => (Bus::VirtioScsi, true),
        "ide-hd" | "ide-drive" => (Bus::Sata, false),
        "ide-cd" => (Bus::Sata, true),
        "nvme" => (Bus::Nvme, false),
        _ => return None,
    };
    let id = members.get("drive")?;
    let drive = whole(state, id)?;
    let mut disk = of(&drive)?;
    disk.bus = Some(bus);
    if cd {
        disk.media = Some(Media::Cd);
    }
    let serial = members.get("serial").filter(|serial| Disk::check_serial(serial).is_ok());
    disk.serial = serial.map(str::to_owned).or(disk.serial);
    let order = members.get("bootindex").and_then(|order| order.parse().ok());
    let below = state.named.get(id).and_then(|node| node.get("file")).map(str::to_owned);
    state.used.extend([id.to_owned()].into_iter().chain(below));
    state.disks.push((disk, order));
    Became::taken()
}

/// A drive, or the nodes that `-blockdev` puts one on another: a format on a file.
fn whole(state: &State, id: &str) -> Option<Members> {
    let top = state.named.get(id)?;
    let below = top.get("file").and_then(|file| state.named.get(file)).filter(|_| top.get("node-name").is_some());
    match below {
        Some(below) => Some(top.on_top_of(below)),
        None if top.get("node-name").is_some()
            && top.driver() != Some("file")
            && top.get("file.filename").is_none() =>
        {
            None
        }
        None => Some(top.clone()),
    }
}

/// `-blockdev`: a node that a device refers to, or another node that one refers to.
pub fn node(state: &State, members: &Members) -> Option<Became> {
    state.used.contains(members.get("node-name")?).then(Became::taken).flatten()
}

/// The file that a node of `-blockdev` leads to.
pub fn file_of(state: &State, id: &str) -> Option<String> {
    let whole = whole(state, id)?;
    whole.get("filename").or(whole.get("file.filename")).map(str::to_owned)
}

/// Puts the disks into the machine, in boot order.
pub fn finish(cx: &mut Context, state: &mut State) {
    let mut disks = std::mem::take(&mut state.disks);
    for (place, class) in (1_u32..).zip(&state.order) {
        let media = class.unwrap_or(Media::Lun);
        if let Some(first) = disks.iter_mut().find(|(disk, order)| order.is_none() && disk.media() == media) {
            first.1 = Some(place);
        }
    }
    disks.sort_by_key(|(_, order)| order.unwrap_or(u32::MAX));
    if !state.numbers.is_empty() {
        // Beside devices that have numbers of their own each disk has one too, or none.
        let mut taken: BTreeSet<u32> = state.numbers.iter().copied().collect();
        for (disk, order) in &mut disks {
            let first = order.map(|order| order.saturating_add(1));
            let free = first.and_then(|first| (first..).find(|number| !taken.contains(number)));
            taken.extend(free);
            disk.boot = Some(free.unwrap_or(0));
        }
    }
    cx.machine.disks.extend(disks.into_iter().map(|(disk, _)| disk));
    let Firmware::Uefi(uefi) = &mut cx.machine.firmware else { return };
    // Half a pair is none.
    if uefi.code.is_none() != uefi.vars.is_none() {
        (uefi.code, uefi.vars) = (None, None);
    }
}
