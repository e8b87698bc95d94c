//! Disks and CDs that a running guest is given and that are taken from it: as descriptors, so that images stay their owner's.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::linux::Linux;
use super::relaunch::other_qemu;
use super::talk::{Qmp, Serial};
use super::world::{World, each, each_as_root};

const MIB: usize = 1 << 20;

/// An image that only its owner may open.
fn image(world: &World, name: &str) -> String {
    let path = world.file(name, vec![0; MIB]);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Whether somebody else may write to an image: QEMU's locks.
fn is_free(path: &str) -> bool {
    let said = Command::new("qemu-io").args(["-f", "raw", "-c", "write 0 512", path]).output().unwrap();
    let words = String::from_utf8_lossy(&said.stderr).into_owned() + &String::from_utf8_lossy(&said.stdout);
    assert!(words.contains("wrote 512/512") || words.contains("Failed to get"), "{words}");
    words.contains("wrote 512/512")
}

/// A process that has an image open to write into it.
struct User(Child);

impl User {
    fn of(path: &str) -> Self {
        let mut command = Command::new("qemu-io");
        command.args(["-f", "raw", path]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut user = Self(command.spawn().unwrap());
        user.0.stdin.as_ref().unwrap().write_all(b"write 0 512\n").unwrap();
        let mut said = BufReader::new(user.0.stdout.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap().contains("wrote 512/512")), "{path} is not open");
        user
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// What QEMU says of a device: the file, and whether it only reads it.
fn block(world: &World, device: &str) -> Option<Value> {
    let blocks = Qmp::of(world).ask("query-block");
    blocks
        .as_array()
        .unwrap()
        .iter()
        .find(|block| block["qdev"].as_str().is_some_and(|id| id.contains(device)))
        .cloned()
}

fn has(world: &World, device: &str) -> bool {
    block(world, device).is_some_and(|block| block["inserted"].is_object())
}

/// A disk comes, survives a new QEMU and a new launcher, and goes.
fn disks_come_and_go(world: &World, fields: &str, driver: &str) {
    image(world, "boot.raw");
    let data = image(world, "data.raw");
    let owner = std::fs::metadata(&data).unwrap().uid();
    let machine = world.machine(&format!("{fields}, on_reboot: Relaunch"));
    let mut launcher = world.run(&machine);
    Serial::of(world).says("HELLO");
    launcher.tells(" runs (");
    let given = world.done(&["attach", &world.name, "./data.raw", "--serial", "abc", "--json"]).with(0).json();
    assert_eq!(given["attached"], data);
    let property = |name: &str| {
        Qmp::of(world).ask_with("qom-get", json!({ "path": "/machine/peripheral/hot-0", "property": name }))
    };
    assert_eq!((property("type"), property("serial")), (driver.into(), "abc".into()));
    assert!(has(world, "hot-0") && !is_free(&data));
    assert_eq!(std::fs::metadata(&data).unwrap().uid(), owner);
    if fields.contains("boot.raw") {
        let own = world.done(&["attach", &world.name, "./boot.raw"]).with(1);
        assert!(own.err.contains("boot.raw already: its machine file names "), "{own:?}");
    }
    let twice = world.done(&["attach", &world.name, &data]).with(1);
    assert!(twice.err.contains(&format!("not attached: the guest has {data} already")), "{twice:?}");

    let qemu = world.pid("qemu");
    Serial::of(world).leave_with("r");
    other_qemu(world, qemu);
    drop(Serial::of_running(world));
    assert!(has(world, "hot-0") && !is_free(&data));

    launcher.signal(Signal::SIGKILL);
    launcher.ended();
    let mut adopts = world.start(world.command(&["recover", "--adopt", &world.name]));
    adopts.tells(" runs (");
    let taken = world.done(&["detach", &world.name, "data.raw"]);
    assert!(taken.code != Some(0), "a name without a slash is no disk's: {taken:?}");
    world.done(&["detach", &world.name, "./data.raw"]).with(0);
    assert!(!has(world, "hot-0") && is_free(&data));
    let gone = world.done(&["detach", &world.name, &data]).with(1);
    assert!(gone.err.contains("was not attached to the guest"), "{gone:?}");
    // Read-only this time; what it is, its name tells.
    let copy = world.path("copy.qcow2");
    let made = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&copy).arg("1M").status().unwrap();
    assert!(made.success());
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o644)).unwrap();
    world.done(&["attach", &world.name, "./copy.qcow2", "--read-only"]).with(0);
    let inserted = block(world, "hot-0").unwrap()["inserted"].clone();
    assert_eq!((&inserted["ro"], &inserted["drv"]), (&true.into(), &"qcow2".into()));
    Serial::of(world).leave_with("q");
    adopts.ended().with(0);
    assert_eq!(std::fs::metadata(&data).unwrap().uid(), owner);
}

