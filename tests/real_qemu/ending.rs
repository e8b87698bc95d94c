//! How guests end, and what is told of it.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::launcher::{Launcher, wait_for};
use super::talk::{Qmp, Serial};
use super::world::each;

#[test]
fn a_reboot_stays_in_the_same_run() {
    each(|world| {
        let launcher = world.run(&world.machine("serial: Socket"));
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        let mut qmp = Qmp::of(world);
        let qemu = world.pid("qemu");
        guest.type_in("r");
        qmp.event("RESET");
        guest.says("HELLO").type_in("?").says("HERE");
        assert_eq!(world.pid("qemu"), qemu);
        assert!(launcher.messages().contains("restarts"));
        guest.type_in("q");
        launcher.ended().with(0);
    });
}

#[test]
fn sigterm_presses_the_power_button() {
    each(|world| {
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
            let launcher = world.run(&world.machine("serial: Socket"));
            let mut guest = Serial::of(world);
            guest.says("HELLO");
            // These mean nothing, and are no reason to leave the guest alone.
            launcher.signal(Signal::SIGUSR1);
            launcher.signal(Signal::SIGUSR2);
            guest.type_in("?").says("HERE");
            launcher.signal(signal);
            guest.says("BUTTON");
            launcher.ended().with(0);
            world.is_clean();
        }
    });
}

#[test]
fn the_second_sigterm_ends_a_guest_that_does_not_listen() {
    each(|world| {
        let mut launcher = world.run(&world.machine("serial: Socket"));
        let mut guest = Serial::of(world);
        guest.says("HELLO").type_in("i").says("IGNORING");
        launcher.signal(Signal::SIGTERM);
        launcher.tells("asking");
        insist(&launcher, Signal::SIGTERM);
        let ended = launcher.ended().with(4);
        assert!(ended.err.contains("forcing QEMU to quit") && ended.err.contains("was forced to quit"), "{ended:?}");
    });
}

#[test]
fn signals_that_come_together_do_not_insist() {
    each(|world| {
        let mut launcher = world.run(&world.machine("serial: Socket"));
        let mut guest = Serial::of(world);
        guest.says("HELLO").type_in("i").says("IGNORING");
        // A session that is stopped sends both at once, and the terminal that goes with it a third.
        launcher.signal(Signal::SIGTERM);
        launcher.signal(Signal::SIGHUP);
        launcher.tells("SIGTERM").tells("SIGHUP");
        launcher.signal(Signal::SIGHUP);
        wait_for("the third signal", || (launcher.messages().matches("SIG").count() >= 3).then_some(()));
        guest.type_in("?").says("HERE");
        assert!(!launcher.messages().contains("forcing QEMU to quit"), "{}", launcher.messages());
        // A person who goes on pressing Ctrl-C is heard.
        insist(&launcher, Signal::SIGINT);
        launcher.ended().with(4);
    });
}

/// Sends a signal until it is taken for a second one.
fn insist(launcher: &Launcher, signal: Signal) {
    wait_for("a second signal", || {
        launcher.signal(signal);
        launcher.messages().contains("forcing QEMU to quit").then_some(())
    });
}

#[test]
fn a_hung_guest_is_ended_at_the_deadline() {
    each(|world| {
        let launcher = world.run(&world.machine("shutdown_timeout: 1"));
        let mut guest = Serial::of(world);
        guest.says("HELLO").type_in("h").says("HANGING");
        let start = Instant::now();
        let stop = world.done(&["stop", &world.name]).with(0);
        let ended = launcher.ended().with(4);
        assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
        assert!(ended.err.contains("did not power off"), "{ended:?} {stop:?}");
    });
}

#[test]
fn a_hung_qemu_is_killed() {
    each(|world| {
        let launcher = world.run(&world.machine("serial: Socket"));
        Serial::of(world).says("HELLO");
        let qemu = world.pid("qemu");
        kill(Pid::from_raw(qemu), Signal::SIGSTOP).unwrap();
        let mut first = world.start(world.command(&["stop", "--force", &world.name]));
        first.tells("waiting until");
        world.done(&["stop", "--force", &world.name]).with(0);
        first.ended().with(0);
        let ended = launcher.ended().with(4);
        assert!(ended.err.contains("killing QEMU"), "{ended:?}");
    });
}

