//! Disks, CD drives and SCSI devices: what the file leaves open is decided here, then each becomes its block nodes and its
//! device.

mod layers;
mod new_image;

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::change::Own;
use crate::host::{FileFact, FileKind};
use crate::machine::{Aio, Bus, Cache, Discard, Disk, Machine, Media};
use crate::plan::Severity::{Hard, Soft};
use crate::plan::command::boot_order;
use crate::plan::draft::{self, Draft, by_default, by_fact};
use crate::plan::process::account::{self, Use};
use crate::plan::{Access, ImageFormat, LateDisk, Opened, image_format};
use crate::qemu::command::QemuOption;
use crate::qemu::device::Device;
use crate::units::DiskFormat;

/// Ports of the q35's own AHCI controller.
const SATA_PORTS: u32 = 6;
/// Id of the controller that all virtio-scsi disks share.
const SCSI: &str = LateDisk::SCSI;

/// A disk with what follows from the machine file alone.
pub(in crate::plan) struct Resolved<'a> {
    disk: &'a Disk,
    index: usize,
    id: String,
    media: Media,
    bus: Bus,
    read_only: bool,
    /// Id of its I/O thread.
    iothread: Option<String>,
    /// Boot index, from 1.
    boot: Option<u32>,
}

/// Fills in what does not depend on host or QEMU.
pub(in crate::plan) fn resolve(machine: &Machine) -> Vec<Resolved<'_>> {
    let order = boot_order::choose(machine, &[]).disks;
    let disks = machine.disks.iter().enumerate().zip(order).map(|((index, disk), boot)| {
        let (id, media, bus) = (disk.id(index), disk.media(), disk.bus());
        let threaded = match bus {
            Bus::VirtioBlk | Bus::VirtioScsi => disk.iothread.unwrap_or(media != Media::Cd),
            Bus::Sata | Bus::Nvme => false,
        };
        // A SCSI controller has one I/O thread for all its disks.
        let iothread = threaded.then(|| format!("io-{}", if bus == Bus::VirtioScsi { SCSI } else { &id }));
        Resolved { disk, index, id, media, bus, read_only: disk.read_only(), iothread, boot }
    });
    disks.collect()
}

/// The ids of all I/O threads, each once, in order.
pub(in crate::plan) fn iothreads(disks: &[Resolved]) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for id in disks.iter().filter_map(|disk| disk.iothread.as_ref()) {
        if !ids.contains(id) {
            ids.push(id.clone());
        }
    }
    ids
}

/// Block nodes, I/O threads, controllers and devices.
pub(in crate::plan::command) fn write(draft: &mut Draft, disks: &[Resolved]) {
    for id in iothreads(disks) {
        draft.object("iothread", &id, [], by_default("requests are served beside QEMU's main thread"));
    }
    if disks.iter().any(|disk| disk.bus == Bus::VirtioScsi) {
        let mine = || disks.iter().filter(|disk| disk.bus == Bus::VirtioScsi);
        let iothread = mine().find_map(|disk| disk.iothread.clone());
        let queues = mine().filter_map(|disk| disk.disk.queues).max();
        let controller = Device::new("virtio-scsi-pci", SCSI).with_some("iothread", iothread);
        draft.pcie_device(
            controller.with_some("num_queues", queues),
            by_default("the controller of the virtio-scsi disks"),
        );
    }
    let (mut sata, mut scsi) = (0, 0);
    for disk in disks {
        let field = format!("disks[{}]", disk.index);
        let kind = disk.disk.file.as_deref().and_then(|file| blocks(draft, disk, file, &field));
        let device = device(disk, kind);
        let origin = draft.file(&field);
        match disk.bus {
            Bus::VirtioBlk | Bus::Nvme => draft.pcie_device(device, origin),
            Bus::VirtioScsi => {
                let place = device.on(format!("{SCSI}.0")).with("scsi-id", scsi);
                scsi += 1;
                draft.device(place, origin);
            }
            Bus::Sata => {
                if sata == SATA_PORTS {
                    let detail = format!("the q35 has {SATA_PORTS} SATA ports; {} is one too many", disk.id);
                    draft.no(&format!("{}.bus", disk.id), Hard, detail, "use `bus: VirtioScsi` for some");
                    draft.about(&field);
                    continue;
                }
                // The board's own AHCI controller gives its ports one bus each.
                draft.device(device.on(format!("ide.{sata}")), origin);
                sata += 1;
            }
        }
    }
}

