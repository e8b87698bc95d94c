//! The files that a machine names: do they exist, what are they, who may open them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{Read, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use rustix::fs::{Access, AtFlags, CWD, accessat};
use serde::{Deserialize, Serialize};

use super::qcow2::{self, Qcow2};
use super::variables::{self, Certificate};
use crate::host::Root;
use crate::host::block::{Mounts, capacity, disks_of_scsi_generic, is_scsi_disk, is_scsi_generic, mounted};
use crate::host::tpm_node::is_tpm;
use crate::trusted::{self, Foreign};
use crate::units::DiskFormat;

/// One file as it is on the host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FileFact {
    /// What it is; `None` if it does not exist.
    pub kind: Option<FileKind>,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Permission bits, `0o644`.
    pub mode: u32,
    /// Size in bytes; of a block device, its capacity.
    pub size: u64,
    /// Image format read from the header: qcow2 by its magic, else raw. `None` if it could not be read.
    pub format: Option<DiskFormat>,
    /// Of an image in a format that only QEMU's own tools convert: QEMU's name of it, `vmdk`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_format: Option<String>,
    /// Of a qcow2 image: what its header names beside itself. `None` if the header could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qcow2: Option<Qcow2>,
    /// Of a UEFI build's file: which part of one it begins with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Volume>,
    /// Of a UEFI variable store in plain bytes: which of Microsoft's certificates it trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<Vec<Certificate>>,
    /// Whether O_DIRECT works there (tmpfs before Linux 6.6 refuses it). `None` if it could not be tried.
    pub direct_io: Option<bool>,
    /// Of a regular file that O_DIRECT works on: of how many bytes QEMU makes its requests a multiple then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct_align: Option<u32>,
    /// Where a block device, or a partition of it, is mounted or used as swap.
    pub mounted: Vec<String>,
    /// Of a device node: whether it is a whole SCSI device, which takes the commands of SCSI. `None` for what is no device,
    /// and if it cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scsi: Option<bool>,
    /// Of a character device: whether it is a TPM. `None` if sysfs does not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm: Option<bool>,
    /// The folder on the way to the file that others may not enter (no `x` for others), with its owner's uid.
    pub closed_folder: Option<(PathBuf, u32)>,
    /// Of a regular file: why root itself cannot read it, as on an NFS server that keeps root out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    /// Why it cannot be written by whoever may: the file system is read-only, or the file immutable. If it does not exist:
    /// why it cannot be made in its folder, or in the nearest that there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unwritable: Option<String>,
    /// A link by which another user than root and the file's owner leads to it; if it does not exist, to its folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign: Option<ForeignLink>,
    /// What a file that is no larger than certificates and keys has in PEM's form (RFC 7468): `CERTIFICATE`, `PRIVATE KEY`.
    /// `None` if it is larger, or could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pem: Option<Vec<String>>,
    /// If it does not exist: the most similar name in its folder, if one is similar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub near: Option<PathBuf>,
    /// If it does not exist: whether its folder does not either.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_folder: bool,
    /// If it does not exist: how many bytes the file system of its folder has for new files of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<u64>,
    /// If it does not exist: how many bytes a file can have at most there, if the kind of the file system tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub largest: Option<u64>,
    /// If it does not exist and a link has its name: where that leads, as it is written there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dangling: Option<PathBuf>,
}

/// What a volume of a UEFI build holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Volume {
    /// UEFI variables.
    Variables,
    /// Anything else: code.
    Code,
}

/// A link that another user made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignLink {
    /// The link; of a hard link, the file.
    pub link: PathBuf,
    /// User id of whose it is.
    pub by: u32,
    /// User id of whose file it leads to.
    pub to: u32,
}

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A block device.
    Block,
    /// A character device.
    Character,
    /// A folder.
    Folder,
    /// A socket or anything else that is no image.
    Other,
}

/// More names than these are not compared with that of a missing file.
const MAX_NAMES: usize = 4096;
/// File systems in which nobody makes a file, by their number (statfs(2)).
const OF_KERNEL: [(i64, &str); 4] = [
    (libc::PROC_SUPER_MAGIC, "proc"),
    (0x6265_6572, "sysfs"),
    (libc::CGROUP2_SUPER_MAGIC, "cgroup2"),
    (libc::DEBUGFS_MAGIC, "debugfs"),
];
/// Longer than a chain of certificates is.
const MAX_PEM: u64 = 64 << 10;
/// More parts than these are not named.
const MAX_LABELS: usize = 8;
/// More files than these are not looked for because an image names them. It may name itself.
const MAX_NAMED: usize = 64;