#[test]
fn stop_by_force_does_not_ask_the_guest() {
    each(|world| {
        let launcher = world.run(&world.machine("serial: Socket"));
        Serial::of(world).says("HELLO");
        let start = Instant::now();
        world.done(&["stop", "--force", &world.name]).with(0);
        launcher.ended().with(4);
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    });
}

#[test]
fn a_killed_qemu_is_told_with_its_log() {
    each(|world| {
        let launcher = world.run(&world.machine("serial: Socket"));
        Serial::of(world).says("HELLO");
        kill(Pid::from_raw(world.pid("qemu")), Signal::SIGKILL).unwrap();
        let ended = launcher.ended().with(4);
        assert!(ended.err.contains("signal: 9"), "{ended:?}");
        assert!(ended.err.contains(&format!("{}.log", world.name)), "{ended:?}");
    });
}

#[test]
fn a_panic_of_the_guest_is_a_crash() {
    each(|world| {
        let launcher = world.run(&world.machine("panic_device: ()"));
        let mut guest = Serial::of(world);
        guest.says("HELLO").type_in("p");
        let ended = launcher.ended().with(4);
        assert!(ended.err.contains("panicked") && ended.err.contains("crashed"), "{ended:?}");
    });
}

#[test]
fn a_guest_that_panicked_can_be_looked_at() {
    each(|world| {
        let mut launcher = world.run(&world.machine("panic_device: (action: Pause)"));
        let mut guest = Serial::of(world);
        guest.says("HELLO").type_in("p");
        launcher.tells("panicked");
        assert_eq!(Qmp::of(world).ask("query-status")["status"], "guest-panicked");
        world.done(&["stop", "--force", &world.name]).with(0);
        launcher.ended().with(4);
    });
}

#[test]
fn quit_by_the_user_is_no_crash() {
    each(|world| {
        let launcher = world.run(&world.machine("serial: Socket"));
        Serial::of(world).says("HELLO");
        Qmp::of(world).ask("quit");
        launcher.ended().with(0);
    });
}

#[test]
fn a_signal_before_the_guest_runs_ends_the_start() {
    each(|world| {
        let launcher = world.run(&world.machine("serial: Socket"));
        // The socket is there before QEMU is.
        let _guest = Serial::of(world);
        launcher.signal(Signal::SIGTERM);
        // It may have been let go just before, and then powers off as soon as it listens.
        let ended = launcher.ended();
        assert!(matches!(ended.code, Some(0 | 1)), "{ended:?}");
    });
}

#[test]
fn what_nohup_started_outlives_the_terminal() {
    each(|world| {
        let machine = world.machine("serial: Socket");
        let nohup = world.wrapped(&["env", "--ignore-signal=HUP"], &["run", machine.to_str().unwrap()]);
        let mut launcher = world.start(nohup);
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        launcher.tells(" runs (");
        launcher.signal(Signal::SIGHUP);
        guest.type_in("?").says("HERE");
        launcher.signal(Signal::SIGTERM);
        guest.says("BUTTON");
        let ended = launcher.ended().with(0);
        assert!(!ended.err.contains("SIGHUP"), "{ended:?}");
    });
}

#[test]
fn a_session_that_ends_asks_the_guest_and_does_not_cut_its_power() {
    each(|world| {
        // As a user QEMU is in the launcher's own cgroup, where a session's end sends everybody both signals at once.
        let launcher = world.run(&world.machine("serial: Socket"));
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        let qemu = Pid::from_raw(world.pid("qemu"));
        for signal in [Signal::SIGTERM, Signal::SIGHUP] {
            kill(qemu, signal).unwrap();
        }
        guest.type_in("?").says("HERE");
        launcher.signal(Signal::SIGTERM);
        launcher.signal(Signal::SIGHUP);
        guest.says("BUTTON");
        let ended = launcher.ended().with(0);
        assert!(ended.err.contains("has ended (guest-shutdown)"), "{ended:?}");
    });
}