const SCSI: &str = "disks: [(file: \"boot.raw\", bus: VirtioScsi)]";

#[test]
fn a_disk_comes_and_goes_on_the_scsi_controller_or_by_usb() {
    each(|world| {
        disks_come_and_go(world, SCSI, "scsi-hd");
        world.is_clean();
        disks_come_and_go(world, "usb: []", "usb-storage");
    });
}

#[test]
#[ignore = "must be root, whose QEMU has no right to the images"]
fn a_disk_of_roots_reaches_qemu_and_stays_roots() {
    each_as_root(|world| disks_come_and_go(world, SCSI, "scsi-hd"));
}

#[test]
fn what_is_no_disk_is_refused_by_the_one_who_asks() {
    each(|world| {
        let mut launcher = world.run(&world.machine("guest: Other"));
        Serial::of(world).says("HELLO");
        launcher.tells(" runs (");
        let data = image(world, "data.raw");
        world.file("disguised.raw", b"QFI\xfb\0\0\0\x03".repeat(64));
        world.file("foreign.vmdk", b"KDMV".repeat(128));
        world.file("notes", "a list\n");
        let data = data.as_str();
        for (device, words) in [
            (vec!["/nonexistent/a.raw"], "/nonexistent/a.raw does not exist"),
            (vec!["./dataa.raw"], "data.raw?"),
            (vec!["/dev/null"], "/dev/null is neither a file nor a block device"),
            (vec!["./disguised.raw"], "use `--format qcow2` if you made it so"),
            (vec!["./foreign.vmdk"], "is an image in QEMU's format `vmdk`"),
            (vec![data, "--format", "qcow2"], "data.raw is no qcow2 image"),
            (vec!["./notes"], "is a text, and no disk's image; `--format raw` shows"),
            (vec![data], "has neither a SCSI nor a USB controller; `usb: []` in its file gives it one"),
        ] {
            let refused = world.done(&[vec!["attach", &world.name], device.clone()].concat()).with(1);
            assert!(refused.err.contains(words), "{device:?}: {refused:?}");
        }
        let usb = world.done(&["attach", &world.name, "046d:c547", "--read-only"]).with(2);
        assert!(usb.err.contains("--read-only: it is for disks"), "{usb:?}");
        let bare = world.done(&["attach", &world.name, "data.raw"]).with(2);
        assert!(bare.err.contains("./data.raw") && bare.err.contains("/dev/input/"), "{bare:?}");
        let serial = world.done(&["attach", &world.name, data, "--serial", ""]).with(2);
        assert!(serial.err.contains("1 to 20 printable ASCII characters"), "{serial:?}");
        let drive = world.done(&["cd", &world.name, data]).with(1);
        assert!(drive.err.contains("has no CD drive; `disks: [(media: Cd)]` in its file gives it one"), "{drive:?}");
        Serial::of(world).leave_with("q");
        launcher.ended().with(0);
    });
}