/// Looks at each file, and at those that images are based on or have their data in. Paths are absolute.
pub(in crate::host) fn read(root: &Root, paths: &[PathBuf]) -> BTreeMap<PathBuf, FileFact> {
    let mut mounts = None;
    let mut files: BTreeMap<_, _> =
        paths.iter().map(|path| (path.clone(), read_one(root, path, &mut mounts))).collect();
    let named = |fact: &FileFact| {
        let Qcow2 { backing, data_file } = fact.qcow2.clone().unwrap_or_default();
        let names = backing.map(|backing| backing.file).into_iter().chain(data_file);
        names.filter_map(|name| Some(name.path()?.to_owned())).collect::<Vec<_>>()
    };
    let mut next: Vec<PathBuf> = files.values().flat_map(named).collect();
    for _ in 0..MAX_NAMED {
        let Some(path) = next.pop() else { break };
        if let Entry::Vacant(new) = files.entry(path) {
            let fact = read_one(root, new.key(), &mut mounts);
            next.extend(named(&fact));
            new.insert(fact);
        }
    }
    files
}

/// Looks at one file; `mounts` is read when the first block device needs it.
fn read_one(root: &Root, path: &Path, mounts: &mut Option<Mounts>) -> FileFact {
    let full = root.path(path);
    let closed_folder = closed_folder(root, path, &full);
    let Ok(data) = std::fs::metadata(&full) else {
        let fact = FileFact {
            closed_folder,
            near: near(&full).map(|name| path.with_file_name(name)),
            dangling: std::fs::read_link(&full).ok(),
            ..FileFact::default()
        };
        return missing(root, &full, fact);
    };
    let kind = kind(&data);
    let mut fact = FileFact {
        kind: Some(kind),
        uid: data.uid(),
        gid: data.gid(),
        mode: data.mode() & 0o7777,
        size: data.size(),
        closed_folder,
        foreign: foreign(root, &full),
        ..FileFact::default()
    };
    match kind {
        FileKind::File => {
            if nix::unistd::geteuid().is_root() && root.is_real() {
                (fact.unreadable, fact.unwritable) =
                    (refused(&full, Access::READ_OK), refused(&full, Access::WRITE_OK));
            }
            fact.format = image_format(&full);
            if fact.format == Some(DiskFormat::Qcow2) {
                fact.qcow2 = qcow2::read(path, &full);
            }
            fact.volume = volume(&full);
            if fact.volume == Some(Volume::Variables) {
                fact.certificates = variables::certificates(&full);
            }
            fact.other_format = other_format(&full).map(str::to_owned);
            fact.pem = Some(fact.size).filter(|size| *size <= MAX_PEM).and_then(|_| pem_labels(&full));
        }
        FileKind::Block => {
            let device = (nix::sys::stat::major(data.rdev()), nix::sys::stat::minor(data.rdev()));
            fact.size = capacity(root, device).unwrap_or(0);
            // The guest writes the beginning of its disk, so what is found there proves nothing.
            fact.format = Some(DiskFormat::Raw);
            fact.mounted = mounted(root, device, mounts.get_or_insert_with(|| Mounts::read(root)));
            fact.scsi = is_scsi_disk(root, device);
        }
        // Opening a character device can do things: a watchdog starts, a tape rewinds.
        FileKind::Character => {
            let device = (nix::sys::stat::major(data.rdev()), nix::sys::stat::minor(data.rdev()));
            fact.scsi = Some(is_scsi_generic(device));
            fact.tpm = is_tpm(root, device);
            for disk in disks_of_scsi_generic(root, device) {
                fact.mounted.extend(mounted(root, disk, mounts.get_or_insert_with(|| Mounts::read(root))));
            }
            return fact;
        }
        FileKind::Folder | FileKind::Other => return fact,
    }
    let (works, opened) = direct_io(&full);
    fact.direct_io = works;
    fact.direct_align = opened.filter(|_| kind == FileKind::File).map(|file| direct_align(&file));
    fact
}

