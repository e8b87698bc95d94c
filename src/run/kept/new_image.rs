//! An empty disk image. It is made here and not by qemu-img, which need not be installed where QEMU is, and which would
//! write over a file that somebody has made meanwhile.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, openat, renameat_with, statat, unlinkat};

use crate::trusted;
use crate::units::{DiskFormat, Size};

/// Makes the image, whole or not at all; whether it did. A file that is there is left as it is.
pub fn make_once(path: &Path, format: DiskFormat, size: Size) -> Result<bool> {
    let name = path.file_name().context("it has no name")?;
    let parent = path.parent().context("it is in no folder")?;
    // Found step by step and then used by descriptor, so that nobody leads root elsewhere meanwhile.
    let folder =
        trusted::find_own(parent).with_context(|| format!("cannot look at the folder {}", parent.display()))?;
    if statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Ok(false);
    }
    let part = format!(".{}.part", name.to_string_lossy());
    match unlinkat(&folder, part.as_str(), AtFlags::empty()) {
        Err(error) if error != rustix::io::Errno::NOENT => return Err(io::Error::from(error).into()),
        _ => {}
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(openat(&folder, part.as_str(), flags, Mode::RUSR | Mode::WUSR)?);
    let made = fill(&file, format, size).and_then(|()| owned(&file, &folder)).and_then(|()| {
        match renameat_with(&folder, part.as_str(), &folder, name, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::EXIST) => Ok(false),
            Err(error) => Err(io::Error::from(error)),
        }
    });
    if !matches!(made, Ok(true)) {
        unlinkat(&folder, part.as_str(), AtFlags::empty()).ok();
    }
    Ok(made?)
}

/// Makes an empty file the image.
pub(in crate::run) fn fill(file: &File, format: DiskFormat, size: Size) -> io::Result<()> {
    match format {
        DiskFormat::Raw => file.set_len(size.as_bytes()),
        DiskFormat::Qcow2 => {
            let (tables, length) = qcow2(size.as_bytes());
            file.set_len(length)?;
            tables.into_iter().try_for_each(|(at, bytes)| file.write_all_at(&bytes, at))
        }
    }
}

/// Gives it its mode and owner: in a user's folder it is the user's, as if `qemu-img` had been called there.
fn owned(file: &File, folder: &File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o600))?;
    if nix::unistd::geteuid().is_root() {
        let data = folder.metadata()?;
        fchown(file, Some(data.uid()), Some(data.gid()))?;
    }
    file.sync_all()
}

/// What an empty qcow2 image of a disk of so many bytes has at which places, and its length; all else is zero. QEMU's
/// `docs/interop/qcow2.txt`: version 3, clusters of 64 KiB, counts of 16 bits, and nothing but the tables allocated.
fn qcow2(disk: u64) -> (Vec<(u64, Vec<u8>)>, u64) {
    const CLUSTER_BITS: u32 = 16;
    const CLUSTER: u64 = 1 << CLUSTER_BITS;
    const HEADER_LENGTH: u32 = 104;
    // Header, table of the counts' blocks, one such block, which counts 32768 clusters, table of the guest's clusters.
    const COUNTS: u64 = CLUSTER;
    const BLOCK: u64 = 2 * CLUSTER;
    const L1: u64 = 3 * CLUSTER;
    /// How much of the disk an entry of the first table stands for: a table of the second kind of one cluster.
    const L1_ENTRY: u64 = CLUSTER / 8 * CLUSTER;
    const ENTRY: u64 = 8;
    let entries = disk.div_ceil(L1_ENTRY);
    let clusters = 3 + (entries * ENTRY).div_ceil(CLUSTER).max(1);
    let mut header = Vec::with_capacity(HEADER_LENGTH as usize);
    header.extend(*b"QFI\xfb");
    header.extend(3_u32.to_be_bytes());
    // No backing file: where its name is, and how long that is.
    header.extend([0; 8 + 4]);
    header.extend(CLUSTER_BITS.to_be_bytes());
    header.extend(disk.to_be_bytes());
    // Not encrypted.
    header.extend(0_u32.to_be_bytes());
    header.extend((entries as u32).to_be_bytes());
    header.extend(L1.to_be_bytes());
    header.extend(COUNTS.to_be_bytes());
    header.extend(1_u32.to_be_bytes());
    // No snapshots: how many, and where; no feature that is incompatible, compatible, or cleared by who does not know it.
    header.extend([0; 4 + 8 + 3 * 8]);
    // Counts have 2^4 bits.
    header.extend(4_u32.to_be_bytes());
    header.extend(HEADER_LENGTH.to_be_bytes());
    let counts = (0..clusters).flat_map(|_| 1_u16.to_be_bytes()).collect();
    (vec![(0, header), (COUNTS, BLOCK.to_be_bytes().to_vec()), (BLOCK, counts)], clusters * CLUSTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(path: &Path, format: DiskFormat) -> bool {
        make_once(path, format, Size::bytes(3 << 30)).unwrap()
    }

    #[test]
    fn an_image_is_made_once_sparse_and_never_over_anything() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (name, format) in [("a.raw", DiskFormat::Raw), ("a.qcow2", DiskFormat::Qcow2)] {
            // As a launcher left it that died.
            std::fs::write(at(&format!(".{name}.part")), "part").unwrap();
            assert!(make(&at(name), format));
            let data = std::fs::metadata(at(name)).unwrap();
            assert_eq!(data.mode() & 0o7777, 0o600);
            assert!(data.blocks() * 512 < 1 << 20, "{name} has {} blocks", data.blocks());
            std::fs::write(at(name), "the guest's").unwrap();
            assert!(!make(&at(name), format));
            assert_eq!(std::fs::read_to_string(at(name)).unwrap(), "the guest's");
        }
        std::os::unix::fs::symlink("/nowhere", at("link")).unwrap();
        assert!(!make(&at("link"), DiskFormat::Raw));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
        assert!(make_once(&at("no/folder"), DiskFormat::Raw, Size::bytes(1 << 20)).is_err());
    }

    #[test]
    fn the_tables_of_a_qcow2_image_are_counted_and_hold_its_disk() {
        for (disk, entries, clusters) in [(1 << 20, 1, 4), (128 << 30, 256, 4), (64 << 40, 131_072, 19)] {
            let (tables, length) = qcow2(disk);
            let [(0, header), (_, _), (_, counts)] = tables.as_slice() else { panic!("{tables:?}") };
            assert_eq!((header.len(), counts.len(), length), (104, 2 * clusters, (clusters as u64) << 16), "{disk}");
            assert_eq!(header[36..40], u32::to_be_bytes(entries), "{disk}");
        }
    }
}
