//! What people press on a machine that runs: pause, resume, reset, the power button, keys.

use std::path::Path;

use nix::sys::signal::Signal;

use super::launcher::{Launcher, wait_for};
use super::relaunch::other_qemu;
use super::talk::{Qmp, Serial};
use super::world::{World, each};

fn runs(world: &World, machine: &Path) -> (Launcher, Serial) {
    let mut launcher = world.run(machine);
    let mut guest = Serial::of(world);
    guest.says("HELLO");
    launcher.tells(" runs (");
    (launcher, guest)
}

/// A verb that does what it is asked for; the state that it tells.
fn state_after(world: &World, words: &[&str]) -> String {
    let told = world.done(&[words, &["--json"]].concat()).with(0).json();
    told["state"].as_str().unwrap().to_owned()
}

fn refused(world: &World, words: &[&str], why: &str) {
    let refused = world.done(words).with(1);
    assert!(refused.err.contains(why), "{words:?}: {refused:?}");
}

#[test]
fn a_paused_guest_goes_on_and_what_makes_no_sense_is_refused() {
    each(|world| {
        let name = world.name.as_str();
        refused(world, &["pause", name], "does not run");
        let (launcher, mut guest) = runs(world, &world.machine("guest: Other"));
        refused(world, &["resume", name], "runs already");
        assert_eq!(state_after(world, &["pause", name]), "paused");
        assert_eq!(Qmp::of(world).ask("query-status")["status"], "paused");
        assert_eq!(world.done(&["status", name, "--json"]).with(0).json()["state"], "paused");
        refused(world, &["pause", name], "is paused already");
        refused(world, &["send-key", name, "a"], "is paused, and reads no keys");
        assert_eq!(state_after(world, &["resume", name]), "running");
        guest.type_in("?").says("HERE");
        // As a board that is reset, it runs.
        assert_eq!(state_after(world, &["pause", name]), "paused");
        assert_eq!(state_after(world, &["reset", name]), "running");
        assert_eq!(Qmp::of(world).ask("query-status")["status"], "running");
        guest.says("HELLO").type_in("?").says("HERE");
        assert_eq!(state_after(world, &["reset", name]), "running");
        guest.says("HELLO").type_in("q");
        launcher.ended().with(0);
    });
}

#[test]
fn a_paused_guest_hears_the_power_button_of_stop_and_of_powerdown() {
    each(|world| {
        let name = world.name.as_str();
        for verb in ["stop", "powerdown"] {
            let (launcher, mut guest) = runs(world, &world.machine("guest: Other"));
            assert_eq!(state_after(world, &["pause", name]), "paused");
            world.done(&[verb, name]).with(0);
            guest.says("BUTTON");
            launcher.ended().with(0);
            world.is_clean();
        }
    });
}

#[test]
fn powerdown_presses_once_and_leaves_the_guest_its_time() {
    each(|world| {
        let name = world.name.as_str();
        let (launcher, mut guest) = runs(world, &world.machine("guest: Other, shutdown_timeout: 1"));
        guest.type_in("i").says("IGNORING");
        let pressed = world.done(&["powerdown", name, "--json"]).with(0).json();
        assert_eq!((&pressed["pressed"], &pressed["state"]), (&true.into(), &"running".into()));
        guest.type_in("?").says("HERE");
        // `stop` has a limit and force at its end; while it waits, nothing brings the guest back.
        let mut stop = world.start(world.command(&["stop", name]));
        stop.tells("waiting until");
        launcher.signal(Signal::SIGTERM);
        stop.ended().with(0);
        launcher.ended().with(4);
    });
}

#[test]
fn a_guest_that_was_asked_to_end_is_neither_paused_nor_reset() {
    each(|world| {
        let name = world.name.as_str();
        let (launcher, mut guest) = runs(world, &world.machine("guest: Other"));
        guest.type_in("i").says("IGNORING");
        let stop = world.start(world.command(&["stop", name]));
        wait_for("the request", || {
            (world.done(&["status", name, "--json"]).json()["state"] == "stopping").then_some(())
        });
        refused(world, &["pause", name], "was asked to end, and would be continued for that");
        refused(world, &["reset", name], "was asked to end, and a guest that restarts would not");
        guest.type_in("q");
        stop.ended().with(0);
        launcher.ended().with(0);
    });
}

