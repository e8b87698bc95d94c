//! `on_reboot: Relaunch`: the guest restarts in a new QEMU, on the host as it is.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::launcher::wait_for;
use super::talk::{Qmp, Serial};
use super::world::{World, each, each_as_root};

/// The new QEMU's number, once the guest runs in it.
pub fn other_qemu(world: &World, old: i32) -> i32 {
    wait_for("a new QEMU", || {
        let records = world.journal();
        (records.last().is_some_and(|record| record == "running") && world.pid("qemu") != old)
            .then(|| world.pid("qemu"))
    })
}

#[test]
fn a_restart_is_a_new_qemu_with_new_helpers_and_the_same_host() {
    each(|world| {
        let hooks = "hooks: (before: [[\"/usr/bin/true\"]], running: [[\"/usr/bin/true\"]])";
        let mut launcher = world.run(&world.machine(&format!("on_reboot: Relaunch, tpm: V2, {hooks}")));
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        launcher.tells(" runs (");
        let (mut qemu, swtpm) = (world.pid("qemu"), world.pid("swtpm"));
        for _ in 0..2 {
            guest.type_in("r");
            qemu = other_qemu(world, qemu);
            guest = Serial::of_running(world);
        }
        assert_ne!(world.pid("swtpm"), swtpm);
        assert!(launcher.messages().contains("restarts: QEMU is started anew"));
        // One over QMP as well.
        Qmp::of(world).ask("system_reset");
        other_qemu(world, qemu);
        Serial::of_running(world).leave_with("q");
        launcher.ended().with(0);
        assert_eq!(world.log().matches(" runs the hook ").count(), 2, "{}", world.log());
    });
}

#[test]
fn a_dead_man_switch_waits_on_while_the_guest_restarts_and_anew_after_a_sign() {
    const WITHIN: u64 = 10;
    each(|world| {
        let switch = format!("on_reboot: Relaunch, give_back_unless: (sign: GuestAgent, within: {WITHIN})");
        let mut launcher = world.run(&world.machine(&switch));
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        launcher.tells(" runs (");
        world.done(&["alive", &world.name]).with(0);
        assert!(world.run_dir().join("alive").exists());
        let (qemu, start) = (world.pid("qemu"), Instant::now());
        guest.type_in("r");
        let qemu = other_qemu(world, qemu);
        assert!(!world.run_dir().join("alive").exists());
        let mut guest = Serial::of_running(world);
        // Late enough for a switch that begins anew to be told from one that goes on.
        std::thread::sleep(Duration::from_secs(WITHIN * 2 / 3).saturating_sub(start.elapsed()));
        guest.type_in("r");
        other_qemu(world, qemu);
        let again = Instant::now();
        let ended = launcher.ended().with(4);
        assert!(ended.err.contains("did not show within"), "{ended:?}");
        assert!(start.elapsed() >= Duration::from_secs(WITHIN), "{:?}", start.elapsed());
        assert!(again.elapsed() < Duration::from_secs(WITHIN), "{:?}", again.elapsed());
    });
}

#[test]
fn a_guest_that_was_asked_to_end_and_restarts_has_ended() {
    each(|world| {
        let mut launcher = world.run(&world.machine("on_reboot: Relaunch"));
        let mut guest = Serial::of(world);
        guest.says("HELLO").type_in("i").says("IGNORING");
        launcher.signal(Signal::SIGTERM);
        launcher.tells("asking");
        guest.type_in("r");
        launcher.ended().with(0);
    });
}

#[test]
fn a_signal_while_qemu_is_started_anew_ends_the_run_in_good_order() {
    each(|world| {
        let mut launcher = world.run(&world.machine("on_reboot: Relaunch"));
        let mut guest = Serial::of(world);
        guest.says("HELLO").type_in("r");
        launcher.tells("QEMU is started anew");
        launcher.signal(Signal::SIGTERM);
        // It comes before the guest runs, or presses the power button of the new one.
        launcher.ended().with(0);
    });
}

#[test]
fn a_launcher_killed_at_a_restart_is_recovered_from_and_one_that_adopts_starts_anew_too() {
    each(|world| {
        let mut launcher = world.run(&world.machine("on_reboot: Relaunch"));
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        launcher.tells(" runs (");
        launcher.signal(Signal::SIGKILL);
        launcher.ended();
        let mut adopter = world.start(world.command(&["recover", "--adopt", &world.name]));
        adopter.tells(" runs (");
        let qemu = world.pid("qemu");
        guest.type_in("r");
        other_qemu(world, qemu);
        let mut guest = Serial::of_running(world);
        // Killed as soon as it is about to start QEMU anew: the guest is gone, or has not run.
        guest.type_in("r");
        wait_for("another restart", || world.journal().last().is_some_and(|record| record != "running").then_some(()));
        adopter.signal(Signal::SIGKILL);
        adopter.ended();
        let recovered = world.done(&["recover", &world.name]).with(0);
        assert!(recovered.err.contains("as it was"), "{recovered:?}");
    });
}

#[test]
#[ignore = "changes the host's huge pages"]
fn as_root_the_guest_has_its_huge_pages_again() {
    each_as_root(|world| {
        let pages = "memory: (size: \"32 MiB\", pages: Huge(\"2 MiB\"))";
        let mut launcher = world.run(&world.machine(&format!("on_reboot: Relaunch, {pages}")));
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        launcher.tells(" runs (");
        let qemu = world.pid("qemu");
        guest.type_in("r");
        let qemu = other_qemu(world, qemu);
        let maps = std::fs::read_to_string(format!("/proc/{qemu}/maps")).unwrap();
        assert!(maps.contains("hugetlb") || maps.contains("memfd:"), "{maps}");
        Serial::of_running(world).leave_with("q");
        launcher.ended().with(0);
    });
}
