//! A guest whose launcher was killed: it goes on, and somebody takes it over or puts the host back after it.

use nix::sys::signal::Signal;

use super::launcher::{Launcher, wait_for};
use super::talk::{Notified, Qmp, Serial};
use super::world::{World, each, own};

/// A guest that runs without a launcher.
fn orphan(world: &World, fields: &str) -> Serial {
    let mut launcher = world.run(&world.machine(fields));
    let mut guest = Serial::of(world);
    guest.says("HELLO");
    launcher.tells(" runs (");
    launcher.signal(Signal::SIGKILL);
    assert_eq!(launcher.ended().code, None);
    guest
}

/// Waits until a new launcher supervises the guest, and it is the same guest.
fn supervised(world: &World, launcher: &Launcher, qemu: i32, guest: &mut Serial) {
    wait_for("its supervision", || {
        let status = world.done(&["status", &world.name, "--json"]).with(0).json();
        (status["state"] == "running").then(|| {
            assert_eq!(status["launcher"], launcher.pid());
            assert_eq!(status["qemu"], qemu);
        })
    });
    guest.type_in("?").says("HERE");
}

#[test]
fn the_guest_outlives_its_launcher_and_everybody_knows() {
    each(|world| {
        let mut guest = orphan(world, "tpm: V2");
        guest.type_in("?").says("HERE");
        // Its reboot is nobody's business either.
        guest.type_in("r").says("HELLO");
        let status = world.done(&["status", "--json"]).with(0).json();
        assert_eq!(status[0]["name"], world.name.as_str());
        assert_eq!(status[0]["state"], "unsupervised");
        assert_eq!(status[0]["qemu"], world.pid("qemu"));
        assert!(status[0]["remedy"].as_str().unwrap().contains("recover --adopt"), "{status}");
        let refused = world.done(&["recover", &world.name]).with(1);
        assert!(refused.err.contains("recover --adopt"), "{refused:?}");
        let refused = world.done(&["recover"]).with(1);
        assert!(refused.err.contains(&world.name), "{refused:?}");
        let refused = world.done(&["stop", &world.name]).with(1);
        assert!(refused.err.contains("recover --adopt"), "{refused:?}");
        guest.type_in("?").says("HERE").type_in("q");
        world.guest_has_ended();
        let status = world.done(&["status", "--json"]).with(0).json();
        assert_eq!(status[0]["state"], "left-behind");
        let adopt = world.done(&["recover", "--adopt", &world.name]).with(1);
        assert!(adopt.err.contains("does not run"), "{adopt:?}");
        let done = world.done(&["recover", "--json"]).with(0).json();
        assert_eq!(done[0]["result"], "restored");
    });
}

#[test]
fn run_takes_the_guest_back() {
    each(|world| {
        let mut guest = orphan(world, "tpm: V2");
        let qemu = world.pid("qemu");
        let mut systemd = Notified::listen(world);
        let mut command = world.command(&["run", world.path("machine.ron").to_str().unwrap()]);
        systemd.by(&mut command);
        let launcher = world.start(command);
        systemd.hears("READY=1");
        supervised(world, &launcher, qemu, &mut guest);
        world.done(&["stop", &world.name]).with(0);
        guest.says("BUTTON");
        let ended = launcher.ended().with(0);
        assert!(ended.err.contains("this launcher takes it over"), "{ended:?}");
    });
}

#[test]
fn recover_adopts_and_notices_a_crash() {
    each(|world| {
        let mut guest = orphan(world, "serial: Socket");
        let qemu = world.pid("qemu");
        let launcher = world.start(world.command(&["recover", "--adopt", &world.name]));
        supervised(world, &launcher, qemu, &mut guest);
        let second = world.done(&["recover", "--adopt", &world.name]).with(1);
        assert!(second.err.contains(&format!("by process {}", launcher.pid())), "{second:?}");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(qemu), Signal::SIGKILL).unwrap();
        launcher.ended().with(4);
    });
}

#[test]
fn an_adopted_guest_can_lose_its_launcher_again() {
    each(|world| {
        let mut guest = orphan(world, "serial: Socket");
        let qemu = world.pid("qemu");
        for _ in 0..2 {
            let launcher = world.start(world.command(&["recover", "--adopt", &world.name]));
            supervised(world, &launcher, qemu, &mut guest);
            launcher.signal(Signal::SIGKILL);
            launcher.ended();
        }
        let launcher = world.start(world.command(&["recover", "--adopt", &world.name]));
        supervised(world, &launcher, qemu, &mut guest);
        guest.type_in("q");
        launcher.ended().with(0);
    });
}

#[test]
fn a_paused_orphan_is_adopted_as_what_it_is() {
    each(|world| {
        let mut guest = orphan(world, "serial: Socket");
        let mut qmp = Qmp::of(world);
        qmp.ask("stop");
        let mut launcher = world.start(world.command(&["recover", "--adopt", &world.name]));
        launcher.tells(&format!("{} is paused (", world.name));
        wait_for("its supervision", || {
            let status = world.done(&["status", &world.name, "--json"]).with(0).json();
            (status["state"] != "unsupervised" && status["state"] != "starting").then(|| {
                assert_eq!(status["state"], "paused");
            })
        });
        // It must be let go to hear the power button.
        world.done(&["stop", &world.name]).with(0);
        guest.says("BUTTON");
        launcher.ended().with(0);
    });
}