#[test]
fn a_restart_is_told_once_although_seabios_resets_the_board_twice() {
    each(|world| {
        let launcher = world.run(&world.machine("kernel: None"));
        wait_for("the guest", || world.done(&["status", &world.name]).out.contains(" running ").then_some(()));
        let mut qmp = Qmp::of(world);
        // SeaBIOS has noted how much memory there is, in the BIOS data area.
        wait_for("SeaBIOS", || {
            let look = serde_json::json!({ "command-line": "xp /1hx 0x413" });
            let told = qmp.ask_with("human-monitor-command", look);
            (!told.as_str().unwrap().contains("0x0000")).then_some(())
        });
        world.done(&["reset", &world.name]).with(0);
        let reasons = [qmp.event("RESET"), qmp.event("RESET")].map(|event| event["data"]["reason"].clone());
        assert_eq!(reasons, ["host-qmp-system-reset", "guest-reset"]);
        world.done(&["stop", "--force", &world.name]).with(0);
        let ended = launcher.ended().with(4);
        assert_eq!(ended.err.matches(" restarts\n").count(), 1, "{ended:?}");
    });
}

#[test]
fn a_guest_whose_dead_man_switch_waits_is_not_paused() {
    each(|world| {
        let name = world.name.as_str();
        let (launcher, mut guest) = runs(world, &world.machine("give_back_unless: (within: 600, sign: Confirmed)"));
        refused(world, &["pause", name], &format!("then `vfio-run alive {name}`"));
        world.done(&["alive", name]).with(0);
        assert_eq!(state_after(world, &["pause", name]), "paused");
        assert_eq!(state_after(world, &["resume", name]), "running");
        guest.type_in("q");
        launcher.ended().with(0);
    });
}

#[test]
fn a_reset_starts_qemu_anew_where_the_machine_wants_that() {
    each(|world| {
        let (launcher, _) = runs(world, &world.machine("on_reboot: Relaunch"));
        for paused in [false, true] {
            if paused {
                assert_eq!(state_after(world, &["pause", &world.name]), "paused");
            }
            let qemu = world.pid("qemu");
            assert_eq!(state_after(world, &["reset", &world.name]), "starting");
            other_qemu(world, qemu);
            drop(Serial::of_running(world));
            wait_for("its supervision", || {
                (world.done(&["status", &world.name, "--json"]).json()["state"] == "running").then_some(())
            });
        }
        Serial::of(world).leave_with("q");
        launcher.ended().with(0);
    });
}

#[test]
fn keys_reach_the_guest() {
    each(|world| {
        let name = world.name.as_str();
        let (launcher, mut guest) = runs(world, &world.machine("guest: Other"));
        guest.type_in("k");
        world.done(&["send-key", name, "Ctrl+Alt+Del", "--hold", "20"]).with(0);
        guest.says("KEYS");
        for (keys, why) in [("ctrl+alt+delte", "did you mean `delete`?"), ("", "a key is missing")] {
            let wrong = world.done(&["send-key", name, keys]).with(2);
            assert!(wrong.err.contains(why), "{wrong:?}");
        }
        guest.type_in("q");
        launcher.ended().with(0);
    });
}

#[test]
fn a_guest_that_panicked_is_reset_and_runs() {
    each(|world| {
        let name = world.name.as_str();
        let (launcher, mut guest) = runs(world, &world.machine("panic_device: (action: Pause)"));
        guest.type_in("p");
        wait_for("the panic", || (world.done(&["status", name, "--json"]).json()["state"] == "paused").then_some(()));
        assert_eq!(state_after(world, &["reset", name]), "running");
        guest.says("HELLO").type_in("?").says("HERE").type_in("q");
        launcher.ended().with(0);
    });
}
