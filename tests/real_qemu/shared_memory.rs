//! Memory that the guest shares with a program of the host.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use nix::sys::signal::Signal;

use super::talk::Serial;
use super::world::{World, each};

/// Where Looking Glass looks for its memory.
pub const FILE: &str = "/dev/shm/looking-glass";

/// The tests that make the memory, of which a host has one, one after the other.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|e| e.into_inner())
}

/// Whether the process has this very file mapped, and shares it.
fn maps(pid: i32, inode: u64) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    maps.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(1).is_some_and(|rights| *rights == "rw-s") && fields.get(4) == Some(&inode.to_string().as_str())
    })
}

#[test]
fn the_memory_of_looking_glass_is_made_mapped_and_removed() {
    let _alone = alone();
    assert!(!Path::new(FILE).exists(), "{FILE} is in the way");
    each(|world: &World| {
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
    });
}
