//! Disks and CD drives, and the order in which the guest boots from them and from devices of the host.

use std::path::{Path, PathBuf};

use crate::import::account::{ALL, TEXT, Verdict};
use crate::import::context::Context;
use crate::import::xml::{Node, child, children, text};
use crate::machine::{Bus, Cache, Discard, Disk, Media, Sector};
use crate::units::DiskFormat;

/// A disk and what decides its place.
struct Found {
    disk: Disk,
    order: Option<u32>,
    comments: Vec<String>,
}

/// Reads all disks, in boot order.
pub fn read(cx: &mut Context, devices: Node, classes: &[String]) {
    let mut found: Vec<Found> = children(devices, "disk").filter_map(|node| one(cx, node, devices)).collect();
    if found.iter().all(|found| found.order.is_none()) {
        // `os` names classes: the first of each is meant.
        for (place, class) in (1..).zip(classes) {
            let media = if class == "cdrom" { Media::Cd } else { Media::Disk };
            let first = found
                .iter_mut()
                .find(|found| found.order.is_none() && (found.disk.media() == Media::Cd) == (media == Media::Cd));
            if let Some(first) = first {
                first.order = Some(place);
            }
        }
    }
    let of_hosts = cx.machine.pci.iter().any(|device| device.boot.is_some());
    // A device of the domain's `qemu:commandline` has a number of its own, which no disk may take.
    let of_words = devices.parent_element().is_some_and(|root| {
        let lines = children(root, "commandline").flat_map(|line| children(line, "arg"));
        lines.filter_map(|arg| arg.attribute("value")).any(|value| value.contains("bootindex"))
    });
    found.sort_by_key(|found| found.order.unwrap_or(u32::MAX));
    for (index, Found { mut disk, order, comments }) in found.into_iter().enumerate() {
        // By position, unless a device of the host is among them.
        disk.boot = if of_words { Some(order.unwrap_or(0)) } else { order.filter(|_| of_hosts) };
        comments.into_iter().for_each(|words| cx.comment(format!("disks[{index}]"), words));
        cx.machine.disks.push(disk);
    }
    for controller in children(devices, "controller").filter(|controller| controller.attribute("type") == Some("scsi"))
    {
        let queues = child(controller, "driver").and_then(|driver| driver.attribute("queues")?.parse::<u16>().ok());
        if let (Some(queues), Some(driver)) = (queues, child(controller, "driver")) {
            let mut disks = cx.machine.disks.iter_mut().filter(|disk| disk.bus == Some(Bus::VirtioScsi)).peekable();
            if disks.peek().is_some() {
                disks.for_each(|disk| disk.queues = Some(queues));
                cx.take(driver, &["queues"]);
            }
        }
    }
}

fn one(cx: &mut Context, node: Node, devices: Node) -> Option<Found> {
    let media = match node.attribute("device") {
        Some("cdrom") => Media::Cd,
        Some("lun") => Media::Lun,
        Some("disk") | None => Media::Disk,
        Some(_) => {
            cx.left(node, &[ALL], "q35 has no floppy drive");
            return None;
        }
    };
    let source = child(node, "source");
    let path =
        source.and_then(|source| source.attribute("file").or(source.attribute("dev")).or(source.attribute("dir")));
    let kind = node.attribute("type").unwrap_or("file");
    let is_empty_drive = media == Media::Cd && path.is_none() && kind != "network";
    if !is_empty_drive && !matches!(kind, "file" | "block") {
        let words = match kind {
            "volume" => {
                "name the volume's file or device: `virsh vol-path --pool POOL VOLUME`, then `disks: [(file: \"…\")]`"
            }
            _ => {
                "a disk is a file or a block device of the host: have the host attach it, and name it in `disks: [(file: \"…\")]`"
            }
        };
        cx.needs(node, &[ALL], words);
        return None;
    }
    if path.is_none() && media != Media::Cd {
        cx.needs(node, &[ALL], "this disk has no file; name it in `disks: [(file: \"…\")]`");
        return None;
    }
    cx.take(node, &["type", "device"]);
    cx.left(node, &["snapshot"], "it is for snapshots by libvirt");
    cx.done(node, &["model"], "virtio as QEMU has it");
    cx.left(
        node,
        &["rawio", "sgio"],
        "QEMU's account has no rights of its own; `media: Lun` hands SCSI commands through",
    );
    let mut found = Found { disk: Disk::default(), order: None, comments: Vec::new() };
    found.disk.media = Some(media);
    if let (Some(source), Some(path)) = (source, path) {
        found.disk.file = Some(file(cx, &mut found.comments, source, path, kind));
    }
    if let Some(source) = source {
        cx.left(source, &["index", "startupPolicy"], "a file that is missing is told before the start");
        if let Some(label) = child(source, "seclabel") {
            cx.done(label, &[ALL], "QEMU has a user id of its own and a sandbox (`vfio-run man security`)");
        }
    }
    bus(cx, node, devices, &mut found);
    driver(cx, node, &mut found);
    details(cx, node, &mut found);
    Some(found)
}

