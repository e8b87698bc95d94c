//! Images that the launcher opens for QEMU.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use super::launcher::wait_for;
use super::talk::Serial;
use super::world::{NOBODY, World, each, each_as_root};

/// A user whose folder others may not enter.
const OWNER: u32 = NOBODY - 1;

fn set(path: &Path, owner: u32, mode: u32) {
    chown(path, Some(owner), Some(owner)).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn owner(path: &Path) -> (u32, u32, u32) {
    let data = std::fs::metadata(path).unwrap();
    (data.uid(), data.gid(), data.mode() & 0o7777)
}

fn qemu_img(arguments: &[&str], folder: &Path) {
    let made = Command::new("qemu-img").args(arguments).current_dir(folder).output().unwrap();
    assert!(made.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&made.stderr));
}

/// A user's folder of his own with an image of his own.
fn theirs(world: &World) -> PathBuf {
    let folder = world.path("theirs");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("disk.raw"), vec![0; 1 << 20]).unwrap();
    set(&folder.join("disk.raw"), OWNER, 0o600);
    set(&folder, OWNER, 0o700);
    folder
}

#[test]
fn an_image_is_made_at_the_first_start_and_is_the_guests_from_then_on() {
    each(|world| {
        let machine = world.machine(
            "disks: [(file: \"new.qcow2\", create: \"64 MiB\", boot: 0), (file: \"new.raw\", create: \"64 MiB\", boot: 0)]",
        );
        let images = ["new.qcow2", "new.raw"].map(|name| world.path(name));
        for verb in ["check", "plan"] {
            world.done(&[verb, machine.to_str().unwrap()]).with(0);
        }
        assert!(images.iter().all(|image| !image.exists()), "looking made something");
        let run = || {
            let launcher = world.run(&machine);
            Serial::of(world).says("HELLO");
            world.done(&["stop", "--force", &world.name]).with(0);
            launcher.ended().with(4);
        };
        run();
        qemu_img(&["check", "-q", "-f", "qcow2", "new.qcow2"], &world.path(""));
        assert_eq!(images.each_ref().map(|image| owner(image).2), [0o600; 2]);
        assert_eq!(std::fs::metadata(&images[1]).unwrap().len(), 64 << 20);
        // What a guest wrote stays.
        std::fs::write(&images[1], vec![7; 64 << 20]).unwrap();
        run();
        assert!(std::fs::read(&images[1]).unwrap().iter().all(|byte| *byte == 7));
    });
}

#[test]
#[ignore = "needs root"]
fn an_image_that_root_makes_in_a_users_folder_is_the_users() {
    each_as_root(|world| {
        let made = theirs(world).join("new.raw");
        let machine = world.machine("disks: [(file: \"theirs/new.raw\", create: \"8 MiB\", boot: 0)]");
        let launcher = world.run(&machine);
        Serial::of(world).says("HELLO");
        assert_eq!(owner(&made), (OWNER, OWNER, 0o600));
        world.done(&["stop", "--force", &world.name]).with(0);
        launcher.ended().with(4);
    });
}

#[test]
#[ignore = "needs root"]
fn an_image_in_a_users_own_folder_stays_his_also_after_a_power_cut() {
    each_as_root(|world| {
        let disk = theirs(world).join("disk.raw");
        std::fs::write(world.path("log"), "").unwrap();
        let machine = world.machine(
            "disks: [(file: \"theirs/disk.raw\", cache: Writeback, aio: Threads, boot: 0)], second_serial: File(\"log\")",
        );
        let before = owner(&disk);
        let launcher = world.run(&machine);
        Serial::of(world).says("HELLO");
        let qemu = world.pid("qemu");
        assert!(std::fs::metadata(format!("/proc/{qemu}")).unwrap().uid() >= 61184);
        assert_eq!((owner(&disk), owner(&world.path("log"))), (before, owner(&machine)));
        // Nothing of /run outlives a power cut, so nothing may have to be undone.
        assert!(world.journal().iter().all(|record| !record.to_string().contains("disk.raw")));
        world.done(&["stop", "--force", &world.name]).with(0);
        launcher.ended().with(4);
        assert_eq!(owner(&disk), before);
    });
}

