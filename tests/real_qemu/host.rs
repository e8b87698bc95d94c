//! As root: what QEMU is given for the run, what it is not, and what is said when something can't be given back.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::talk::Serial;
use super::world::{World, each_as_root};

fn with_disk(world: &World) -> (PathBuf, PathBuf) {
    let disk = world.file("disk.raw", vec![0; 1 << 20]);
    std::fs::set_permissions(&disk, std::fs::Permissions::from_mode(0o600)).unwrap();
    (disk, world.machine("tpm: V2, disks: [(file: \"disk.raw\", cache: Writeback, aio: Threads, boot: 0)]"))
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
fn qemu_is_nobody_in_particular_and_has_its_disk_for_the_run() {
    each_as_root(|world| {
        let (disk, machine) = with_disk(world);
        let plan = world.done(&["plan", "--json", machine.to_str().unwrap()]).with(0).json();
        let uid = plan["account"]["uid"].as_u64().unwrap() as u32;
        assert!(uid >= 61184, "{uid}");
        let launcher = world.run(&machine);
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        assert_eq!(owner(&disk), uid);
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

#[test]
#[ignore = "needs root"]
fn a_refused_start_gives_the_disk_back() {
    each_as_root(|world| {
        let (disk, machine) = with_disk(world);
        let text = std::fs::read_to_string(&machine).unwrap();
        std::fs::write(&machine, text.replace("tpm: V2", "tpm: V2, extra_args: [\"-device\", \"nonsense\"]")).unwrap();
        world.run(&machine).ended().with(1);
        assert_eq!(owner(&disk), 0);
    });
}

fn chattr(flag: &str, path: &Path) -> bool {
    Command::new("chattr").arg(flag).arg(path).status().is_ok_and(|s| s.success())
}

#[test]
#[ignore = "needs root and files that can be made immutable"]
fn what_cannot_be_given_back_is_named_and_tried_again() {
    each_as_root(|world| {
        let (disk, machine) = with_disk(world);
        assert!(chattr("+i", &disk) && chattr("-i", &disk), "{} cannot be made immutable", disk.display());
        let launcher = world.run(&machine);
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        assert!(chattr("+i", &disk));
        guest.type_in("q");
        let ended = launcher.ended();
        let refused = world.run(&machine).ended();
        let tried = world.done(&["recover", &world.name]);
        let state = world.done(&["status", "--json", &world.name]).with(0).json();
        assert!(chattr("-i", &disk));

        let shown = disk.to_str().unwrap();
        let ended = ended.with(5);
        assert!(ended.err.contains("the host is not as it was") && ended.err.contains(shown), "{ended:?}");
        assert!(refused.with(5).err.contains(shown));
        assert!(tried.with(5).err.contains(shown));
        assert_eq!(state[0]["state"], "left-behind");
        assert!(state[0]["changes"][0].as_str().unwrap().contains(shown), "{state}");

        world.done(&["recover", &world.name]).with(0);
        assert_eq!(owner(&disk), 0);
    });
}

#[test]
#[ignore = "needs root"]
fn a_disk_that_somebody_else_took_meanwhile_is_left_to_them() {
    each_as_root(|world| {
        let (disk, machine) = with_disk(world);
        let launcher = world.run(&machine);
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        std::os::unix::fs::chown(&disk, Some(12345), None).unwrap();
        guest.type_in("q");
        let ended = launcher.ended().with(0);
        assert!(ended.err.contains("another program changed it during the run"), "{ended:?}");
        assert_eq!(owner(&disk), 12345);
    });
}