/// The kind of disk that a letter of QEMU's boot order means.
pub fn of_order(class: char) -> Option<Media> {
    match class {
        'c' => Some(Media::Disk),
        'd' => Some(Media::Cd),
        _ => None,
    }
}

fn file(cx: &mut Context, comments: &mut Vec<String>, source: Node, path: &str, kind: &str) -> PathBuf {
    let names = ["file", "dev", "dir"];
    if kind == "file" && path.starts_with("/dev/") {
        cx.improved(source, &names, "a block device is no file: vfio-run looks what it is");
    }
    let path = Path::new(path);
    let name = path.strip_prefix("/dev").ok().and_then(Path::to_str).unwrap_or_default();
    let moves = ["sd", "hd", "nvme"].iter().any(|start| name.starts_with(start)) && !name.contains('/');
    if !moves {
        cx.take(source, &names);
        return path.into();
    }
    match cx.link_in("/dev/disk/by-id", path) {
        Some(link) => {
            cx.improved(
                source,
                &names,
                "the disk's own name in place of one that may be another disk's after the next boot",
            );
            comments.push(format!("{} on this host.", path.display()));
            link
        }
        None => {
            let words = "another disk may have this name after the next boot: write its name in /dev/disk/by-id";
            cx.taken(source, &names, words);
            comments.push(
                "Another disk may have this name after the next boot; `ls -l /dev/disk/by-id` shows names that stay."
                    .to_owned(),
            );
            path.into()
        }
    }
}

fn bus(cx: &mut Context, node: Node, devices: Node, found: &mut Found) {
    let Some(target) = child(node, "target") else { return };
    cx.left(target, &["dev"], "a name that only libvirt knows");
    cx.left(target, &["tray", "removable"], "the drive is as it was made");
    cx.done(target, &["rotation_rate"], "a disk that takes discards says that it is no rotating one");
    let named = target.attribute("dev").unwrap_or_default();
    let guessed = match named {
        _ if named.starts_with("vd") => "virtio",
        _ if named.starts_with("hd") => "ide",
        _ => "sata",
    };
    let cd = found.disk.media == Some(Media::Cd);
    found.disk.bus = Some(match target.attribute("bus").unwrap_or(guessed) {
        "virtio" if !cd => Bus::VirtioBlk,
        "scsi" => {
            let models = children(devices, "controller")
                .filter(|c| c.attribute("type") == Some("scsi"))
                .filter_map(|c| c.attribute("model"));
            let other = models.into_iter().find(|model| !model.starts_with("virtio"));
            match other {
                Some(model) => {
                    let words = format!("there is no controller {model}; the disk is on SATA, which every guest knows");
                    cx.improved(target, &["bus"], words);
                    Bus::Sata
                }
                None => Bus::VirtioScsi,
            }
        }
        "sata" => Bus::Sata,
        "nvme" => Bus::Nvme,
        "ide" => {
            cx.improved(target, &["bus"], "q35 has no IDE; SATA is what a guest's own drivers know too. A Windows that started from IDE may want one start in safe mode (`vfio-run man identity`)");
            Bus::Sata
        }
        "usb" => {
            cx.improved(target, &["bus"], "disks are not on USB here; SATA is faster, and every guest knows it");
            Bus::Sata
        }
        _ => return,
    });
    cx.take(target, &["bus"]);
    let bus = found.disk.bus;
    if cx.is_windows() && bus == Some(Bus::Sata) && !cd {
        cx.account.remark(
            Verdict::TakenOver,
            "Windows has its disk on SATA, as it was installed. virtio or NVMe take less CPU time: `bus: Nvme` needs no driver, but one \
             start in safe mode",
        );
    }
}

