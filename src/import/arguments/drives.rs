//! Drives, and the devices that they are on.

use std::path::Path;

use super::option::Members;
use super::state::{Became, State};
use crate::import::context::Context;
use crate::machine::{Bus, Cache, Discard, Disk, Firmware, Media, Uefi};
use crate::units::DiskFormat;

/// `-drive`, `-hda`, `-cdrom`.
pub fn drive(cx: &mut Context, state: &mut State, option: &str, value: &str) -> Option<Became> {
    if option != "drive" {
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
    if kind == "pflash" {
        return flash(cx, &members);
    }
    let disk = of(&members)?;
    let bus = match kind {
        // The device that refers to it says it.
        "none" => {
            let id = members.get("id")?;
            return if state.used.contains(id) { Became::taken() } else { None };
        }
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
    let file = members.get("file").or(members.get("filename"));
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
        Some("raw") | None => {}
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

fn flash(cx: &mut Context, members: &Members) -> Option<Became> {
    let file = members.get("file")?;
    if matches!(cx.machine.firmware, Firmware::Auto | Firmware::Bios) {
        cx.machine.firmware = Firmware::Uefi(Uefi { secure_boot: Some(false), ..Uefi::default() });
    }
    let Firmware::Uefi(uefi) = &mut cx.machine.firmware else { return None };
    let second = members.get("unit") == Some("1") || uefi.code.is_some();
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
    let drive = state.named.get(id)?.clone();
    let mut disk = of(&drive)?;
    disk.bus = Some(bus);
    if cd {
        disk.media = Some(Media::Cd);
    }
    let serial = members.get("serial").filter(|serial| Disk::check_serial(serial).is_ok());
    disk.serial = serial.map(str::to_owned).or(disk.serial);
    let order = members.get("bootindex").and_then(|order| order.parse().ok());
    state.used.insert(id.to_owned());
    state.disks.push((disk, order));
    Became::taken()
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
    cx.machine.disks.extend(disks.into_iter().map(|(disk, _)| disk));
    let Firmware::Uefi(uefi) = &mut cx.machine.firmware else { return };
    // Half a pair is none.
    if uefi.code.is_none() != uefi.vars.is_none() {
        (uefi.code, uefi.vars) = (None, None);
    }
}
