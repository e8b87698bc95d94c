//! Drives, and the devices that they are on.

use std::collections::BTreeSet;
use std::path::Path;

use super::option::Members;
use super::state::{Became, Found, Kept, State, lost};
use crate::import::account::Verdict;
use crate::import::context::Context;
use crate::machine::{Bus, Cache, Discard, Disk, Firmware, Media, Sector, Uefi};
use crate::units::DiskFormat;

/// What a disk's device says that has a field, or has no meaning here: its place, and what QEMU has by default.
const OF_A_DISK: [&str; 31] = [
    "drive",
    "id",
    "bus",
    "addr",
    "unit",
    "lun",
    "scsi-id",
    "channel",
    "multifunction",
    "bootindex",
    "serial",
    "logical_block_size",
    "physical_block_size",
    "num-queues",
    "num_queues",
    "iothread",
    "rotation_rate",
    "write-cache",
    "discard_granularity",
    "scsi",
    "config-wce",
    "ioeventfd",
    "event_idx",
    "packed",
    "queue-size",
    "disable-legacy",
    "disable-modern",
    "model",
    "ver",
    "wwn",
    "share-rw",
];

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
        let place = match option {
            "hda" => 0,
            "hdb" => 1,
            "hdd" => 3,
            _ => 2,
        };
        if option == "cdrom" {
            disk.media = Some(Media::Cd);
        }
        state.disks.push(Found { disk, order: None, place: Some(place), kept: None });
        return Became::taken();
    }
    let members = Members::parse(value)?;
    let kind = members.get("if").unwrap_or("ide");
    // Older QEMUs took no notice of the interface if a device refers to the drive.
    if members.get("id").is_some_and(|id| state.used.contains(id)) {
        return taken(&members);
    }
    match kind {
        "pflash" => return flash(cx, members.get("file")?, members.get("unit") == Some("1")),
        "floppy" => return super::plain::floppy(),
        _ => {}
    }
    let disk = of(&members)?;
    let (bus, driver) = match kind {
        // A device that refers to it would have taken it.
        "none" => return None,
        "virtio" => (Bus::VirtioBlk, "virtio-blk-pci"),
        "scsi" => (Bus::VirtioScsi, "scsi-hd"),
        "ide" | "sata" if disk.media() == Media::Cd => (Bus::Sata, "ide-cd"),
        "ide" | "sata" => (Bus::Sata, "ide-hd"),
        _ => return None,
    };
    let order = members.get("bootindex").and_then(|order| order.parse().ok());
    let number = |key: &str| members.get(key).and_then(|number| number.parse::<u32>().ok());
    let place = number("index").or_else(|| Some(number("bus")? * 2 + number("unit").unwrap_or(0)));
    // QEMU gives those that name no place the next that is free.
    let next = state.disks.iter().filter_map(|found| found.place).max().map_or(0, |last| last.saturating_add(1));
    let place = (bus == Bus::Sata).then(|| place.unwrap_or(next));
    let kept = is_thrown_away(&members).then(|| {
        let id = members.get("id").map_or_else(|| format!("thrown{}", state.disks.len()), str::to_owned);
        kept(&format!("{driver},drive={id}"), &members, &id)
    });
    state.disks.push(Found { disk: Disk { bus: Some(bus), ..disk }, order, place, kept });
    taken(&members)
}

/// What is to know of a drive that was taken over.
fn taken(members: &Members) -> Option<Became> {
    if is_thrown_away(members) {
        let words = "no field says `snapshot=on`, so the disk is in `extra_args`, in its place in the boot order";
        return Became::done(words)?.also_taken();
    }
    if members.get("cache") == Some("unsafe") {
        return Became::improved(
            "`unsafe` takes no notice when the guest wants its data on the disk; O_DIRECT keeps the order",
        );
    }
    let has = |start: &str| members.rest().any(|(key, _)| key.starts_with(start));
    let left = [
        ("throttling", "disks have no limit of speed here"),
        ("bps", "disks have no limit of speed here"),
        ("iops", "disks have no limit of speed here"),
        ("copy-on-read", "blocks are written as the guest writes them"),
        ("detect-zeroes", "blocks are written as the guest writes them"),
        ("werror", "on a full disk the guest stands still, other errors go to the guest"),
        ("rerror", "errors go to the guest"),
        ("l2-cache", "QEMU's own sizes of its caches are taken"),
        ("cache-size", "QEMU's own sizes of its caches are taken"),
        ("refcount-cache", "QEMU's own sizes of its caches are taken"),
        ("cache-clean", "QEMU's own sizes of its caches are taken"),
    ];
    let words: Vec<String> = left
        .iter()
        .filter(|(start, _)| has(start))
        .map(|(start, why)| format!("without its `{start}…`: {why}"))
        .collect();
    Some(Became(Verdict::TakenOver, words.join("; ")))
}