/// The device that the guest sees. `kind` is what the file is, as far as it is known.
fn device(disk: &Resolved, kind: Option<FileKind>) -> Device {
    let drive = disk.disk.file.is_some().then(|| image_node(disk));
    let driver = match (disk.media, disk.bus) {
        // For any kind of device, by its generic node; the other one is for disks and CDs, by their block devices.
        (Media::Lun, _) if kind == Some(FileKind::Character) => "scsi-generic",
        (Media::Lun, _) => "scsi-block",
        (_, Bus::VirtioBlk) => "virtio-blk-pci",
        (_, Bus::Nvme) => "nvme",
        (Media::Disk, Bus::VirtioScsi) => "scsi-hd",
        (Media::Cd, Bus::VirtioScsi) => "scsi-cd",
        (Media::Disk, Bus::Sata) => "ide-hd",
        (Media::Cd, Bus::Sata) => "ide-cd",
    };
    // The nvme device must have a serial number.
    let serial = disk.disk.serial.clone().or_else(|| (disk.bus == Bus::Nvme).then(|| disk.id.clone()));
    let device = Device::new(driver, &disk.id).with_some("drive", drive).with_some("serial", serial);
    let device = device.with_some("bootindex", disk.boot);
    if disk.media != Media::Disk {
        return device;
    }
    let cached = !matches!(disk.disk.cache(), Cache::Writethrough | Cache::Directsync);
    let device = device.with("write-cache", if cached { "on" } else { "off" });
    let device = match disk.disk.sector {
        Some(sector) => {
            device.with("logical_block_size", sector.logical()).with("physical_block_size", sector.physical())
        }
        None => device,
    };
    match disk.bus {
        Bus::VirtioBlk => device.with_some("iothread", disk.iothread.clone()).with_some("num-queues", disk.disk.queues),
        // Shown as a solid-state disk, so that the guest discards what it frees instead of defragmenting.
        Bus::VirtioScsi | Bus::Sata if discards(disk) => device.with("rotation_rate", 1),
        _ => device,
    }
}