#[test]
fn a_guest_that_hangs_and_lost_its_launcher_is_ended_by_force() {
    each(|world| {
        let guest = orphan(world, "tpm: V2");
        let qemu = nix::unistd::Pid::from_raw(world.pid("qemu"));
        nix::sys::signal::kill(qemu, Signal::SIGSTOP).unwrap();
        for arguments in [vec!["stop", &world.name], vec!["recover", &world.name]] {
            let refused = world.done(&arguments).with(1);
            assert!(refused.err.contains("stop --force"), "{refused:?}");
        }
        let stopped = world.done(&["stop", "--force", "--json", &world.name]).with(0).json();
        assert_eq!(stopped, serde_json::json!({ "name": world.name, "stopped": true, "restored": true }));
        assert!(!world.run_dir().exists());
        drop(guest);
    });
}

#[test]
fn a_guest_that_let_go_of_its_lock_is_still_there() {
    each(|world| {
        let mut guest = orphan(world, "serial: Socket");
        // As if QEMU had unlocked it.
        std::fs::remove_file(world.run_dir().join("guest.lock")).unwrap();
        let status = world.done(&["status", "--json", &world.name]).with(0).json();
        assert_eq!(status["state"], "unsupervised");
        world.done(&["recover", &world.name]).with(1);
        guest.type_in("?").says("HERE");
        let launcher = world.run(&world.path("machine.ron"));
        let qemu = world.pid("qemu");
        supervised(world, &launcher, qemu, &mut guest);
        guest.type_in("q");
        launcher.ended().with(0);
    });
}

#[test]
fn a_takeover_that_comes_too_late_leaves_nothing() {
    each(|world| {
        let folder = world.run_dir();
        std::fs::create_dir_all(&folder).unwrap();
        for path in [folder.parent().unwrap(), &folder, &world.file("run/vfio-run/lock", "")] {
            super::world::own(path);
        }
        std::fs::rename(world.path("run/vfio-run/lock"), folder.join("lock")).unwrap();
        let adopt = world.done(&["recover", "--adopt", &world.name]).with(1);
        assert!(adopt.err.contains("does not run"), "{adopt:?}");
        assert!(!folder.exists());
    });
}

#[test]
fn what_a_dead_run_left_is_put_back_by_the_next() {
    each(|world| {
        let mut guest = orphan(world, "serial: Socket");
        let first = world.pid("qemu");
        guest.type_in("q");
        world.guest_has_ended();
        let launcher = world.run(&world.path("machine.ron"));
        let mut guest = Serial::of(world);
        guest.says("HELLO").type_in("q");
        assert_ne!(world.pid("qemu"), first);
        launcher.ended().with(0);
    });
}

#[test]
fn a_device_that_another_machine_has_now_is_not_taken_back() {
    each(|world| {
        let mut guest = orphan(world, "serial: Socket");
        guest.type_in("q");
        world.guest_has_ended();
        // As if its guest had had a device, which another machine's launcher has leased since.
        let plan = world.run_dir().join("plan.json");
        let mut text: serde_json::Value = serde_json::from_slice(&std::fs::read(&plan).unwrap()).unwrap();
        text["leases"] = serde_json::json!(["0000:01:00.0"]);
        std::fs::write(&plan, text.to_string()).unwrap();
        let leases = world.run_dir().with_file_name(".leases");
        std::fs::create_dir(&leases).unwrap();
        let lease = std::fs::File::open(world.file("run/vfio-run/.leases/0000:01:00.0", "other")).unwrap();
        lease.lock().unwrap();
        let records = world.journal();
        let recovered = world.done(&["recover", &world.name]).with(5);
        assert!(recovered.err.contains("the machine other has"), "{recovered:?}");
        let run = world.run(&world.path("machine.ron")).ended().with(5);
        assert!(run.err.contains("the machine other has"), "{run:?}");
        assert_eq!(world.journal(), records);
        drop(lease);
        std::fs::remove_dir_all(&leases).unwrap();
        world.done(&["recover", &world.name]).with(0);
        assert!(!leases.exists());
    });
}

#[test]
fn what_cannot_be_read_is_ended_by_force_and_is_not_called_restored() {
    each(|world| {
        let guest = orphan(world, "serial: Socket");
        let journal = world.run_dir().join("journal");
        let records = std::fs::read_to_string(&journal).unwrap();
        std::fs::write(&journal, format!("{records}gar bage\n")).unwrap();
        let refused = world.done(&["recover", &world.name]).with(5);
        assert!(refused.err.contains("is no record of this version"), "{refused:?}");
        let end = format!("`vfio-run stop --force {}` ends it", world.name);
        let shown = || {
            let status = world.done(&["status", &world.name, "--json"]).with(0).json();
            status["remedy"].as_str().unwrap().to_owned()
        };
        assert!(shown().contains(&end), "{}", shown());
        let top = world.done(&["top", &world.name, "--once", "--json"]).json();
        assert!(top.to_string().contains(&end), "{top}");
        let ended = world.done(&["stop", "--force", &world.name]).with(1);
        assert!(
            ended.err.contains("QEMU was killed, and what was changed on the host for it is not known"),
            "{ended:?}"
        );
        drop(guest);
        wait_for("QEMU's end", || world.processes().is_empty().then_some(()));
        assert!(!shown().contains(&end), "{}", shown());
        std::fs::remove_file(&journal).unwrap();
        std::fs::create_dir(&journal).unwrap();
        let folder = world.done(&["recover", &world.name]).with(5);
        assert!(folder.err.contains("/journal: Is a directory"), "{folder:?}");
        std::fs::remove_dir(&journal).unwrap();
        std::fs::write(&journal, records).unwrap();
        own(&journal);
        world.done(&["recover", &world.name]).with(0);
    });
}
