//! Memory that the guest shares with a program of the host.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use nix::sys::signal::Signal;

use super::talk::Serial;
use super::world::{World, each, each_as_root};

/// Where Looking Glass looks for its memory.
pub const FILE: &str = "/dev/shm/looking-glass";

/// The tests that make the memory, of which a host has one, one after the other.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    assert!(!Path::new(FILE).exists(), "{FILE} is in the way");
    alone
}

/// Whether the process has this very file mapped, and shares it.
fn maps(pid: i32, inode: u64) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    maps.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(1).is_some_and(|rights| *rights == "rw-s") && fields.get(4) == Some(&inode.to_string().as_str())
    })
}

fn is_made_mapped_and_removed(world: &World) {
    let scream = format!("/dev/shm/scream-{}", world.name);
    let machine = world.machine("looking_glass: (width: 640, height: 480), scream: true");
    let launcher = world.run(&machine);
    let mut guest = Serial::of(world);
    guest.says("HELLO");
    let qemu = world.pid("qemu");
    let owner = std::fs::metadata(format!("/proc/{qemu}")).unwrap().uid();
    for (file, size) in [(FILE, 16 << 20), (scream.as_str(), 2 << 20)] {
        let meta = std::fs::metadata(file).unwrap();
        assert_eq!((meta.uid(), meta.len(), meta.permissions().mode() & 0o7777), (owner, size, 0o660), "{file}");
        assert!(maps(qemu, meta.ino()), "{file}");
    }
    guest.type_in("q");
    launcher.ended().with(0);
    assert!(!Path::new(FILE).exists() && !Path::new(&scream).exists());

    // A launcher that dies leaves it to `recover`.
    let launcher = world.run(&machine);
    let mut guest = Serial::of(world);
    guest.says("HELLO");
    launcher.signal(Signal::SIGKILL);
    launcher.ended();
    guest.type_in("q");
    world.guest_has_ended();
    assert!(Path::new(FILE).exists());
    world.done(&["recover", &world.name]).with(0);
    assert!(!Path::new(FILE).exists() && !Path::new(&scream).exists());
}

#[test]
fn the_memory_of_looking_glass_is_made_mapped_and_removed() {
    let _alone = alone();
    each(is_made_mapped_and_removed);
}

#[test]
#[ignore = "needs root, to run QEMU as a user of its own"]
fn so_is_that_of_a_qemu_with_a_user_of_its_own() {
    let _alone = alone();
    each_as_root(is_made_mapped_and_removed);
}

#[test]
fn a_second_machine_of_the_same_user_does_not_draw_into_it() {
    let _alone = alone();
    each(|world| {
        let machine = world.machine("looking_glass: (size: \"1 MiB\")");
        let launcher = world.run(&machine);
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        let text = std::fs::read_to_string(&machine).unwrap();
        let name = format!("\"{}\"", world.name);
        let second = world.file("second.ron", text.replace(&name, &format!("\"{}-2\"", world.name)));
        let start = || world.done(&["check", second.to_str().unwrap()]);
        let refused = start().with(3);
        let words = format!("the machine {} has the memory of Looking Glass", world.name);
        assert!(refused.out.contains(&words), "{refused:?}");
        // Its launcher is no way around that: the memory is still its guest's.
        launcher.signal(Signal::SIGKILL);
        launcher.ended();
        assert!(start().with(3).out.contains(&words));
        guest.type_in("?").says("HERE").type_in("q");
        world.guest_has_ended();
        world.done(&["recover", &world.name]).with(0);
        let free = start();
        assert!(!free.out.contains(&words), "{free:?}");
    });
}
