//! `vfio-run stop` for a launcher that does not attend to a guest: it starts, is rehearsed, or puts the host back.

use super::hooks::{hooks, notes};
use super::launcher::{Launcher, wait_for};
use super::talk::Serial;
use super::world::{World, each};

/// Starts the program with a hook that waits at a stage for as long as it may, and waits until it runs.
fn at(world: &World, stage: &str, limit: u32, arguments: &[&str]) -> Launcher {
    let fields = hooks(world, &[(stage, "wait")]).replace("timeout: 2", &format!("timeout: {limit}"));
    let machine = world.machine(&format!("serial: Socket, {fields}"));
    let launcher = world.start(world.command(&[arguments, &[machine.to_str().unwrap()]].concat()));
    if stage == "ended" {
        Serial::of_running(world).leave_with("q");
    }
    let stage = format!("{stage} ");
    wait_for("the hook", || notes(world).iter().any(|note| format!("{note} ").starts_with(&stage)).then_some(()));
    launcher
}

#[test]
fn a_start_is_given_up_and_undone() {
    each(|world| {
        for force in [&[][..], &["--force"]] {
            let launcher = at(world, "ready", 60, &["run"]);
            let alive = world.done(&["alive", &world.name]).with(1);
            assert!(alive.err.contains(&format!("{} is starting", world.name)), "{alive:?}");
            let said = world.done(&[&["stop", &world.name], force].concat()).with(0);
            assert!(said.err.contains("is starting"), "{said:?}");
            let ended = launcher.ended().with(1);
            assert!(ended.err.contains("the host is as it was"), "{ended:?}");
            world.is_clean();
            std::fs::remove_file(world.path("notes")).unwrap();
        }
    });
}

#[test]
fn a_rehearsal_ends_after_its_step() {
    each(|world| {
        let launcher = at(world, "ready", 60, &["rehearse", "--hooks", "-n", "100"]);
        let said = world.done(&["stop", "--json", "-q", &world.name]).with(0);
        assert_eq!(said.json()["stopped"], true);
        launcher.ended().with(1);
    });
}

#[test]
fn an_end_under_way_is_waited_for() {
    each(|world| {
        let launcher = at(world, "ended", 2, &["run"]);
        let said = world.done(&["stop", &world.name]).with(0);
        assert!(said.err.contains("is ending already"), "{said:?}");
        assert!(!world.run_dir().exists());
        let ended = launcher.ended().with(0);
        assert!(!ended.err.contains("SIGTERM"), "{ended:?}");
    });
}