/// The two block nodes: how bytes are read, and what they mean. Named by position, since a node's name is at most 31
/// characters long and an id may be longer. Returns what the file is, as far as it is known.
fn blocks(draft: &mut Draft, disk: &Resolved, path: &Path, field: &str) -> Option<FileKind> {
    let key = disk.id.as_str();
    let at = |name: &str| format!("{field}.{name}");
    let (usage, access) = if disk.read_only { (Use::Read, Access::Read) } else { (Use::Write, Access::Write) };
    let what = if disk.media == Media::Lun { "the SCSI device" } else { "the image" };
    let new = disk.disk.create.and_then(|size| new_image::write(draft, key, field, disk.disk, path, size));
    let file = new.or_else(|| account::opened(draft, key, &at("file"), what, path, usage));
    let kind = file.as_ref().and_then(|file| file.kind);
    if let Some(file) = &file {
        check_file(draft, disk, path, file, &at("file"));
    }
    let cache = match kind {
        // The kernel opens a character device with O_DIRECT only if its driver knows it, which sg does not.
        Some(FileKind::Character) => Cache::Writeback,
        _ => effective_cache(draft, disk, path, file.as_ref(), &at("file")),
    };
    let direct = matches!(cache, Cache::None | Cache::Directsync);
    let aio = aio(draft, disk, direct, &at("aio"));
    let format = match disk.media {
        Media::Lun => DiskFormat::Raw,
        Media::Disk | Media::Cd => format(draft, disk, path, file.as_ref(), &at("format")),
    };
    let common = || {
        let mut node = Map::new();
        node.insert("read-only".to_owned(), disk.read_only.into());
        node.insert("discard".to_owned(), if discards(disk) { "unmap" } else { "ignore" }.into());
        node.insert("cache".to_owned(), json!({"direct": direct, "no-flush": cache == Cache::Unsafe}));
        node
    };
    let device = matches!(kind, Some(FileKind::Block | FileKind::Character)) || disk.media == Media::Lun;
    let driver = if device { "host_device" } else { "file" };
    let filename = if kind == Some(FileKind::Character) {
        own_node(draft, path, &at("file"))
    } else {
        draft.opened(Opened { path: path.to_owned(), access, direct }, draft.file(&at("file")))
    };
    let mut bytes = node(driver, &file_node(disk), common());
    bytes.insert("filename".to_owned(), filename.into());
    bytes.insert("aio".to_owned(), aio.into());
    let mut image = node(format.name(), &image_node(disk), common());
    image.insert("file".to_owned(), file_node(disk).into());
    if let Some(qcow2) = file.as_ref().filter(|_| format == DiskFormat::Qcow2).and_then(|file| file.qcow2.as_ref()) {
        let used = layers::Used { key, field: &at("file"), names: disk.index, direct, aio, read_only: disk.read_only };
        image.extend(layers::write(draft, &used, path, qcow2));
    }
    let mut bytes = QemuOption::json("-blockdev", bytes, draft.file(&at("file")));
    let given = [("cache", disk.disk.cache.is_some()), ("discard", disk.disk.discard.is_some())];
    for (member, _) in given.into_iter().filter(|(_, given)| *given) {
        bytes = bytes.explained(member, draft.file(&at(member)));
    }
    let why = "the best that QEMU and kernel allow";
    let bytes = bytes.explained("aio", draft.file_or(disk.disk.aio.is_some(), &at("aio"), why));
    draft.push(bytes);
    let seen = by_fact(format!("the image is {}", format.name()));
    let origin = if disk.disk.format.is_some() { draft.file(&at("format")) } else { seen };
    draft.push(QemuOption::json("-blockdev", image, origin));
    kind
}

/// A SCSI device's generic node: QEMU asks by the path whether it is one (`hdev_is_sg()` in QEMU's `block/file-posix.c`), so
/// it opens the node itself, which is its own for the run.
fn own_node(draft: &mut Draft, path: &Path, field: &str) -> String {
    if let Some(account) = draft.account.clone() {
        draft.change(Own { path: path.to_owned(), uid: account.uid, gid: account.gid }, draft.file(field));
    }
    draft::text(path)
}

fn node(driver: &str, name: &str, rest: Map<String, Value>) -> Map<String, Value> {
    let mut node = Map::new();
    node.insert("driver".to_owned(), driver.into());
    node.insert("node-name".to_owned(), name.into());
    node.extend(rest);
    node
}

fn file_node(disk: &Resolved) -> String {
    format!("disk{}-file", disk.index)
}

fn image_node(disk: &Resolved) -> String {
    format!("disk{}-image", disk.index)
}

fn discards(disk: &Resolved) -> bool {
    !disk.read_only && disk.media != Media::Lun && disk.disk.discard != Some(Discard::Ignore)
}