#[test]
#[ignore = "needs root"]
fn a_link_planted_in_a_users_folder_leads_nowhere() {
    each_as_root(|world| {
        let folder = theirs(world);
        let secret = world.file("secret", vec![7; 1 << 20]);
        set(&secret, 0, 0o640);
        let machine =
            world.machine("disks: [(file: \"theirs/disk.raw\", format: Raw, cache: Writeback, aio: Threads, boot: 0)]");
        let linked = folder.join("disk.raw");
        std::fs::remove_file(&linked).unwrap();
        symlink(&secret, &linked).unwrap();
        lchown(&linked, Some(OWNER), None).unwrap();
        let refused = world.run(&machine).ended().with(3);
        let words = format!("the link {}, which belongs to user {OWNER}", linked.display());
        assert!(refused.err.contains(&words), "{refused:?}");
        assert_eq!(owner(&secret), (0, 0, 0o640));
        // His own link to his own file is his matter.
        std::fs::rename(&linked, folder.join("planted")).unwrap();
        std::fs::write(folder.join("other.raw"), vec![0; 1 << 20]).unwrap();
        set(&folder.join("other.raw"), OWNER, 0o600);
        symlink("other.raw", &linked).unwrap();
        lchown(&linked, Some(OWNER), None).unwrap();
        let launcher = world.run(&machine);
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        guest.type_in("q");
        launcher.ended().with(0);
    });
}

#[test]
#[ignore = "needs root"]
fn two_machines_on_one_image_are_kept_apart_and_change_nothing_of_it() {
    each_as_root(|world| {
        let disk = theirs(world).join("disk.raw");
        let before = owner(&disk);
        let fields = "disks: [(file: \"theirs/disk.raw\", cache: Writeback, aio: Threads, boot: 0)]";
        let machine = world.machine(fields);
        let other = format!("{}-b", world.name);
        let second = world.path("second.ron");
        let text = std::fs::read_to_string(&machine).unwrap();
        std::fs::write(&second, text.replace(&format!("\"{}\"", world.name), &format!("{other:?}"))).unwrap();
        let launcher = world.run(&machine);
        Serial::of(world).says("HELLO");
        let refused = world.run(&second).ended().with(1);
        let words = format!("Is another process using the image [{}]?", disk.display());
        assert!(refused.err.contains(&words), "{refused:?}");
        // The first one's launcher dies, and its guest goes on; the second one's end disturbs neither.
        launcher.signal(Signal::SIGKILL);
        launcher.ended();
        world.run(&second).ended().with(1);
        assert_eq!(owner(&disk), before);
        world.done(&["stop", "--force", &world.name]).with(0);
        world.done(&["recover", &world.name]).with(0);
        assert_eq!(owner(&disk), before);
        let launcher = world.run(&second);
        wait_for("the second", || {
            let status = world.done(&["status", "--json", &other]).json();
            (status["state"] == "running").then_some(())
        });
        world.done(&["stop", "--force", &other]).with(0);
        launcher.ended().with(4);
        assert_eq!(owner(&disk), before);
        drop(std::fs::remove_dir_all(Path::new("/var/lib/vfio-run").join(&other)));
        drop(std::fs::remove_file(format!("/var/log/vfio-run/{other}.log")));
    });
}

/// Images of both formats in all their forms, and what QEMU says of their reading and writing.
fn all_forms(world: &World) {
    let folder = world.path("images");
    std::fs::create_dir(&folder).unwrap();
    for arguments in [
        &["create", "-q", "-f", "raw", "a.raw", "2M"][..],
        &["create", "-q", "-f", "qcow2", "b.qcow2", "2M"],
        &["create", "-q", "-f", "raw", "base.raw", "2M"],
        &["create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "middle.qcow2"],
        &["create", "-q", "-f", "qcow2", "-b", "middle.qcow2", "-F", "qcow2", "top.qcow2"],
        &["create", "-q", "-f", "raw", "cd.iso", "2M"],
    ] {
        qemu_img(arguments, &folder);
    }
    // O_DIRECT may not take its size.
    std::fs::write(folder.join("odd.raw"), vec![0; (1 << 20) + 100]).unwrap();
    for entry in std::fs::read_dir(&folder).unwrap().flatten() {
        let based_on = ["base.raw", "middle.qcow2"].iter().any(|name| entry.file_name() == *name);
        super::world::own_unless_root(world, &entry.path());
        let mode = if based_on { 0o644 } else { 0o600 };
        std::fs::set_permissions(entry.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let disk = |file: &str, more: &str| format!("(file: \"images/{file}\", boot: 0, {more})");
    let disks = [
        disk("a.raw", ""),
        disk("b.qcow2", "cache: Writeback, aio: Threads"),
        disk("top.qcow2", ""),
        disk("cd.iso", ""),
        disk("odd.raw", ""),
    ];
    let launcher = world.run(&world.machine(&format!("disks: [{}]", disks.join(", "))));
    let mut guest = Serial::of(world);
    guest.says("HELLO");
    guest.type_in("q");
    launcher.ended().with(0);
}

#[test]
fn images_of_all_forms_are_opened_for_qemu() {
    each(all_forms);
}

#[test]
#[ignore = "needs root"]
fn images_of_all_forms_are_opened_for_qemu_as_root() {
    each_as_root(all_forms);
}
