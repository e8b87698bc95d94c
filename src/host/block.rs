//! Block devices: how large they are, and whether the host uses them.
//! Source: `Documentation/ABI/stable/sysfs-block`, proc_pid_mountinfo(5), swapon(8).

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::Root;

/// Major and minor number.
pub(super) type Device = (u64, u64);

/// More partitions and holders than a disk of an ordinary host has; the search ends there.
const MAX_DEVICES: usize = 1024;

/// What the host has mounted and swaps to.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    /// Device number, source and mount point of each mount.
    mounts: Vec<(Option<Device>, String, String)>,
    /// The files of /proc/swaps.
    swaps: Vec<String>,
    /// Device names of each mounted btrfs, which has numbers of its own in mountinfo and names only one device there.
    btrfs: Vec<(String, Vec<String>)>,
}

impl Mounts {
    /// Reads mounts and swaps of this process's mount namespace.
    pub(super) fn read(root: &Root) -> Self {
        let mounts = root.text("/proc/self/mountinfo").unwrap_or_default();
        let swaps = root.text("/proc/swaps").unwrap_or_default();
        let file_systems = root.names("/sys/fs/btrfs");
        Self {
            mounts: mounts.lines().filter_map(mount).collect(),
            swaps: swaps
                .lines()
                .skip(1)
                .filter_map(|line| Some(unescape(line.split_ascii_whitespace().next()?)))
                .collect(),
            btrfs: file_systems
                .into_iter()
                .map(|uuid| (uuid.clone(), root.names(format!("/sys/fs/btrfs/{uuid}/devices"))))
                .collect(),
        }
    }
}

/// A line such as `36 35 98:0 /sub /mnt rw,noatime master:1 - ext4 /dev/sda1 rw`.
fn mount(line: &str) -> Option<(Option<Device>, String, String)> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ');
    let device = numbers(before.nth(2)?);
    let point = unescape(before.nth(1)?);
    let source = unescape(after.split(' ').nth(1)?);
    Some((device, source, point))
}

/// `8:1`.
fn numbers(text: &str) -> Option<Device> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Undoes the kernel's `\040` for a space, `\011`, `\012` and `\134` (`mangle_path()`).
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = tail;
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The capacity in bytes; sysfs counts sectors of 512 bytes, whatever the device's own.
pub(super) fn capacity(root: &Root, (major, minor): Device) -> Option<u64> {
    root.parse::<u64>(format!("/sys/dev/block/{major}:{minor}/size"))?.checked_mul(512)
}

/// Major number of the nodes /dev/sg… (`SCSI_GENERIC_MAJOR` in the kernel's `include/uapi/linux/major.h`).
const SCSI_GENERIC: u64 = 21;

/// Whether a block device is a whole SCSI device; `None` if it is one that only may lead to such a device (multipath).
pub(super) fn is_scsi_disk(root: &Root, (major, minor): Device) -> Option<bool> {
    let folder = format!("/sys/dev/block/{major}:{minor}");
    match () {
        () if root.path(format!("{folder}/partition")).exists() => Some(false),
        // The number of the SCSI device's type; other kinds of disks have no such file, or words in it.
        () if root.parse::<u32>(format!("{folder}/device/type")).is_some() => Some(true),
        () if root.path(format!("{folder}/dm")).exists() => None,
        () => Some(false),
    }
}

/// Whether a character device is the node by which programs send commands to a SCSI device.
pub(super) fn is_scsi_generic((major, _): Device) -> bool {
    major == SCSI_GENERIC
}

/// The disks that the node of a SCSI device belongs to: one or none.
pub(super) fn disks_of_scsi_generic(root: &Root, (major, minor): Device) -> Vec<Device> {
    if major != SCSI_GENERIC {
        return Vec::new();
    }
    let folder = format!("/sys/dev/char/{major}:{minor}/device/block");
    let number = |name: String| numbers(&root.text_up_to(format!("{folder}/{name}/dev"), 64)?);
    root.names(&folder).into_iter().filter_map(number).collect()
}