/// What must be so of the file for it to be this disk.
fn check_file(draft: &mut Draft, disk: &Resolved, path: &Path, file: &FileFact, field: &str) {
    let shown = path.display();
    if disk.media == Media::Lun {
        check_scsi(draft, disk, path, file, field);
    } else if !matches!(file.kind, Some(FileKind::File | FileKind::Block)) {
        let detail = format!("{shown} is neither a file nor a block device");
        let scsi = if file.scsi == Some(true) { ", or write `media: Lun` for this SCSI device" } else { "" };
        draft.no(&format!("{}.kind", disk.id), Hard, detail, &format!("name an image file or a block device{scsi}"));
        draft.about(field);
    }
    if !file.mounted.is_empty() {
        let detail = format!("the host uses {shown}: {}", file.mounted.join(", "));
        // Two systems that write to one file system destroy it.
        let remedy = match file.mounted.iter().any(|place| place == "/") {
            true => "this host itself runs from it: name another disk",
            false => "unmount it (`umount`, `swapoff`), or name another disk",
        };
        draft.no(&format!("{}.mounted", disk.id), Hard, detail, remedy);
        draft.about(field);
    }
}

/// Whether it is a SCSI device that can be given whole.
fn check_scsi(draft: &mut Draft, disk: &Resolved, path: &Path, file: &FileFact, field: &str) {
    let (key, shown) = (format!("{}.scsi", disk.id), path.display());
    let scsi = match file.kind {
        Some(FileKind::Block | FileKind::Character) => file.scsi,
        _ => Some(false),
    };
    match scsi {
        Some(true) => return draft.yes(&key, Hard, format!("{shown} is a SCSI device")),
        Some(false) => {
            let detail = format!("{shown} is no whole SCSI device, so it takes no commands of SCSI");
            let remedy =
                "name a disk such as /dev/disk/by-id/ata-… (no partition) or a node /dev/sg…, or write `media: Disk`";
            draft.no(&key, Hard, detail, remedy);
        }
        None => draft.unknown(&key, Hard, format!("vfio-run cannot tell whether {shown} takes commands of SCSI")),
    }
    draft.about(field);
}

/// The cache mode; without O_DIRECT if the file system refuses it.
fn effective_cache(draft: &mut Draft, disk: &Resolved, path: &Path, file: Option<&FileFact>, field: &str) -> Cache {
    let wanted = disk.disk.cache();
    let buffered = match wanted {
        Cache::None => Cache::Writeback,
        Cache::Directsync => Cache::Writethrough,
        other => return other,
    };
    let shown = path.display();
    let (why, remedy) = match (file, file.and_then(|file| odd(disk, file))) {
        (Some(FileFact { direct_io: Some(false), .. }), _) => {
            (format!("the file system of {shown} refuses O_DIRECT"), "move the image to another file system".to_owned())
        }
        (Some(file), Some(align)) => (
            format!("{shown} has {} bytes, no multiple of the {align} that O_DIRECT takes there", file.size),
            format!("make it longer while no guest uses it: `truncate -s %{align} {shown}`"),
        ),
        _ => return wanted,
    };
    let detail = format!("{why}, so the host caches the disk as well");
    draft.no(&format!("{}.direct", disk.id), Soft, detail, &format!("{remedy}, or write `cache: Writeback`"));
    draft.about(field);
    buffered
}

/// The size of requests past the host's cache, if a raw image is no multiple of it: QEMU does not write to such a one then
/// ("Image size is not a multiple of request alignment").
fn odd(disk: &Resolved, file: &FileFact) -> Option<u32> {
    // QEMU's own unit; it rounds up to it.
    const SECTOR: u64 = 512;
    let raw = disk.disk.format.or(file.format) == Some(DiskFormat::Raw);
    file.direct_align
        .filter(|align| raw && !disk.read_only && !file.size.next_multiple_of(SECTOR).is_multiple_of(u64::from(*align)))
}