/// What a file would be that is made at this path: an image, if the machine file says so.
fn missing(root: &Root, full: &Path, fact: FileFact) -> FileFact {
    let needed = Access::WRITE_OK | Access::EXEC_OK;
    let Some(folder) = full.parent().filter(|folder| folder.is_dir()) else {
        let nearest = full.ancestors().find(|folder| folder.is_dir()).filter(|_| root.is_real());
        return FileFact { no_folder: true, unwritable: nearest.and_then(|folder| makes_none(folder, needed)), ..fact };
    };
    if !root.is_real() {
        return fact;
    }
    let room = statvfs(folder).ok().map(|free| free.blocks_available() * free.fragment_size());
    let unwritable = makes_none(folder, needed);
    // A file without a name, which is gone when it is closed.
    let with = |flags: i32| OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE | flags).open(folder);
    let direct_io = match with(libc::O_DIRECT) {
        Ok(_) => Some(true),
        Err(_) => with(0).is_ok().then_some(false),
    };
    FileFact { room, unwritable, direct_io, largest: largest(folder), foreign: foreign(root, folder), ..fact }
}

/// Why nothing can be made in a folder: this process may not, or the file system has no files but the kernel's, which root's
/// rights do not show.
fn makes_none(folder: &Path, access: Access) -> Option<String> {
    let kind = rustix::fs::statfs(folder).ok()?.f_type;
    match OF_KERNEL.iter().find(|(magic, _)| *magic == kind) {
        Some((_, name)) => Some(format!("a file system of the kind {name} holds no files but the kernel's")),
        None => refused(folder, access),
    }
}

/// How many bytes a file can have in this folder; `None` if the file system is of another kind than those whose limit is
/// plain. ext4 numbers a file's blocks with 32 bits (`ext4_max_size()` in `fs/ext4/super.c`), FAT its bytes.
fn largest(folder: &Path) -> Option<u64> {
    let system = rustix::fs::statfs(folder).ok()?;
    match system.f_type {
        libc::EXT4_SUPER_MAGIC => Some(u64::from(u32::MAX) * u64::try_from(system.f_bsize).ok()?),
        libc::MSDOS_SUPER_MAGIC => Some(u64::from(u32::MAX)),
        _ => None,
    }
}

/// The name in the folder of a missing file that its own was probably meant to be.
fn near(path: &Path) -> Option<std::ffi::OsString> {
    let wanted = path.file_name()?.to_string_lossy();
    let names =
        std::fs::read_dir(path.parent()?).ok()?.take(MAX_NAMES).filter_map(|entry| Some(entry.ok()?.file_name()));
    names
        .map(|name| (strsim::damerau_levenshtein(&name.to_string_lossy(), &wanted), name))
        .filter(|(distance, _)| *distance * 3 <= wanted.chars().count())
        .min()
        .map(|(_, name)| name)
}

/// A link of somebody else's on the way to it. In a captured root owners are not the host's.
fn foreign(root: &Root, full: &Path) -> Option<ForeignLink> {
    let Foreign { link, by, to } = trusted::find(full).ok()?.foreign.filter(|_| root.is_real())?;
    Some(ForeignLink { link, by, to })
}

/// What the metadata says that it is.
fn kind(data: &Metadata) -> FileKind {
    let kind = data.file_type();
    match () {
        () if kind.is_file() => FileKind::File,
        () if kind.is_block_device() => FileKind::Block,
        () if kind.is_char_device() => FileKind::Character,
        () if kind.is_dir() => FileKind::Folder,
        () => FileKind::Other,
    }
}

/// The kernel's words for why this process may not use a file so (faccessat(2)); it looks at more than the mode.
fn refused(full: &Path, access: Access) -> Option<String> {
    let error = accessat(CWD, full, access, AtFlags::EACCESS).err()?;
    Some(std::io::Error::from(error).to_string())
}

/// The image format by the header.
fn image_format(path: &Path) -> Option<DiskFormat> {
    let mut start = Vec::new();
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    file.take(4).read_to_end(&mut start).ok()?;
    Some(if start == qcow2::MAGIC { DiskFormat::Qcow2 } else { DiskFormat::Raw })
}