/// Where the device, a partition of it, or what is built upon them (LVM, crypt, RAID) is mounted or used as swap.
pub(super) fn mounted(root: &Root, device: Device, mounts: &Mounts) -> Vec<String> {
    let (devices, names) = with_dependents(root, device);
    let paths: BTreeSet<String> = names.iter().map(|name| format!("/dev/{name}")).collect();
    let mut uses = Vec::new();
    for (number, source, point) in &mounts.mounts {
        if number.is_some_and(|number| devices.contains(&number)) || paths.contains(source) {
            uses.push(point.clone());
        }
    }
    if mounts.swaps.iter().any(|swap| paths.contains(swap)) {
        uses.push("swap".to_owned());
    }
    for (uuid, members) in &mounts.btrfs {
        if uses.is_empty() && members.iter().any(|name| names.contains(name)) {
            uses.push(format!("btrfs {uuid}"));
        }
    }
    uses.sort();
    uses.dedup();
    uses
}

/// Whether something of the host claims the block device: a mounted file system, swap, device-mapper, md; also
/// what no list of mounts shows, such as a pool of ZFS or a mount in another namespace. The kernel lets one user have
/// that (`O_EXCL` without `O_CREAT`, open(2)), and is asked for it. What may not be opened is not known to be claimed.
pub(crate) fn is_claimed(node: &Path) -> bool {
    // Without O_NONBLOCK a drive without a disc would be waited for.
    let flags = libc::O_EXCL | libc::O_NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(node);
    opened.is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY))
}