/// A disk in QEMU's words: the device, and its drive under this id, without what the device says of its place.
fn kept(device: &str, drive: &Members, id: &str) -> Kept {
    let drive = drive.without(&["if", "index", "bus", "unit", "id", "bootindex", "addr"]);
    Kept { device: Members::parse(device).unwrap_or_default(), drive: format!("if=none,id={id},{drive}") }
}

/// Whether what the guest writes is thrown away.
fn is_thrown_away(members: &Members) -> bool {
    members.on("snapshot") == Some(true)
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
    if file.is_some_and(|file| !Path::new(file).is_absolute() && file.contains(':')) {
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
    let number = |key: &str| members.get(key).and_then(|number| number.parse().ok());
    let sector = Sector { logical: number("logical_block_size"), physical: number("physical_block_size") };
    disk.sector = Some(sector).filter(|sector| *sector != Sector::default());
    let queues = members.get("num-queues").or(members.get("num_queues")).and_then(|queues| queues.parse::<u16>().ok());
    disk.queues = queues.filter(|queues| bus == Bus::VirtioBlk && (1..=1022).contains(queues));
    let order = number("bootindex");
    let below = state.named.get(id).and_then(|node| node.get("file")).map(str::to_owned);
    state.used.extend([id.to_owned()].into_iter().chain(below));
    let place = members.get("bus").filter(|_| bus == Bus::Sata).and_then(|bus| bus.rsplit('.').next()?.parse().ok());
    let kept = is_thrown_away(&drive).then(|| {
        let device = members.without(&["bus", "addr", "unit", "bootindex"]);
        kept(&device, &drive, id)
    });
    let lost = if kept.is_some() { Vec::new() } else { lost(members, &OF_A_DISK) };
    state.disks.push(Found { disk, order, place, kept });
    Some(taken(&drive)?.without(&lost))
}

/// A drive, or the nodes that `-blockdev` puts one on another: a format on a file.
fn whole(state: &State, id: &str) -> Option<Members> {
    let top = state.named.get(id)?;
    let below = top.get("file").and_then(|file| state.named.get(file)).filter(|_| top.get("node-name").is_some());
    match below {
        Some(below) => Some(top.on_top_of(below)),
        None if top.get("node-name").is_some()
            && !matches!(top.driver(), Some("file" | "host_device" | "host_cdrom"))
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
    by_place(&mut disks);
    for (place, class) in (1_u32..).zip(&state.order) {
        let media = class.unwrap_or(Media::Lun);
        if let Some(first) = disks.iter_mut().find(|found| found.order.is_none() && found.disk.media() == media) {
            first.order = Some(place);
        }
    }
    // If nobody says it, QEMU boots from disks before CDs.
    let is_cd = |found: &Found| state.script && found.order.is_none() && found.disk.media() == Media::Cd;
    disks.sort_by_key(|found| (found.order.unwrap_or(u32::MAX), is_cd(found)));
    let kept = disks.iter().any(|found| found.kept.is_some());
    if kept && state.numbers.is_empty() && disks.iter().all(|found| found.order.is_none()) {
        (0..).zip(&mut disks).for_each(|(place, found)| found.order = Some(place));
    }
    let in_order = disks.iter().any(|found| found.kept.is_some() && found.order.is_some());
    if in_order || !state.numbers.is_empty() {
        // Beside devices that have numbers of their own each disk has one too, or none.
        let mut taken: BTreeSet<u32> = state.numbers.iter().copied().collect();
        for Found { disk, order, .. } in &mut disks {
            let first = order.map(|order| order.saturating_add(1));
            let free = first.and_then(|first| (first..).find(|number| !taken.contains(number)));
            taken.extend(free);
            disk.boot = Some(free.unwrap_or(0));
        }
    }
    for Found { disk, kept, .. } in disks {
        let Some(Kept { device, drive }) = kept else {
            cx.machine.disks.push(disk);
            continue;
        };
        let order = disk.boot.filter(|order| *order > 0).map(|order| format!(",bootindex={order}"));
        let device = format!("{}{}", device.without(&[]), order.unwrap_or_default());
        // As JSON, since QEMU then makes it after the disks that have a port of their own.
        let device = Members::parse(&device).unwrap_or_default().json();
        cx.machine.extra_args.extend(["-device".to_owned(), device, "-drive".to_owned(), drive]);
        cx.comment("extra_args", "No field says snapshot=on, so QEMU gets the disk as it was.");
    }
    let Firmware::Uefi(uefi) = &mut cx.machine.firmware else { return };
    // Half a pair is none.
    if uefi.code.is_none() != uefi.vars.is_none() {
        (uefi.code, uefi.vars) = (None, None);
    }
}

/// Disks on IDE or SATA come in the order of their places there, among the others where they were.
fn by_place(disks: &mut [Found]) {
    let slots: Vec<usize> = (0..disks.len()).filter(|index| disks[*index].place.is_some()).collect();
    let mut placed: Vec<Found> = slots.iter().map(|index| disks[*index].clone()).collect();
    placed.sort_by_key(|found| found.place);
    slots.into_iter().zip(placed).for_each(|(index, found)| disks[index] = found);
}