/// A CD comes into a drive and goes, also into one that had another from the start.
fn cds_come_and_go(world: &World) {
    let (new, old) = (image(world, "new.iso"), image(world, "old.iso"));
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o644)).unwrap();
    let machine = world.machine("disks: [(media: Cd), (file: \"old.iso\", bus: VirtioScsi)], on_reboot: Relaunch");
    let mut launcher = world.run(&machine);
    Serial::of(world).says("HELLO");
    launcher.tells(" runs (");
    let which = world.done(&["cd", &world.name, &new]).with(1);
    assert!(which.err.contains("name one of them with `--drive`: disk0, disk1"), "{which:?}");
    let word = world.done(&["cd", &world.name, "eject"]).with(2);
    assert!(word.err.contains(&format!("`vfio-run cd {} --eject`", world.name)), "{word:?}");
    let missing = world.done(&["cd", &world.name, "missing.iso", "--drive", "disk0"]).with(1);
    assert!(missing.err.contains("missing.iso does not exist"), "{missing:?}");
    let put =
        |file: &str, drive: &str| world.done(&["cd", &world.name, file, "--drive", drive, "--json"]).with(0).json();
    let given = put("new.iso", "disk0");
    assert_eq!((&given["drive"], &given["inserted"]), (&"disk0".into(), &new.as_str().into()));
    // An image in use is refused, and the drive keeps its CD.
    let busy = image(world, "busy.iso");
    let user = User::of(&busy);
    let refused = world.done(&["cd", &world.name, &busy, "--drive", "disk0"]).with(1);
    assert!(refused.err.contains("lock") && !refused.err.contains("is empty now"), "{refused:?}");
    let drive = block(world, "disk0").unwrap();
    assert_eq!((&drive["inserted"]["node-name"].is_string(), &drive["tray_open"]), (&true, &false.into()), "{drive}");
    drop(user);
    // The one that the plan put in is let go.
    put("new.iso", "disk1");
    let nodes = Qmp::of(world).ask("query-named-block-nodes");
    let names: Vec<&str> = nodes.as_array().unwrap().iter().filter_map(|node| node["node-name"].as_str()).collect();
    assert!(!names.iter().any(|name| name.starts_with("disk1")) && is_free(&old), "{names:?}");
    let empty = world.done(&["cd", &world.name, "--eject", "--drive", "disk1", "--json"]).with(0).json();
    assert_eq!((&empty["drive"], &empty["ejected"]), (&"disk1".into(), &true.into()));
    assert!(has(world, "disk0") && !has(world, "disk1"));

    let qemu = world.pid("qemu");
    Serial::of(world).leave_with("r");
    other_qemu(world, qemu);
    drop(Serial::of_running(world));
    assert!(has(world, "disk0") && !has(world, "disk1"), "a new QEMU has what the one before had");
    world.done(&["cd", &world.name, &old, "--drive", "disk1"]).with(0);
    assert!(has(world, "disk1"));
    Serial::of(world).leave_with("q");
    launcher.ended().with(0);
    assert!(Path::new(&new).exists());
}

#[test]
fn a_cd_comes_and_goes() {
    each(cds_come_and_go);
}

#[test]
#[ignore = "must be root, whose QEMU has no right to the images"]
fn a_cd_of_roots_comes_and_goes() {
    each_as_root(cds_come_and_go);
}

/// Has the guest do something again and again until it succeeds: it learns of what is plugged in a little later.
fn soon(command: &str) -> String {
    format!("for n in $(seq 30); do {command} 2>/dev/null && break; sleep 1; done")
}

/// A Linux guest reads and writes a disk that comes while it runs, and loses it again.
fn linux_uses_a_disk(world: &World, guest: &mut Linux, device: &str) {
    let data = world.file("data.raw", [b"before".as_slice(), &[0; MIB - 6]].concat());
    world.done(&["attach", &world.name, "./data.raw"]).with(0);
    assert_eq!(guest.ask(&soon(&format!("dd if={device} bs=6 count=1"))), "before");
    guest.ask(&format!("printf written | dd of={device} bs=512 seek=1 conv=fsync 2>/dev/null"));
    world.done(&["detach", &world.name, "./data.raw"]).with(0);
    assert_eq!(std::fs::read(&data).unwrap()[512..519], *b"written");
    guest.ask(&soon(&format!("test ! -e {device}")));
    guest.ask(&format!("test ! -e {device}"));
}

#[test]
fn linux_uses_disks_and_cds_that_come_while_it_runs() {
    each(|world| {
        image(world, "boot.raw");
        world.file("new.iso", [b"inserted".as_slice(), &[0; MIB - 8]].concat());
        let mut guest = Linux::start(world, "disks: [(file: \"boot.raw\", bus: VirtioScsi), (media: Cd)]");
        linux_uses_a_disk(world, &mut guest, "/dev/sdb");
        guest.ask("! dd if=/dev/sr0 bs=8 count=1 2>/dev/null");
        world.done(&["cd", &world.name, "new.iso"]).with(0);
        // Beside what the kernel says on the console of a drive that has something else than before.
        let read = guest.ask(&soon("dd if=/dev/sr0 bs=8 count=1"));
        assert!(read.ends_with("inserted"), "{read}");
        world.done(&["cd", &world.name, "--eject"]).with(0);
        guest.ask("! dd if=/dev/sr0 bs=8 count=1 2>/dev/null");
        guest.power_off();
        world.is_clean();

        let mut guest = Linux::start(world, "usb: []");
        linux_uses_a_disk(world, &mut guest, "/dev/sda");
        guest.power_off();
    });
}