/// The device, its partitions and their holders, by number and by name below /dev.
fn with_dependents(root: &Root, device: Device) -> (BTreeSet<Device>, BTreeSet<String>) {
    let (mut devices, mut names) = (BTreeSet::new(), BTreeSet::new());
    let mut open = vec![device];
    while let Some(device) = open.pop() {
        if devices.len() >= MAX_DEVICES || !devices.insert(device) {
            continue;
        }
        let folder = format!("/sys/dev/block/{}:{}", device.0, device.1);
        let event = root.text_up_to(format!("{folder}/uevent"), 4096).unwrap_or_default();
        names.extend(event.lines().find_map(|line| line.strip_prefix("DEVNAME=")).map(str::to_owned));
        names.extend(root.text_up_to(format!("{folder}/dm/name"), 256).map(|name| format!("mapper/{name}")));
        let number = |path: String| numbers(&root.text_up_to(format!("{path}/dev"), 64)?);
        for holder in root.names(format!("{folder}/holders")) {
            open.extend(number(format!("{folder}/holders/{holder}")));
        }
        for name in root.names(&folder) {
            let partition = format!("{folder}/{name}");
            if root.path(format!("{partition}/partition")).exists() {
                open.extend(number(partition));
            }
        }
    }
    (devices, names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::sample_tree::tree;

    fn uses(root: &Path, device: Device) -> Vec<String> {
        let root = Root::new(root);
        mounted(&root, device, &Mounts::read(&root))
    }

    /// A disk with an ordinary partition, one with LVM on LUKS, a swap and a btrfs.
    fn laptop() -> tempfile::TempDir {
        tree(&[
            ("sys/dev/block/259:0/size", "2000409264\n"),
            ("sys/dev/block/259:0/uevent", "MAJOR=259\nMINOR=0\nDEVNAME=nvme0n1\nDEVTYPE=disk\n"),
            ("sys/dev/block/259:0/nvme0n1p1/partition", "1\n"),
            ("sys/dev/block/259:0/nvme0n1p1/dev", "259:1\n"),
            ("sys/dev/block/259:0/nvme0n1p2/partition", "2\n"),
            ("sys/dev/block/259:0/nvme0n1p2/dev", "259:2\n"),
            ("sys/dev/block/259:1/uevent", "DEVNAME=nvme0n1p1\n"),
            ("sys/dev/block/259:2/uevent", "DEVNAME=nvme0n1p2\n"),
            ("sys/dev/block/259:2/holders/dm-0/dev", "254:0\n"),
            ("sys/dev/block/254:0/uevent", "DEVNAME=dm-0\n"),
            ("sys/dev/block/254:0/dm/name", "luks\n"),
            ("sys/dev/block/254:0/holders/dm-1/dev", "254:1\n"),
            ("sys/dev/block/254:1/dm/name", "vg-home\n"),
            ("sys/dev/block/254:1/uevent", "DEVNAME=dm-1\n"),
            // A holder that leads back: no such thing exists, and it must end.
            ("sys/dev/block/254:1/holders/dm-0/dev", "254:0\n"),
            ("sys/dev/block/8:16/uevent", "DEVNAME=sdb\n"),
            ("sys/dev/block/8:32/uevent", "DEVNAME=sdc\n"),
            ("sys/dev/block/8:48/uevent", "DEVNAME=sdd\n"),
            ("sys/fs/btrfs/features/x", ""),
            ("sys/fs/btrfs/1234/devices/sdc/x", ""),
            ("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n/dev/sdd  partition\t1\t0\t-2\n"),
            (
                "proc/self/mountinfo",
                "25 1 259:1 / /boot\\040efi rw shared:1 - vfat /dev/nvme0n1p1 rw\n\
                 26 1 0:30 /@home /home rw - btrfs /dev/mapper/vg-home rw\n\
                 27 1 0:31 / /data rw - btrfs /dev/sdb rw\n\
                 no mount at all\n28 1 x:y / / - \n",
            ),
        ])
    }

    #[test]
    fn a_disk_is_in_use_through_partitions_holders_swap_and_btrfs() {
        let laptop = laptop();
        assert_eq!(uses(laptop.path(), (259, 0)), ["/boot efi", "/home"]);
        assert_eq!(uses(laptop.path(), (259, 1)), ["/boot efi"]);
        assert_eq!(uses(laptop.path(), (259, 2)), ["/home"]);
        assert_eq!(uses(laptop.path(), (8, 16)), ["/data"]);
        assert_eq!(uses(laptop.path(), (8, 32)), ["btrfs 1234"]);
        assert_eq!(uses(laptop.path(), (8, 48)), ["swap"]);
        assert_eq!(uses(laptop.path(), (9, 9)), Vec::<String>::new());
    }

    #[test]
    fn a_scsi_device_is_known_by_its_type_and_the_disk_behind_its_node_is_found() {
        let host = tree(&[
            ("sys/dev/block/8:0/device/type", "0\n"),
            ("sys/dev/block/8:1/partition", "1\n"),
            ("sys/dev/block/179:0/device/type", "SD\n"),
            ("sys/dev/block/254:0/dm/name", "mpatha\n"),
            ("sys/dev/char/21:0/device/block/sda/dev", "8:0\n"),
            ("sys/dev/char/21:1/device/type", "1\n"),
        ]);
        let root = Root::new(host.path());
        let disks = [(8, 0), (8, 1), (179, 0), (254, 0), (259, 0)].map(|device| is_scsi_disk(&root, device));
        assert_eq!(disks, [Some(true), Some(false), Some(false), None, Some(false)]);
        assert_eq!(disks_of_scsi_generic(&root, (21, 0)), [(8, 0)]);
        assert_eq!(disks_of_scsi_generic(&root, (21, 1)), []);
        assert!(is_scsi_generic((21, 1)) && !is_scsi_generic((1, 3)));
    }

    #[test]
    fn capacity_is_counted_in_sectors_and_nonsense_is_unknown() {
        assert_eq!(capacity(&Root::new(laptop().path()), (259, 0)), Some(2_000_409_264 * 512));
        let junk = tree(&[("sys/dev/block/1:1/size", "18446744073709551615"), ("sys/dev/block/1:2/size", "-1")]);
        assert_eq!(capacity(&Root::new(junk.path()), (1, 1)), None);
        assert_eq!(capacity(&Root::new(junk.path()), (1, 2)), None);
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unescape(r"/a\040b\134c\9\04"), r"/a b\c\9\04");
    }

    #[test]
    fn what_is_not_there_or_no_disk_is_not_claimed() {
        assert!(!is_claimed(Path::new("/dev/no-such-disk")));
        assert!(!is_claimed(Path::new("/dev/null")));
    }
}