/// The kind of the firmware volume at the file's beginning (`EFI_FIRMWARE_VOLUME_HEADER`, and
/// `gEfiSystemNvDataFvGuid` of edk2's MdeModulePkg).
fn volume(path: &Path) -> Option<Volume> {
    const VARIABLES: [u8; 16] =
        [0x8d, 0x2b, 0xf1, 0xff, 0x96, 0x76, 0x8b, 0x4c, 0xa9, 0x85, 0x27, 0x47, 0x07, 0x5b, 0x4f, 0x50];
    let mut header = [0; 44];
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    file.read_exact(&mut header).ok()?;
    let (kind, mark) = (&header[16..32], &header[40..44]);
    (mark == b"_FVH").then_some(if kind == VARIABLES { Volume::Variables } else { Volume::Code })
}

/// How images of formats that are not ours begin, at which byte, with QEMU's names (the `_probe` functions in QEMU's
/// `block/`).
const OTHERS: [(&str, u64, &[u8]); 11] = [
    ("vmdk", 0, b"KDMV"),
    ("vmdk", 0, b"COWD"),
    ("vmdk", 0, b"# Disk DescriptorFile"),
    ("vdi", 0x40, &[0x7f, 0x10, 0xda, 0xbe]),
    ("vpc", 0, b"conectix"),
    ("vhdx", 0, b"vhdxfile"),
    ("qed", 0, b"QED\0"),
    ("luks", 0, b"LUKS\xba\xbe"),
    ("parallels", 0, b"WithoutFreeSpace"),
    ("parallels", 0, b"WithouFreSpacExt"),
    ("qcow", 0, b"QFI\xfb\0\0\0\x01"),
];
/// A VHD of fixed size has its mark in its last sector.
const FOOTER: (i64, &[u8]) = (-512, b"conectix");

/// The format of an image that is neither raw nor qcow2, by its marks.
fn other_format(path: &Path) -> Option<&'static str> {
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    let mut start = Vec::new();
    (&mut file).take(512).read_to_end(&mut start).ok()?;
    let marked = |at: u64, mark: &[u8]| start.get(at as usize..).is_some_and(|rest| rest.starts_with(mark));
    if let Some((name, ..)) = OTHERS.iter().find(|(_, at, mark)| marked(*at, mark)) {
        return Some(name);
    }
    let (from_end, mark) = FOOTER;
    let mut footer = vec![0; mark.len()];
    file.seek(SeekFrom::End(from_end)).and_then(|_| file.read_exact(&mut footer)).ok()?;
    (footer == mark).then_some("vpc")
}

/// The labels of the parts in PEM's form; nothing of what they hold.
fn pem_labels(path: &Path) -> Option<Vec<String>> {
    let mut text = Vec::new();
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    file.take(MAX_PEM).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let label = |line: &str| Some(line.strip_prefix("-----BEGIN ")?.trim_end().strip_suffix("-----")?.to_owned());
    let is_label = |label: &String| label.len() <= 40 && label.bytes().all(|c| c.is_ascii_uppercase() || c == b' ');
    Some(text.lines().filter_map(label).filter(is_label).take(MAX_LABELS).collect())
}

/// Tries O_DIRECT: a file system without it refuses the open with EINVAL (open(2)). If it works: the file, opened so.
fn direct_io(path: &Path) -> (Option<bool>, Option<File>) {
    match OpenOptions::new().read(true).custom_flags(libc::O_DIRECT | libc::O_NONBLOCK).open(path) {
        Ok(file) => (Some(true), Some(file)),
        Err(error) => ((error.raw_os_error() == Some(libc::EINVAL)).then_some(false), None),
    }
}

/// The size of requests that a file takes, found as QEMU does (`raw_probe_alignment()` in QEMU's `block/file-posix.c`): if all
/// are taken, the largest one.
fn direct_align(file: &File) -> u32 {
    const LARGEST: u32 = 4096;
    let mut room = vec![0; 2 * LARGEST as usize];
    let start = room.as_ptr().align_offset(LARGEST as usize);
    let takes = |length: &u32| {
        let Some(buffer) = room.get_mut(start..start + *length as usize) else { return false };
        !file.read_at(buffer, 0).is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL))
    };
    let found = [1, 512, 1024, 2048].into_iter().find(takes);
    found.filter(|length| *length != 1).unwrap_or(LARGEST)
}

