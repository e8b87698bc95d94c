//! Disks, CD drives, and SCSI devices of the host.

mod check;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::machine::explicit_none;
use crate::units::{DiskFormat, Size};

/// One disk, CD drive, or SCSI device of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// The image file or block device. Name a block device by `/dev/disk/by-id/…`, which stays the same. Left out with
    /// `media: Cd`, the CD drive is empty.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// The size of an image that is made at the first start if the file is not there: sparse, and raw or qcow2 by `format`,
    /// else by the file's name. A file that is there is left as it is, whatever its size.
    #[serde(default)]
    pub create: Option<Size>,
    /// QEMU's id for it, unique in the machine. Default: `disk0`, `disk1`, … by position.
    #[serde(default)]
    pub id: Option<String>,
    /// Disk, CD, or a SCSI device of the host. Default: `Cd` for a file that ends in `.iso`, else `Disk`.
    #[serde(default)]
    pub media: Option<Media>,
    /// The controller that the guest sees it on. Default: `VirtioBlk` for disks, `Sata` for CDs, `VirtioScsi` for `Lun`.
    #[serde(default)]
    pub bus: Option<Bus>,
    /// The number of request queues of a virtio disk, or of the SCSI controller, 1 to 1022. Default: QEMU's, one a vCPU.
    #[serde(default)]
    pub queues: Option<u16>,
    /// The image's format. Default: read from the file's header (qcow2 or raw); a block device is raw. A file that has the
    /// header of a qcow2 image and does not end in `.qcow2` is refused until you write its format here: a guest can write
    /// such a header into a raw image to make QEMU open other files of the host at the next start.
    #[serde(default)]
    pub format: Option<DiskFormat>,
    /// Host cache mode (QEMU: `cache=`). Default `None` (O_DIRECT) for disks, `Writeback` for CDs.
    #[serde(default, deserialize_with = "explicit_none::written", skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    /// How requests reach the host's kernel. Default: `IoUring` if QEMU and kernel allow it, else `Native` or `Threads`.
    #[serde(default)]
    pub aio: Option<Aio>,
    /// What happens to blocks that the guest discards. Default `Unmap`.
    #[serde(default)]
    pub discard: Option<Discard>,
    /// Whether an I/O thread of its own serves it. Default: yes for virtio disks, no for CDs and others.
    #[serde(default)]
    pub iothread: Option<bool>,
    /// Whether the guest cannot write to it. Default: yes for CDs, no for disks.
    #[serde(default)]
    pub read_only: Option<bool>,
    /// The serial number that the guest sees, at most 20 characters. Default: none; an NVMe disk has its id.
    #[serde(default)]
    pub serial: Option<String>,
    /// The sizes of the sectors that the guest sees: `sector: (logical: 4096)`. Default: 512 bytes.
    #[serde(default)]
    pub sector: Option<Sector>,
    /// Its place in the boot order, 1 first; 0 if it is never booted. Default: by position.
    #[serde(default)]
    pub boot: Option<u32>,
}

impl Disk {
    /// Disk or CD: as given, else by the file's ending.
    pub fn media(&self) -> Media {
        let ending = self.file.as_ref().and_then(|file| file.extension());
        let iso = ending.is_some_and(|ending| ending.eq_ignore_ascii_case("iso"));
        self.media.unwrap_or(if iso { Media::Cd } else { Media::Disk })
    }

    /// The controller: as given, else virtio for disks and SATA for CDs. SCSI devices are on a SCSI controller.
    pub fn bus(&self) -> Bus {
        self.bus.unwrap_or(match self.media() {
            Media::Disk => Bus::VirtioBlk,
            Media::Cd => Bus::Sata,
            Media::Lun => Bus::VirtioScsi,
        })
    }

    /// The cache mode: as given, else O_DIRECT for disks and the page cache for CDs.
    pub fn cache(&self) -> Cache {
        self.cache.unwrap_or(match self.media() {
            Media::Disk | Media::Lun => Cache::None,
            Media::Cd => Cache::Writeback,
        })
    }

    /// Whether the guest may not write: as given, else for CDs.
    pub fn read_only(&self) -> bool {
        self.read_only.unwrap_or(self.media() == Media::Cd)
    }

    /// QEMU's id for the disk at this position: as given, else `disk0`, `disk1`, …
    pub fn id(&self, position: usize) -> String {
        self.id.clone().unwrap_or_else(|| format!("disk{position}"))
    }
}

/// What kind of drive it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Media {
    /// A hard disk.
    Disk,
    /// A CD or DVD image, read only.
    Cd,
    /// A SCSI device of the host (a logical unit), to which the guest sends its commands itself: a tape drive or a burner by
    /// its node `/dev/sg…`, a whole disk by its block device. The kernel lets those commands through that it knows.
    Lun,
}

/// The sizes of a disk's sectors, in bytes: powers of two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sector {
    /// The unit in which the guest addresses the disk, 512 to 4096. SATA disks have 512, and SeaBIOS boots from no other.
    /// Default 512.
    #[serde(default)]
    pub logical: Option<u32>,
    /// The unit in which the disk is said to write, 512 to 65536 and not below `logical`: guests align to it. Default: as
    /// `logical`.
    #[serde(default)]
    pub physical: Option<u32>,
}

impl Sector {
    /// What QEMU has when nothing is said.
    pub const DEFAULT: u32 = 512;

    /// The logical size: as given, else 512.
    pub fn logical(&self) -> u32 {
        self.logical.unwrap_or(Self::DEFAULT)
    }

    /// The physical size: as given, else the logical one.
    pub fn physical(&self) -> u32 {
        self.physical.unwrap_or_else(|| self.logical())
    }
}

/// The controller that a disk is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Bus {
    /// `virtio-blk-pci`, the fastest.
    VirtioBlk,
    /// `scsi-hd` on a `virtio-scsi-pci` controller that all such disks share.
    VirtioScsi,
    /// `ide-hd` or `ide-cd` on the q35's own AHCI controller: six ports.
    Sata,
    /// `nvme`: Windows has a driver for it on its installation medium.
    Nvme,
}

/// Host cache mode, QEMU's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Cache {
    /// Past the host's page cache (O_DIRECT).
    None,
    /// Through the host's page cache; flushes are honoured.
    Writeback,
    /// As `Writeback`, each write flushed.
    Writethrough,
    /// Past the page cache, each write flushed.
    Directsync,
    /// Flushes are ignored: for scratch disks only.
    Unsafe,
}

/// How requests reach the host's kernel, QEMU's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Aio {
    /// A pool of threads.
    Threads,
    /// Linux native AIO; needs `cache: None` or `Directsync`.
    Native,
    /// io_uring.
    IoUring,
}

/// What happens to blocks that the guest discards, QEMU's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Discard {
    /// QEMU frees them in the image.
    Unmap,
    /// Nothing: the image keeps them.
    Ignore,
}
