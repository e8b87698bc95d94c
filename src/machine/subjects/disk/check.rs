//! What of disks no host could run: ids, and which settings go together.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::{Aio, Bus, Cache, Disk, Media, Sector};
use crate::machine::problems::{Problems, consists_of};
use crate::machine::subject::{Subject, absolute};
use crate::units::Size;

/// QEMU's block node names have at most 31 characters, and the plan appends to the id.
const MAX_ID: usize = 24;
/// What virtio, NVMe and ATA have room for.
const MAX_SERIAL: usize = 20;
/// Ports of the q35's AHCI controller.
const SATA_PORTS: usize = 6;
/// virtio's limit of 1024 queues, less the control and event queues of SCSI.
const MAX_QUEUES: u16 = 1022;
const MAX_DISKS: usize = 64;
const MIN_IMAGE: u64 = Size::MIB;
/// More than file systems have for one file, and few enough for the tables of a new qcow2 image.
const MAX_IMAGE: u64 = 64 << 40;
/// Linux addresses no disk in units larger than a page.
const MAX_LOGICAL: u32 = 4096;
const MAX_PHYSICAL: u32 = 65536;

impl Subject for Vec<Disk> {
    fn check(&self, problems: &mut Problems) {
        if self.len() > MAX_DISKS {
            problems
                .add(format!("disks[{MAX_DISKS}]"), format!("{} disks are too many", self.len()))
                .allowed(format!("at most {MAX_DISKS}"));
        }
        for (i, disk) in self.iter().enumerate() {
            alone(i, disk, problems);
        }
        together(self, problems);
    }

    fn paths(&mut self) -> Vec<(String, &mut PathBuf)> {
        let files = self.iter_mut().enumerate().filter_map(|(i, disk)| Some((i, disk.file.as_mut()?)));
        files.map(|(i, file)| (format!("disks[{i}].file"), file)).collect()
    }

    fn resolve(&mut self, folder: &Path) {
        for disk in self {
            let makes = disk.create.is_some();
            let Some(file) = &mut disk.file else { continue };
            let is_folder = makes && is_written_as_folder(file);
            absolute(file, folder);
            if is_folder {
                // The check refuses it, and tells it by its last slash.
                file.push("");
            }
        }
    }
}

/// What is wrong with one disk.
fn alone(i: usize, disk: &Disk, problems: &mut Problems) {
    let field = |name: &str| format!("disks[{i}].{name}");
    if let Some(id) = &disk.id
        && (id.len() > MAX_ID || !id.starts_with(|c: char| c.is_ascii_alphabetic()) || !consists_of(id, "-._"))
    {
        problems
            .add(field("id"), format!("{id:?} cannot be a disk's id"))
            .allowed(format!("a letter, then letters, digits, `-`, `.` and `_`, at most {MAX_ID} characters"));
    }
    let (media, bus, cache) = (disk.media(), disk.bus(), disk.cache());
    if disk.file.is_none() && media != Media::Cd {
        problems
            .add(format!("disks[{i}]"), format!("`disks[{i}]` has no `file`"))
            .help("add `file: \"disk.qcow2\"`, or write `media: Cd` for an empty CD drive");
    }
    if let Some(size) = disk.create {
        create(i, disk, size, problems);
    }
    if media == Media::Cd && matches!(bus, Bus::VirtioBlk | Bus::Nvme) {
        problems
            .add(field("bus"), format!("`bus: {bus:?}` has no CD drives"))
            .allowed("`Sata` or `VirtioScsi` for a CD")
            .help("to give the image to the guest as a disk, write `media: Disk`");
    }
    if media == Media::Cd && disk.read_only == Some(false) {
        problems
            .add(field("read_only"), "a CD cannot be written")
            .help("leave `read_only` out, or write `media: Disk`");
    }
    if media == Media::Lun {
        lun(i, disk, problems);
    }
    if let Some(sector) = &disk.sector {
        sectors(i, sector, media, bus, problems);
    }
    if let Some(queues) = disk.queues {
        if !matches!(bus, Bus::VirtioBlk | Bus::VirtioScsi) {
            problems
                .add(field("queues"), format!("`bus: {bus:?}` has no `queues`"))
                .allowed("`queues` belongs to `VirtioBlk` and `VirtioScsi`");
        } else if !(1..=MAX_QUEUES).contains(&queues) {
            problems.add(field("queues"), format!("`queues` cannot be {queues}")).allowed(format!("1 to {MAX_QUEUES}"));
        }
    }
    if disk.iothread == Some(true) && !matches!(bus, Bus::VirtioBlk | Bus::VirtioScsi) {
        problems
            .add(field("iothread"), format!("`bus: {bus:?}` cannot use an I/O thread"))
            .allowed("`iothread: true` with `VirtioBlk` or `VirtioScsi`");
    }
    if disk.aio == Some(Aio::Native) && !matches!(cache, Cache::None | Cache::Directsync) {
        problems
            .add(field("aio"), format!("`aio: Native` does not work with `cache: {cache:?}`"))
            .allowed("`cache: None` or `Directsync` with `Native`: Linux AIO needs O_DIRECT");
    }
    if let Some(serial) = &disk.serial
        && let Err(allowed) = Disk::check_serial(serial)
    {
        problems.add(field("serial"), format!("{serial:?} cannot be a serial number")).allowed(allowed);
    }
}