/// The first folder on the way that others may not enter: on the way as it is written, then on the way that symbolic
/// links lead to.
fn closed_folder(root: &Root, path: &Path, full: &Path) -> Option<(PathBuf, u32)> {
    let target = std::fs::canonicalize(full).ok().zip(std::fs::canonicalize(root.path("/")).ok());
    let target = target.and_then(|(full, root)| Some(Path::new("/").join(full.strip_prefix(root).ok()?)));
    let closed = |path: &Path| {
        let mut folders: Vec<_> = path.ancestors().skip(1).collect();
        // A captured root's own folder belongs to the tree, not to the host.
        folders.retain(|folder| *folder != Path::new("/") && !folder.as_os_str().is_empty());
        folders.into_iter().rev().find_map(|folder| {
            let data = std::fs::metadata(root.path(folder)).ok().filter(Metadata::is_dir)?;
            (data.mode() & 0o001 == 0).then(|| (folder.to_owned(), data.uid()))
        })
    };
    closed(path).or_else(|| closed(&target?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn look(root: &Path, path: &str) -> FileFact {
        read(&Root::new(root), &[path.into()]).remove(Path::new(path)).unwrap()
    }

    #[test]
    fn a_missing_file_is_told_the_name_most_like_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("windows11.qcow2"), b"").unwrap();
        std::fs::write(folder.path().join("other"), b"").unwrap();
        assert_eq!(look(folder.path(), "/windows1.qcow").near, Some("/windows11.qcow2".into()));
        assert_eq!(look(folder.path(), "/quite-another").near, None);
        let away = look(folder.path(), "/no/folder");
        assert_eq!((away.near, away.no_folder), (None, true));
        assert!(!look(folder.path(), "/quite-another").no_folder);
    }

    #[test]
    fn where_no_file_can_be_made_a_missing_one_says_why() {
        let real = |path: &Path| read(&Root::new("/"), &[path.to_owned()]).remove(path).unwrap();
        for path in ["/proc/new.raw", "/sys/new.raw", "/proc/no/new.raw"] {
            let fact = real(Path::new(path));
            let why = fact.unwritable.unwrap_or_default();
            assert!(fact.kind.is_none() && why.contains("no files but the kernel's"), "{path}: {why}");
        }
        let folder = tempfile::tempdir().unwrap();
        symlink("gone/disk.raw", folder.path().join("link.raw")).unwrap();
        let fact = real(&folder.path().join("link.raw"));
        assert_eq!((fact.kind, fact.dangling, fact.unwritable), (None, Some("gone/disk.raw".into()), None));
        assert_eq!(real(&folder.path().join("no/folder/new.raw")).unwritable, None);
    }

    #[test]
    #[ignore = "changes owners, so it needs root: scripts/test runs it"]
    fn another_users_link_to_the_folder_of_a_missing_file_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        std::fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        std::os::unix::fs::lchown(&link, Some(1234), Some(1234)).unwrap();
        let path = link.join("new.raw");
        let fact = read(&Root::new("/"), std::slice::from_ref(&path)).remove(&path).unwrap();
        assert_eq!(fact.foreign, Some(ForeignLink { link, by: 1234, to: 0 }));
    }

    #[test]
    fn formats_are_read_from_the_header() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.qcow2"), b"QFI\xfb\0\0\0\x03").unwrap();
        std::fs::write(folder.path().join("b.qcow2"), b"QF").unwrap();
        std::fs::write(folder.path().join("empty"), b"").unwrap();
        assert_eq!(look(folder.path(), "/a.qcow2").format, Some(DiskFormat::Qcow2));
        assert_eq!(look(folder.path(), "/b.qcow2").format, Some(DiskFormat::Raw));
        let empty = look(folder.path(), "/empty");
        assert_eq!((empty.kind, empty.size, empty.format), (Some(FileKind::File), 0, Some(DiskFormat::Raw)));
    }

    #[test]
    fn parts_of_a_uefi_build_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let header = |guid: &[u8]| [[0; 16].as_slice(), guid, &[0; 8], b"_FVH", &[0; 20]].concat();
        let guid = |text: &str| text.parse::<uuid::Uuid>().unwrap().to_bytes_le();
        for (name, header, volume) in [
            ("vars", header(&guid("fff12b8d-7696-4c8b-a985-2747075b4f50")), Some(Volume::Variables)),
            ("code", header(&guid("8c8ce578-8a3d-4f1c-9935-896185c32dd3")), Some(Volume::Code)),
            ("disk", vec![0; 64], None),
            ("short", b"_FVH".to_vec(), None),
        ] {
            std::fs::write(folder.path().join(name), header).unwrap();
            assert_eq!(look(folder.path(), &format!("/{name}")).volume, volume, "{name}");
        }
    }

    #[test]
    fn formats_of_others_are_told_by_their_marks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let format = |at: usize, mark: &[u8]| {
            let mut image = vec![0; 4096];
            image[at..at + mark.len()].copy_from_slice(mark);
            std::fs::write(&path, image).unwrap();
            other_format(&path)
        };
        for (name, at, mark) in OTHERS {
            assert_eq!(format(at as usize, mark), Some(name));
        }
        assert_eq!(format(4096 - 512, b"conectix"), Some("vpc"));
        assert_eq!(format(0, b"QFI\xfb\0\0\0\x03"), None);
        assert_eq!(format(8, b"KDMV"), None);
        std::fs::write(&path, "").unwrap();
        assert_eq!(other_format(&path), None);
    }

    #[test]
    fn a_certificate_is_told_by_its_label_and_nothing_of_it_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let key = "Bag\n-----BEGIN RSA PRIVATE KEY-----\nc2VjcmV0\n-----END RSA PRIVATE KEY-----\r\n-----BEGIN CERTIFICATE-----\r\n";
        std::fs::write(folder.path().join("key.pem"), key).unwrap();
        std::fs::write(folder.path().join("der"), b"0\x82\x01").unwrap();
        std::fs::File::create(folder.path().join("disk")).unwrap().set_len(1 << 20).unwrap();
        let labels = ["RSA PRIVATE KEY", "CERTIFICATE"].map(str::to_owned).to_vec();
        assert_eq!(look(folder.path(), "/key.pem").pem, Some(labels));
        assert_eq!(look(folder.path(), "/der").pem, Some(vec![]));
        assert_eq!(look(folder.path(), "/disk").pem, None);
    }

    #[test]
    fn what_is_missing_or_no_image_is_said_so() {
        let folder = tempfile::tempdir().unwrap();
        symlink("self", folder.path().join("self")).unwrap();
        nix::unistd::mkfifo(&folder.path().join("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(look(folder.path(), "/missing").kind, None);
        assert_eq!(look(folder.path(), "/self").kind, None);
        assert_eq!(look(folder.path(), "/fifo").kind, Some(FileKind::Other));
        assert_eq!(look(folder.path(), "/").kind, Some(FileKind::Folder));
        let null = look(Path::new("/"), "/dev/null");
        assert_eq!((null.kind, null.format, null.direct_io), (Some(FileKind::Character), None, None));
    }

    #[test]
    fn proc_refuses_direct_io() {
        assert_eq!(look(Path::new("/"), "/proc/version").direct_io, Some(false));
    }

    #[test]
    fn a_closed_folder_is_found_through_links_and_for_files_to_come() {
        let folder = tempfile::tempdir().unwrap();
        let open = std::fs::Permissions::from_mode(0o755);
        for name in ["open", "closed", "closed/inner"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            std::fs::set_permissions(folder.path().join(name), open.clone()).unwrap();
        }
        std::fs::set_permissions(folder.path().join("closed"), std::fs::Permissions::from_mode(0o750)).unwrap();
        std::fs::write(folder.path().join("closed/inner/disk"), "").unwrap();
        symlink("../closed/inner/disk", folder.path().join("open/link")).unwrap();
        let at = |path| look(folder.path(), path).closed_folder.map(|(folder, _)| folder);
        assert_eq!(at("/closed/inner/disk"), Some("/closed".into()));
        assert_eq!(at("/open/link"), Some("/closed".into()));
        assert_eq!(at("/closed/inner/new"), Some("/closed".into()));
        assert_eq!(at("/open/new"), None);
    }
}