fn driver(cx: &mut Context, node: Node, found: &mut Found) {
    let disk = &mut found.disk;
    let block =
        node.attribute("type") == Some("block") || disk.file.as_ref().is_some_and(|file| file.starts_with("/dev"));
    let cd = disk.media == Some(Media::Cd);
    let driver = child(node, "driver");
    let cache = driver.and_then(|driver| driver.attribute("cache")).unwrap_or("default");
    if !cd && disk.media != Some(Media::Lun) && cache == "default" {
        cx.account.remark(
            Verdict::Improved,
            "disks without `cache` went through the host's page cache, twice in memory; they pass it now (O_DIRECT), and use io_uring if \
             kernel and QEMU allow it",
        );
    }
    let Some(driver) = driver else { return };
    cx.done(driver, &["name"], "QEMU serves all disks");
    if let Some(kind) = driver.attribute("type") {
        let ends = disk.file.as_ref().is_some_and(|file| file.extension().is_some_and(|end| end == "qcow2"));
        match kind {
            "raw" => {
                disk.format = ends.then_some(DiskFormat::Raw);
                cx.take(driver, &["type"]);
            }
            "qcow2" => {
                // Only an image whose name does not say it must say so.
                disk.format = (!ends).then_some(DiskFormat::Qcow2);
                cx.take(driver, &["type"]);
            }
            other => cx.needs(
                driver,
                &["type"],
                format!("images are qcow2 or raw: `qemu-img convert -p -f {other} -O qcow2 OLD NEW.qcow2`, and name the new one"),
            ),
        }
    }
    let mut keep = |cx: &mut Context, cache: Cache| {
        found.disk.cache = Some(cache);
        cx.take(driver, &["cache"]);
    };
    match cache {
        "none" => keep(cx, Cache::None),
        "writeback" if block && !cd => {
            cx.improved(driver, &["cache"], "a whole disk through the host's page cache is twice in memory; O_DIRECT passes it");
        }
        "writeback" => keep(cx, Cache::Writeback),
        "writethrough" => keep(cx, Cache::Writethrough),
        "directsync" => keep(cx, Cache::Directsync),
        "unsafe" if cd => cx.done(driver, &["cache"], "a CD is only read"),
        "unsafe" => cx.improved(driver, &["cache"], "`unsafe` takes no notice when the guest wants its data on the disk, so a crash of the host can destroy it; O_DIRECT passes the page cache and keeps the order"),
        "default" => cx.done(driver, &["cache"], "O_DIRECT for disks, the page cache for CDs"),
        _ => {}
    }
    options(cx, driver, found);
}

