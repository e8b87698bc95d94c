//! As root: what QEMU is given for the run, what it is not, and what is said when something can't be given back.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use vfio_run::change::{Change, Own, unattended};
use vfio_run::host::Root;
use vfio_run::journal::Journal;

use super::talk::Serial;
use super::world::{World, each_as_root};

fn with_disk(world: &World) -> (PathBuf, PathBuf) {
    let disk = world.file("disk.raw", vec![0; 1 << 20]);
    std::fs::set_permissions(&disk, std::fs::Permissions::from_mode(0o600)).unwrap();
    (disk, world.machine("tpm: V2, disks: [(file: \"disk.raw\", cache: Writeback, aio: Threads, boot: 0)]"))
}

/// A machine whose kernel and initial RAM disk are root's alone, as Ubuntu's in /boot.
fn with_private_kernel(world: &World) -> PathBuf {
    for name in ["private-kernel", "private-initrd"] {
        let path = world.file(name, std::fs::read(world.path("guest")).unwrap());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    world.machine("kernel: (image: \"private-kernel\", initrd: \"private-initrd\")")
}

#[test]
#[ignore = "needs root, whose kernel QEMU's account cannot read"]
fn qemu_has_a_copy_of_a_kernel_that_its_account_cannot_open() {
    each_as_root(|world| {
        let machine = with_private_kernel(world);
        let shown = world.done(&["plan", machine.to_str().unwrap()]).with(0);
        assert!(shown.out.contains("private-kernel, which QEMU's account cannot open"), "{shown:?}");
        let launcher = world.run(&machine);
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        guest.type_in("q");
        launcher.ended().with(0);
    });
}

fn owner(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().uid()
}

/// A field of `/proc/PID/status`.
fn status(pid: i32, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix(field)).unwrap_or_else(|| panic!("{field}: {status}"));
    line.trim_start_matches(':').trim().to_owned()
}

#[test]
#[ignore = "needs root"]
fn qemu_is_nobody_in_particular_and_its_disk_stays_its_owners() {
    each_as_root(|world| {
        let (disk, machine) = with_disk(world);
        let plan = world.done(&["plan", "--json", machine.to_str().unwrap()]).with(0).json();
        let uid = plan["account"]["uid"].as_u64().unwrap() as u32;
        assert!(uid >= 61184, "{uid}");
        let launcher = world.run(&machine);
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        assert_eq!(owner(&disk), 0);
        for name in ["qemu", "swtpm"] {
            let pid = world.pid(name);
            assert_eq!(status(pid, "Uid"), [uid; 4].map(|u| u.to_string()).join("\t"), "{name}");
            assert_eq!(status(pid, "Gid").split('\t').next(), Some(&*uid.to_string()), "{name}");
            assert_eq!(status(pid, "Groups"), "", "{name}");
            for set in ["CapPrm", "CapEff", "CapAmb"] {
                assert_eq!(status(pid, set), "0000000000000000", "{name} {set}");
            }
        }
        assert_eq!(status(world.pid("qemu"), "Seccomp"), "2");
        guest.type_in("q");
        launcher.ended().with(0);
        assert_eq!(owner(&disk), 0);
    });
}

/// A dead launcher of an earlier version gave the disk to QEMU's account.
fn given_away(world: &World, disk: &Path) {
    std::fs::create_dir_all(world.run_dir()).unwrap();
    std::fs::set_permissions(world.run_dir(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut journal = Journal::open(&world.run_dir()).unwrap();
    let change = Change::from(Own { path: disk.to_owned(), uid: 61500, gid: 61500 });
    journal.make(&Root::new("/"), &change, &unattended).unwrap();
    assert_eq!(owner(disk), 61500);
}

fn chattr(flag: &str, path: &Path) -> bool {
    Command::new("chattr").arg(flag).arg(path).status().is_ok_and(|s| s.success())
}

#[test]
#[ignore = "needs root and files that can be made immutable"]
fn what_cannot_be_given_back_is_named_and_tried_again() {
    each_as_root(|world| {
        let (disk, _) = with_disk(world);
        // With the disk the check would refuse it.
        let machine = world.machine("serial: Socket");
        assert!(chattr("+i", &disk) && chattr("-i", &disk), "{} cannot be made immutable", disk.display());
        given_away(world, &disk);
        assert!(chattr("+i", &disk));
        let refused = world.run(&machine).ended();
        let tried = world.done(&["recover", &world.name]);
        let state = world.done(&["status", "--json", &world.name]).with(0).json();
        assert!(chattr("-i", &disk));

        let shown = disk.to_str().unwrap();
        assert!(refused.with(5).err.contains(shown));
        let tried = tried.with(5);
        assert!(tried.err.contains("the host is not as it was") && tried.err.contains(shown), "{tried:?}");
        assert_eq!(state["state"], "left-behind");
        assert!(state["changes"][0].as_str().unwrap().contains(shown), "{state}");

        world.done(&["recover", &world.name]).with(0);
        assert_eq!(owner(&disk), 0);
    });
}

#[test]
#[ignore = "needs root"]
fn a_disk_that_somebody_else_took_meanwhile_is_left_to_them() {
    each_as_root(|world| {
        let (disk, _) = with_disk(world);
        given_away(world, &disk);
        std::os::unix::fs::chown(&disk, Some(12345), Some(12345)).unwrap();
        let ended = world.done(&["recover", &world.name]).with(0);
        assert!(ended.err.contains("another program changed it during the run"), "{ended:?}");
        assert_eq!(owner(&disk), 12345);
    });
}