impl Disk {
    /// Whether a new image can have this size; if not, which it can have.
    ///
    /// # Errors
    /// If it cannot.
    pub fn check_create(size: Size) -> Result<(), &'static str> {
        match (MIN_IMAGE..=MAX_IMAGE).contains(&size.as_bytes()) && size.as_bytes().is_multiple_of(Size::MIB) {
            true => Ok(()),
            false => Err("a whole number of MiB from 1 MiB to 64 TiB"),
        }
    }

    /// Whether it can be a serial number; if not, what can.
    ///
    /// # Errors
    /// If it cannot.
    pub fn check_serial(serial: &str) -> Result<(), String> {
        let printable = serial.bytes().all(|b| (b' '..=b'~').contains(&b));
        match printable && (1..=MAX_SERIAL).contains(&serial.len()) {
            true => Ok(()),
            false => Err(format!("1 to {MAX_SERIAL} printable ASCII characters")),
        }
    }
}

/// What cannot be made.
fn create(i: usize, disk: &Disk, size: Size, problems: &mut Problems) {
    let field = format!("disks[{i}].create");
    let is = |what: &dyn Fn(&Path) -> bool| disk.file.as_ref().is_some_and(|file| what(file));
    let is_device = is(&|file| file.starts_with("/dev"));
    if disk.media.is_none() && disk.media() == Media::Cd {
        problems
            .add(field, "a file that ends in .iso is a CD, and `create` makes no CDs")
            .help("leave `create` out, or name a file that ends in .qcow2 or .raw");
    } else if is(&|file| is_written_as_folder(file) || file.file_name().is_none()) {
        problems
            .add(format!("disks[{i}].file"), "`create` makes a file, and this is the name of a folder")
            .help("name the file in it: `\"folder/disk.qcow2\"`");
    } else if disk.media() != Media::Disk || disk.read_only() {
        problems.add(field, "`create` makes an empty disk that the guest can write").help("leave `create` out");
    } else if is_device {
        problems.add(field, "`create` makes no block device").help("leave `create` out, or name an image file");
    } else if let Err(allowed) = Disk::check_create(size) {
        problems.add(field, format!("`create` cannot be {size}")).allowed(format!("{allowed}, such as \"128 GiB\""));
    }
}

/// What a SCSI device of the host cannot have, since the guest speaks to the device itself.
fn lun(i: usize, disk: &Disk, problems: &mut Problems) {
    if disk.bus() != Bus::VirtioScsi {
        problems
            .add(format!("disks[{i}].bus"), format!("`bus: {:?}` carries no commands of SCSI", disk.bus()))
            .allowed("`VirtioScsi` with `media: Lun`");
    }
    for (field, given) in [
        ("format", disk.format.is_some()),
        ("cache", disk.cache.is_some()),
        ("aio", disk.aio.is_some()),
        ("discard", disk.discard.is_some()),
        ("serial", disk.serial.is_some()),
        ("sector", disk.sector.is_some()),
    ] {
        if given {
            problems
                .add(
                    format!("disks[{i}].{field}"),
                    format!("`media: Lun` has no `{field}`: the guest speaks to the device itself"),
                )
                .help(format!("leave `{field}` out, or write `media: Disk`"));
        }
    }
}