fn options(cx: &mut Context, driver: Node, found: &mut Found) {
    match driver.attribute("io") {
        Some("io_uring" | "native") => cx.done(driver, &["io"], "io_uring if kernel and QEMU allow it, else Linux AIO"),
        Some("threads") => {
            cx.improved(driver, &["io"], "io_uring in place of a pool of threads, if kernel and QEMU allow it")
        }
        _ => {}
    }
    match driver.attribute("discard") {
        Some("unmap") => cx.done(driver, &["discard"], "blocks that the guest discards are freed"),
        Some("ignore") => {
            found.disk.discard = Some(Discard::Ignore);
            cx.take(driver, &["discard"]);
        }
        _ => {}
    }
    let virtio = matches!(found.disk.bus, Some(Bus::VirtioBlk | Bus::VirtioScsi));
    if let Some(queues) = driver.attribute("queues").and_then(|queues| queues.parse().ok()) {
        if virtio && (1..=1022).contains(&queues) {
            found.disk.queues = Some(queues);
            cx.take(driver, &["queues"]);
        } else {
            cx.left(driver, &["queues"], "only virtio disks have queues");
        }
    }
    cx.done(driver, &["iothread"], "each virtio disk has an I/O thread of its own");
    cx.left(driver, &["detect_zeroes", "copy_on_read"], "blocks are written as the guest writes them");
    let queues = ["ioeventfd", "event_idx", "packed", "page_per_vq", "iommu", "ats", "queue_size"];
    cx.done(driver, &queues, "virtio as QEMU has it");
    cx.done(driver, &["discard_no_unref"], "QEMU's own way of freeing blocks in an image");
    for name in ["metadata_cache", "iothreads", "statistics"] {
        children(driver, name).for_each(|below| cx.done(below, &[ALL], "QEMU's own sizes"));
    }
    cx.left(
        driver,
        &["error_policy", "rerror_policy"],
        "QEMU's own: on a full disk the guest stands still and `vfio-run status` says so, other errors go to the guest",
    );
}

fn details(cx: &mut Context, node: Node, found: &mut Found) {
    let cd = found.disk.media == Some(Media::Cd);
    if let Some(readonly) = child(node, "readonly") {
        if !cd {
            found.disk.read_only = Some(true);
        }
        cx.take(readonly, &[TEXT]);
    }
    if let Some(serial) = child(node, "serial") {
        let value = text(serial);
        match Disk::check_serial(value) {
            Ok(()) => {
                found.disk.serial = Some(value.to_owned());
                cx.take(serial, &[TEXT]);
            }
            Err(_) => {
                let cut: String = value.chars().filter(|c| (' '..='~').contains(c)).take(20).collect();
                found.disk.serial = Some(cut).filter(|cut| !cut.is_empty());
                cx.improved(
                    serial,
                    &[TEXT],
                    "a serial number has at most 20 characters, which is what the guest saw of it",
                );
            }
        }
    }
    if let Some(boot) = child(node, "boot") {
        found.order = boot.attribute("order").and_then(|order| order.parse().ok());
        if found.order.is_some() {
            cx.take(boot, &["order"]);
        }
        cx.left(boot, &["loadparm"], "only mainframes have it");
    }
    if let Some(block) = child(node, "blockio") {
        let number = |name: &str| block.attribute(name).and_then(|size| size.parse().ok());
        let sector = Sector { logical: number("logical_block_size"), physical: number("physical_block_size") };
        if sector != Sector::default() {
            found.disk.sector = Some(sector);
            cx.take(block, &["logical_block_size", "physical_block_size"]);
        }
        cx.left(block, &["discard_granularity"], "QEMU's own");
    }
    for (name, words) in [
        ("backingStore", "QEMU reads from the image what it is based on"),
        ("geometry", "disks have no geometry any more"),
        ("mirror", "a copy that was under way; nothing is copied here"),
        ("iotune", "disks have no limit of speed here"),
        ("throttlefilters", "disks have no limit of speed here"),
    ] {
        children(node, name).for_each(|below| cx.left(below, &[ALL], words));
    }
    for name in ["vendor", "product", "wwn"] {
        children(node, name).for_each(|below| cx.left(below, &[ALL], "the guest knows the disk by its serial number"));
    }
    for below in children(node, "transient") {
        let words = "what the guest writes is kept: for a guest that forgets it, name an image on top of this one, made anew by a hook of \
                     `before`: `qemu-img create -f qcow2 -b BASE -F qcow2 TOP`";
        cx.needs(below, &[ALL], words);
    }
    for below in children(node, "shareable") {
        cx.left(below, &[ALL], "one guest has the image at a time: QEMU's locks see to it");
    }
}
