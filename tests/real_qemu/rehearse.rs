//! The handover without a guest, as far as a host without devices to give shows it.

use std::os::unix::fs::MetadataExt as _;

use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::hooks::{hooks, notes};
use super::launcher::wait_for;
use super::world::{each, each_as_root};

#[test]
fn every_round_comes_back_and_no_guest_and_no_hook_runs() {
    each(|world| {
        let machine = world.machine(&hooks(world, &[]));
        let machine = machine.to_str().unwrap();
        let said = world.done(&["rehearse", machine, "-n", "3"]).with(0);
        assert!(said.out.contains("lock, leases and journal") && said.out.contains("3 of 3 rounds"), "{said:?}");
        assert!(said.err.contains("little to rehearse") && said.err.contains("the host is as it was"), "{said:?}");
        assert_eq!(notes(world), Vec::<String>::new());
        assert!(!world.state_dir().exists(), "it made what a guest keeps");

        let json = world.done(&["rehearse", "--json", "-q", "--hooks", "--rounds", "2", machine]).with(0).json();
        assert_eq!((&json["completed"], &json["leaks"]), (&2.into(), &serde_json::json!([])));
        let steps: Vec<&str> = json["steps"].as_array().unwrap().iter().map(|s| s["step"].as_str().unwrap()).collect();
        assert_eq!(
            steps,
            ["lock, leases and journal", "hooks of `before` and `restored`", "hooks of `ready` and `ended`"]
        );
        let ms = |part: &str| json[part]["there"]["median"].as_f64().unwrap();
        assert!(ms("own") > 0.0 && ms("own") < ms("total"), "{json:#}");
        let round = ["before", "ready", "ended rehearsed0", "restored rehearsed0"];
        assert_eq!(notes(world), [round, round].concat());
    });
}

#[test]
fn what_the_check_refuses_is_not_rehearsed_and_a_failed_step_is_undone() {
    each(|world| {
        let machine = world.machine("disks: [(file: \"missing.qcow2\")]");
        let refused = world.done(&["rehearse", machine.to_str().unwrap()]).with(3);
        assert!(refused.err.contains("missing.qcow2"), "{refused:?}");
        let machine = world.machine(&hooks(world, &[("ready", "fail")]));
        let failed = world.done(&["rehearse", "--hooks", "-n", "5", machine.to_str().unwrap()]).with(1);
        assert!(failed.err.contains("round 1: the hook ready") && failed.out.contains("0 of 5 rounds"), "{failed:?}");
        assert_eq!(notes(world), ["before", "ready", "ended rehearsed0", "restored rehearsed0"]);
    });
}

#[test]
fn a_signal_stops_it_between_steps_and_a_second_one_is_told_who_rehearses() {
    each(|world| {
        let machine = world.machine("serial: Socket");
        let machine = machine.to_str().unwrap();
        let launcher = world.start(world.command(&["rehearse", machine, "-n", "10000"]));
        wait_for("a round", || launcher.messages().contains("round 2 of 10000").then_some(()));
        launcher.signal(Signal::SIGINT);
        let ended = launcher.ended().with(1);
        assert!(ended.err.contains("SIGINT came") && ended.err.contains("the host is as it was"), "{ended:?}");

        let machine = world.machine(&hooks(world, &[("ready", "wait")]).replace("timeout: 2", "timeout: 60"));
        let launcher = world.start(world.command(&["rehearse", "--hooks", machine.to_str().unwrap()]));
        wait_for("the hook", || notes(world).contains(&"ready".to_owned()).then_some(()));
        let status = world.done(&["status", "--json", &world.name]).with(0).json();
        assert_eq!(status["state"], "rehearsing");
        let refused = world.run(&machine).ended().with(1);
        assert!(refused.err.contains("is being rehearsed by process"), "{refused:?}");
        launcher.signal(Signal::SIGTERM);
        launcher.ended().with(1);
        world.is_clean();
    });
}

#[test]
#[ignore = "needs root"]
fn a_change_to_the_host_is_timed_undone_and_recovered_from() {
    // A rehearsal compares the pool too.
    let _alone = super::huge_pages::alone();
    each_as_root(|world| {
        // A node of a kind whose owner changes; nobody opens it, since no guest runs.
        let node = world.path("sg");
        mknod(&node, SFlag::S_IFCHR, Mode::S_IRUSR, makedev(21, 7)).unwrap();
        let owner = || std::fs::metadata(&node).unwrap().uid();
        let (before, fields) = (owner(), "disks: [(file: \"sg\", media: Lun)]");
        let machine = world.machine(fields);
        let json = world.done(&["rehearse", "--json", "-q", "-n", "3", machine.to_str().unwrap()]).with(0).json();
        let steps = json["steps"].as_array().unwrap();
        let given = steps.iter().find(|s| s["step"].as_str().unwrap().contains("/sg to user")).unwrap();
        assert!(given["there"]["min"].as_f64() > Some(0.0) && given["back"]["max"].as_f64() > Some(0.0), "{json:#}");
        assert_eq!(owner(), before);

        let machine = world.machine(&format!("{fields}, {}", hooks(world, &[("ready", "wait")])));
        let launcher = world.start(world.command(&["rehearse", "--hooks", machine.to_str().unwrap()]));
        wait_for("the hook", || notes(world).contains(&"ready".to_owned()).then_some(()));
        assert_ne!(owner(), before);
        launcher.signal(Signal::SIGKILL);
        launcher.ended();
        wait_for("the hook's end", || world.processes().is_empty().then_some(()));
        world.done(&["recover", &world.name]).with(0);
        assert_eq!(owner(), before);
        assert_eq!(notes(world), ["before", "ready", "ended recovered0", "restored recovered0"]);
    });
}