fn aio(draft: &mut Draft, disk: &Resolved, direct: bool, field: &str) -> &'static str {
    let name = |aio| match aio {
        Aio::Threads => "threads",
        Aio::Native => "native",
        Aio::IoUring => "io_uring",
    };
    let refused = draft.host.refuses_io_uring;
    let has = |aio| draft.qemu.aio.contains(name(aio)) && !(aio == Aio::IoUring && refused);
    let best = if has(Aio::IoUring) {
        Aio::IoUring
    } else if has(Aio::Native) && direct {
        Aio::Native
    } else {
        Aio::Threads
    };
    let Some(asked) = disk.disk.aio else { return name(best) };
    let key = format!("{}.aio", disk.id);
    if asked == Aio::IoUring && refused {
        let detail = format!(
            "{field}: the host's kernel refuses io_uring to QEMU (kernel.io_uring_disabled, or a container's filter)"
        );
        draft.no(&key, Hard, detail, "leave `aio` out: vfio-run takes the best that works");
        draft.about(field);
    } else if !draft.qemu.aio.contains(name(asked)) {
        let detail = format!("{field}: this QEMU, or this kernel, has no {}", name(asked));
        draft.no(&key, Hard, detail, "leave `aio` out: vfio-run takes the best that works");
        draft.about(field);
    } else if asked == Aio::Native && !direct {
        let detail = format!("{field}: native needs O_DIRECT");
        draft.no(&key, Hard, detail, "write `cache: None`, or leave `aio` out");
        draft.about(field);
    }
    name(asked)
}

/// The image's format.
fn format(draft: &mut Draft, disk: &Resolved, path: &Path, file: Option<&FileFact>, field: &str) -> DiskFormat {
    if let Some(format) = disk.disk.format {
        return format;
    }
    let shown = path.display();
    let (format, detail, remedy) = match image_format(path, file) {
        ImageFormat::Is(format) => return format,
        ImageFormat::Other(other) => {
            // To a guest it would be an unused disk, which an installer overwrites.
            let detail = format!("{shown} is an image in QEMU's format `{other}`, which vfio-run does not use");
            let new = path.with_extension("qcow2");
            let remedy = format!(
                "`qemu-img convert -p -f {other} -O qcow2 {shown} {}` makes one that it uses; write `format: Raw` ({field}) if \
                 the guest is to see these very bytes",
                new.display()
            );
            (DiskFormat::Raw, detail, remedy)
        }
        ImageFormat::Unsure => {
            let detail = format!("{shown} has the header of a qcow2 image, but its name does not end in .qcow2");
            let remedy =
                format!("write `format: Qcow2` if you made it so ({field}), `format: Raw` if a guest may have done it");
            (DiskFormat::Qcow2, detail, remedy)
        }
    };
    draft.no(&format!("{}.format", disk.id), Hard, detail, &remedy);
    draft.about(&format!("disks[{}].file", disk.index));
    format
}

#[cfg(test)]
mod tests {
    use crate::plan::sample;

    #[test]
    fn a_kernel_that_refuses_io_uring_has_what_comes_next() {
        let planned = |aio: &str, refuses| {
            let mut host = sample::host(sample::Shape::simple(8, 2));
            host.refuses_io_uring = refuses;
            let text = format!(r#"(guest: Other, memory: (size: "1 GiB"), disks: [(file: "/a.raw"{aio})])"#);
            let plan = sample::plan(&text, &host);
            let line = plan.command.argv().join(" ");
            let refused = plan.findings.iter().find(|f| f.key == "disk0.aio").map(|f| f.detail.clone());
            let aio =
                ["io_uring", "native", "threads"].into_iter().find(|aio| line.contains(&format!("\"aio\":\"{aio}\"")));
            (aio.unwrap_or_default().to_owned(), refused)
        };
        assert_eq!(planned("", false), ("io_uring".to_owned(), None));
        assert_eq!(planned("", true), ("native".to_owned(), None));
        assert_eq!(planned(", cache: Writeback", true), ("threads".to_owned(), None));
        let words = "disks[0].aio: the host's kernel refuses io_uring to QEMU (kernel.io_uring_disabled, or a container's filter)";
        assert_eq!(planned(", aio: IoUring", true).1.as_deref(), Some(words));
    }
}