/// What is wrong with the sizes of sectors.
fn sectors(i: usize, sector: &Sector, media: Media, bus: Bus, problems: &mut Problems) {
    let field = |name: &str| format!("disks[{i}].sector.{name}");
    let fits = |size: u32, most: u32| size.is_power_of_two() && (Sector::DEFAULT..=most).contains(&size);
    if media == Media::Cd {
        problems.add(format!("disks[{i}].sector"), "a CD's sectors have 2048 bytes").help("leave `sector` out");
        return;
    }
    let (logical, physical) = (sector.logical(), sector.physical());
    if !fits(logical, MAX_LOGICAL) {
        problems
            .add(field("logical"), format!("a logical sector cannot have {logical} bytes"))
            .allowed("512, 1024, 2048 or 4096");
    } else if bus == Bus::Sata && logical != Sector::DEFAULT {
        problems
            .add(field("logical"), format!("`bus: Sata` has no logical sectors of {logical} bytes"))
            .allowed("512; other sizes with `VirtioBlk`, `VirtioScsi` or `Nvme`");
    } else if sector.physical.is_some() && !fits(physical, MAX_PHYSICAL) {
        problems
            .add(field("physical"), format!("a physical sector cannot have {physical} bytes"))
            .allowed(format!("a power of two from 512 to {MAX_PHYSICAL}"));
    } else if physical < logical {
        problems
            .add(
                field("physical"),
                format!("a physical sector of {physical} bytes is smaller than a logical one of {logical}"),
            )
            .allowed("the logical size, or a multiple of it");
    }
}

fn is_written_as_folder(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(b"/")
}

/// The path without `..`, as it is meant if no link is on the way.
fn without_detours(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    plain
}

/// What disks of one machine must not share.
fn together(disks: &[Disk], problems: &mut Problems) {
    let mut ids: BTreeMap<String, usize> = BTreeMap::new();
    let mut boots: BTreeMap<u32, usize> = BTreeMap::new();
    let mut files: BTreeMap<PathBuf, usize> = BTreeMap::new();
    let mut scsi_queues = None;
    let mut sata = 0;
    for (i, disk) in disks.iter().enumerate() {
        let field = |name: &str| format!("disks[{i}].{name}");
        if let Some(first) = ids.insert(disk.id(i), i) {
            // A given id may meet the default of another position: point at the one that was written.
            let at = if disk.id.is_some() { i } else { first };
            let id = disk.id(i);
            problems
                .add(format!("disks[{at}].id"), format!("id {id:?} is given to `disks[{first}]` and `disks[{i}]`"))
                .allowed("each id once; without one a disk is `disk0`, `disk1`, … by position");
        }
        if let Some(boot) = disk.boot.filter(|boot| *boot != 0)
            && let Some(first) = boots.insert(boot, i)
        {
            problems
                .add(field("boot"), format!("`boot: {boot}` is already that of `disks[{first}]`"))
                .allowed("each boot number once; 0 for disks that are never booted");
        }
        if let Some(file) = &disk.file
            && let Some(first) = files.insert(without_detours(file), i)
            && !(disk.read_only() && disks[first].read_only())
            // Of files that are there, the host knows where `..` leads; of one that is to be made, nobody yet.
            && (disks[first].file.as_ref() == Some(file) || disk.create.or(disks[first].create).is_some())
        {
            problems
                .add(field("file"), format!("`disks[{first}]` is the same file"))
                .allowed("a file twice only if both are read only: two writers destroy it");
        }
        match disk.bus() {
            Bus::Sata => sata += 1,
            Bus::VirtioScsi => match (scsi_queues, disk.queues) {
                (Some((first, before)), Some(queues)) if queues != before => {
                    problems
                        .add(
                            field("queues"),
                            format!("`queues: {queues}` differs from the {before} of `disks[{first}]`"),
                        )
                        .allowed("one number for all `VirtioScsi` disks: they share a controller");
                }
                (None, Some(queues)) => scsi_queues = Some((i, queues)),
                _ => {}
            },
            _ => {}
        }
        if disk.bus() == Bus::Sata && sata == SATA_PORTS + 1 {
            problems
                .add(format!("disks[{i}]"), "this is the seventh SATA disk")
                .allowed(format!("{SATA_PORTS}, CDs included: the q35's controller has no more ports"))
                .help("put disks on `bus: VirtioBlk` and CDs on `bus: VirtioScsi`");
        }
    }
}
