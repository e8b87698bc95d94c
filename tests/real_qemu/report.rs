//! `vfio-run report`: what a run came to, of one that runs, ended, failed, and lost its launcher.

use nix::sys::signal::Signal;
use serde_json::Value;

use super::hooks::hooks;
use super::launcher::wait_for;
use super::talk::Serial;
use super::world::{World, each};

fn report(world: &World) -> Value {
    world.done(&["report", "--json", &world.name]).with(0).json()
}

/// The report of a machine that runs, once there is one.
fn of_running(world: &World) -> Value {
    wait_for("the report of the start", || world.run_dir().join("report.json").exists().then_some(()));
    report(world)
}

fn names(steps: &Value) -> Vec<&str> {
    steps.as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect()
}

/// Where the last of these steps ends, if none begins before the one before it has ended.
fn end_of(steps: &Value) -> f64 {
    steps.as_array().unwrap().iter().fold(0.0, |end, step| {
        let (at, took) = (step["at_ms"].as_f64().unwrap(), step["took_ms"].as_f64().unwrap());
        assert!(at >= end - 0.01 && took >= 0.0, "{step} begins before {end}");
        at + took
    })
}

#[test]
fn the_steps_of_a_run_are_told_while_it_runs_and_afterwards() {
    each(|world| {
        let none = world.done(&["report", &world.name]).with(1);
        assert!(none.err.contains("is kept here: no machine of this user's has one yet"), "{none:?}");
        let machine = world.machine(&hooks(world, &[]));
        let launcher = world.run(&machine);
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        let runs = of_running(world);
        assert!(runs["end"].is_null() && runs["name"] == world.name.as_str(), "{runs:#}");
        let both = world.done(&["report", &world.name, "--svg", "-", "--json"]).with(2);
        assert!(both.json()["error"]["message"].as_str().unwrap().contains("both want standard output"), "{both:?}");
        let shown = world.done(&["report", "machine.ron"]).with(0).out;
        assert!(shown.contains(": it runs\n") && shown.contains("QEMU starts and answers"), "{shown}");
        world.done(&["stop", &world.name]).with(0);
        guest.says("BUTTON");
        launcher.ended().with(0);

        let ended = report(world);
        assert_eq!(ended["start"], runs["start"]);
        let steps = names(&ended["start"]);
        assert_eq!(
            steps,
            [
                "lock, leases and journal",
                "hooks of `before`",
                "folders, files and holds",
                "sockets",
                "hooks of `ready`",
                "QEMU starts and answers",
                "place QEMU's threads",
                "console and devices that come and go"
            ]
        );
        let ran = ended["guest_ran_ms"].as_f64().unwrap();
        assert!((end_of(&ended["start"]) - ran).abs() < 0.1 && ran > 1.0, "{ended:#}");
        assert_eq!(names(&ended["back"]), ["end QEMU and its helpers", "hooks of `ended`", "hooks of `restored`"]);
        end_of(&ended["back"]);
        let end = &ended["end"];
        assert_eq!(
            (&end["how"], &end["words"], &end["code"]),
            (&"shut-down".into(), &"guest-shutdown".into(), &0.into())
        );
        assert!(end["at_ms"].as_f64().unwrap() > ran, "{ended:#}");
        let vcpu = &ended["vcpus"][0];
        assert!(vcpu["vcpu"].as_str().unwrap().contains("CPU") && vcpu["ran_ms"].as_f64().unwrap() > 0.0, "{ended:#}");
        assert!(ended["black"].is_null() && ended["left"].as_array().unwrap().is_empty(), "{ended:#}");

        let shown = world.done(&["report", &world.name]).with(0).out;
        for words in [
            "it shut down (guest-shutdown)",
            "exit code 0",
            "longest: ",
            "vCPU wait",
            "giving back, the last change first: ",
        ] {
            assert!(shown.contains(words), "no {words} in\n{shown}");
        }
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
        let picture = world.path("run.svg");
        world.done(&["report", &world.name, "--svg", picture.to_str().unwrap()]).with(0);
        assert!(std::fs::read_to_string(&picture).unwrap().contains("QEMU starts and answers"));
        let kept = world.done(&["report", &world.name, "--svg", machine.to_str().unwrap()]).with(1);
        assert!(kept.err.contains("holds no SVG"), "{kept:?}");
        let near = world.done(&["report", &format!("{}x", world.name)]).with(1);
        assert!(near.err.contains(&format!("did you mean {}?", world.name)), "{near:?}");
    });
}

#[test]
fn the_step_that_failed_is_told() {
    each(|world| {
        world.run(&world.machine("extra_args: [\"-device\", \"no-such-device\"]")).ended().with(1);
        let failed = report(world);
        let last = failed["start"].as_array().unwrap().last().unwrap();
        assert_eq!((&last["step"], &last["failed"]), (&"QEMU starts and answers".into(), &true.into()), "{failed:#}");
        assert_eq!((&failed["end"]["how"], &failed["end"]["code"]), (&"not-started".into(), &1.into()));
        assert!(failed["guest_ran_ms"].is_null() && failed["vcpus"].is_null(), "{failed:#}");
        let shown = world.done(&["report", &world.name]).with(0).out;
        assert!(shown.contains("it did not start: ") && shown.contains("no-such-device"), "{shown}");
        assert!(shown.contains("QEMU starts and answers: failed"), "{shown}");
    });
}

#[test]
fn a_killed_launcher_leaves_its_start_and_who_restores_or_takes_over_the_end() {
    each(|world| {
        let machine = world.machine("serial: Socket");
        let orphan = || {
            let launcher = world.run(&machine);
            Serial::of(world).says("HELLO");
            let runs = of_running(world);
            launcher.signal(Signal::SIGKILL);
            assert_eq!(launcher.ended().code, None);
            runs
        };
        let runs = orphan();
        let shown = world.done(&["report", &world.name]).with(0).out;
        assert!(shown.contains("it runs without a launcher; `vfio-run recover --adopt"), "{shown}");
        Serial::of(world).leave_with("q");
        world.guest_has_ended();
        let shown = world.done(&["report", &world.name]).with(0).out;
        assert!(shown.contains("its launcher was killed; `vfio-run recover "), "{shown}");
        let top = world.done(&["top", &world.name, "--once"]).with(1);
        assert!(top.err.contains("does not run: its launcher was killed"), "{top:?}");
        world.done(&["recover", &world.name]).with(0);
        let recovered = report(world);
        assert_eq!((&recovered["start"], &recovered["end"]["how"]), (&runs["start"], &"launcher-killed".into()));
        assert!(recovered["end"]["recovered"].is_string() && recovered["end"]["code"].is_null(), "{recovered:#}");
        let shown = world.done(&["report", &world.name]).with(0).out;
        assert!(shown.contains("its launcher was killed while the guest ran"), "{shown}");

        let runs = orphan();
        let mut launcher = world.start(world.command(&["recover", "--adopt", &world.name]));
        launcher.tells(" runs (");
        Serial::of(world).leave_with("q");
        launcher.ended().with(0);
        let adopted = report(world);
        assert_eq!((&adopted["start"], &adopted["end"]["how"]), (&runs["start"], &"shut-down".into()), "{adopted:#}");
        assert!(adopted["end"]["at_ms"].as_f64() > adopted["guest_ran_ms"].as_f64(), "{adopted:#}");
    });
}
