//! The dead-man switch: who shows life keeps the devices, who does not is ended in time.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use super::talk::{Qmp, Serial};
use super::world::{World, each};

/// Long enough for a QEMU on a busy machine to get its guest going, short enough to wait for.
const WITHIN: u64 = 10;

/// A machine with a disk and a switch.
fn machine(world: &World, sign: &str) -> std::path::PathBuf {
    world.file("disk.raw", vec![0; 4 << 20]);
    let switch = format!("give_back_unless: (sign: {sign}, within: {WITHIN})");
    world.machine(&format!("disks: [(file: \"disk.raw\", cache: Writeback, aio: Threads)], {switch}"))
}

/// Waits until the switch would long have gone off, then sees that the guest is there.
fn is_there_after(world: &World, start: Instant, guest: &mut Serial) {
    let past = Duration::from_secs(WITHIN + 1);
    std::thread::sleep(past.saturating_sub(start.elapsed()));
    guest.type_in("?").says("HERE");
    assert!(world.run_dir().join("alive").exists());
}

#[test]
fn a_guest_without_a_sign_of_life_is_ended_in_time() {
    each(|world| {
        let start = Instant::now();
        let launcher = world.run(&machine(world, "Any"));
        let ended = launcher.ended().with(4);
        assert!(start.elapsed() >= Duration::from_secs(WITHIN), "{:?}", start.elapsed());
        let words = format!("a sign of life did not show within {WITHIN} s");
        assert!(ended.err.contains(&words) && ended.err.contains("the host is as it was"), "{ended:?}");
    });
}

#[test]
fn a_guest_that_somebody_sees_live_is_left_alone_also_by_the_next_launcher() {
    each(|world| {
        let start = Instant::now();
        let mut launcher = world.run(&machine(world, "GuestAgent"));
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        launcher.tells(" runs (");
        world.done(&["alive", &world.name]).with(0);
        launcher.tells("shows a sign of life: `vfio-run alive`");
        is_there_after(world, start, &mut guest);

        launcher.signal(Signal::SIGKILL);
        launcher.ended();
        let start = Instant::now();
        let mut next = world.start(world.command(&["recover", "--adopt", &world.name]));
        next.tells(" runs (");
        is_there_after(world, start, &mut guest);
        guest.type_in("q");
        next.ended().with(0);
        assert!(world.done(&["alive", &world.name]).with(1).err.contains("does not run"));
    });
}

#[test]
fn a_guest_that_writes_to_its_disk_lives() {
    each(|world| {
        let start = Instant::now();
        let mut launcher = world.run(&machine(world, "Disk"));
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        // As the device does it for the guest, so that QEMU counts it.
        let write = "qemu-io -d /machine/peripheral/disk0/virtio-backend \"aio_write 0 2M\"";
        Qmp::of(world).ask_with("human-monitor-command", json!({ "command-line": write }));
        launcher.tells("shows a sign of life: more than 1 MiB written");
        is_there_after(world, start, &mut guest);
        guest.type_in("q");
        launcher.ended().with(0);
    });
}

#[test]
fn a_qemu_that_never_lets_the_guest_go_is_ended_in_time() {
    each(|world| {
        // It answers what it can do, and hangs when it is to run this machine.
        let (name, real) = (&world.name, world.qemu());
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in *guest={name}*) exec sleep 600;; esac\nexec '{}' \"$@\"\n",
            real.display()
        );
        let qemu = world.file("qemu", script);
        std::fs::set_permissions(&qemu, std::fs::Permissions::from_mode(0o755)).unwrap();
        let start = Instant::now();
        let machine = world.machine(&format!("qemu: {qemu:?}, give_back_unless: (within: 2)"));
        let ended = world.run(&machine).ended().with(4);
        assert!(ended.err.contains("QEMU was not ready in time"), "{ended:?}");
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    });
}

#[test]
fn asking_for_the_end_takes_the_switch_s_place() {
    each(|world| {
        let mut launcher = world.run(&machine(world, "Any"));
        let mut guest = Serial::of(world);
        guest.says("HELLO").type_in("i").says("IGNORING");
        let start = Instant::now();
        launcher.signal(Signal::SIGTERM);
        launcher.tells("asking");
        std::thread::sleep(Duration::from_secs(WITHIN + 1).saturating_sub(start.elapsed()));
        guest.type_in("?").says("HERE").type_in("q");
        launcher.ended().with(0);
    });
}
