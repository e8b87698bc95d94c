//! The user's own programs at the stages of a run.

use nix::sys::signal::Signal;

use super::launcher::wait_for;
use super::talk::Serial;
use super::world::{World, each};

/// Notes which stage it was run at, with what it was told; then does what its argument says.
const NOTE: &str = r#"
[ -d "$VFIO_RUN_RUN_DIR" ] || echo "no run directory"
echo "$VFIO_RUN_STAGE ${VFIO_RUN_QEMU_PID:+qemu }$VFIO_RUN_OUTCOME$VFIO_RUN_EXIT_CODE" >>"$VFIO_RUN_TEST/notes"
echo "the words of $VFIO_RUN_STAGE on $VFIO_RUN_NAME"
case $1 in
  fail) exit 7 ;;
  hang) trap '' TERM; sleep 100; sleep 100 ;;
  wait) exec sleep 100 ;;
esac
"#;

/// `hooks:` with the program at every stage, with these arguments at some.
pub fn hooks(world: &World, arguments: &[(&str, &str)]) -> String {
    // Read by a shell, not executed: a file that a thread of this process has just written may be busy.
    let note = world.file("note", NOTE);
    let stages = ["before", "ready", "running", "ended", "restored"].map(|stage| {
        let argument = arguments.iter().find(|(its, _)| *its == stage).map_or("", |(_, argument)| argument);
        format!("{stage}: [(argv: [\"/bin/sh\", {note:?}, {argument:?}], timeout: 2)]")
    });
    format!("hooks: ({})", stages.join(", "))
}

/// What was noted so far.
pub fn notes(world: &World) -> Vec<String> {
    let text = std::fs::read_to_string(world.path("notes")).unwrap_or_default();
    text.lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn hooks_run_at_their_stages_in_order_and_their_output_is_in_the_log() {
    each(|world| {
        let launcher = world.run(&world.machine(&hooks(world, &[])));
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        wait_for("the hook of the running guest", || notes(world).contains(&"running qemu".to_owned()).then_some(()));
        guest.type_in("q");
        let ended = launcher.ended().with(0);
        assert_eq!(notes(world), ["before", "ready", "running qemu", "ended shut-down0", "restored shut-down0"]);
        assert!(!ended.err.contains("warning"), "{ended:?}");
        let log = world.log();
        assert!(log.contains("the words of before on ") && log.contains("the words of restored on "), "{log}");
        assert!(!log.contains("no run directory"), "{log}");
        // Both ways are in the plan.
        let plan = world.done(&["plan", "--explain", world.path("machine.ron").to_str().unwrap()]).with(0).out;
        assert!(plan.contains("before: /bin/sh ") && plan.contains("(at most 2 s)"), "{plan}");
    });
}

#[test]
fn hooks_that_are_owed_need_no_log() {
    each(|world| {
        let launcher = world.run(&world.machine(&hooks(world, &[])));
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        wait_for("the hook of the running guest", || notes(world).contains(&"running qemu".to_owned()).then_some(()));
        // As good as a disk that is full.
        let log = world.state_dir().with_file_name("log").join(format!("{}.log", world.name));
        std::fs::set_permissions(&log, std::os::unix::fs::PermissionsExt::from_mode(0o400)).unwrap();
        guest.type_in("q");
        let ended = launcher.ended().with(0);
        assert_eq!(notes(world)[3..], ["ended shut-down0", "restored shut-down0"]);
        assert!(ended.err.contains("the output of the hook"), "{ended:?}");
    });
}

#[test]
fn a_hook_that_fails_before_the_guest_stops_the_start_and_its_counterparts_still_run() {
    each(|world| {
        for (stage, noted) in [
            ("before", vec!["before", "restored not-started1"]),
            ("ready", vec!["before", "ready", "ended not-started1", "restored not-started1"]),
        ] {
            world.file("notes", "");
            let ended = world.run(&world.machine(&hooks(world, &[(stage, "fail")]))).ended().with(1);
            assert_eq!(notes(world), noted);
            assert!(ended.err.contains("failed (exit status: 7)"), "{ended:?}");
            assert!(ended.err.contains(&format!("  the words of {stage} on ")), "{ended:?}");
            world.is_clean();
        }
    });
}

#[test]
fn a_hook_that_fails_after_the_start_is_a_warning_at_the_end() {
    each(|world| {
        let failing = [("running", "fail"), ("ended", "hang"), ("restored", "fail")];
        let launcher = world.run(&world.machine(&hooks(world, &failing)));
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        wait_for("the hook of the running guest", || notes(world).contains(&"running qemu".to_owned()).then_some(()));
        guest.type_in("q");
        let ended = launcher.ended().with(0);
        for words in ["the hook running: /bin/sh", "did not end within 2 s", "the hook restored: /bin/sh"] {
            assert!(ended.err.contains(words), "{words}: {ended:?}");
        }
        assert_eq!(notes(world).last().unwrap(), "restored shut-down0");
        world.is_clean();
    });
}

#[test]
fn quiet_keeps_what_went_wrong_and_no_advice() {
    each(|world| {
        let advice = "guest: Windows10, firmware: Bios";
        let machine = world.machine(&format!("{advice}, {}", hooks(world, &[("restored", "fail")])));
        for (option, advised) in [("-v", true), ("-q", false)] {
            let launcher = world.start(world.command(&["run", option, machine.to_str().unwrap()]));
            Serial::of_running(world).leave_with("q");
            let ended = launcher.ended().with(0);
            assert_eq!(ended.err.contains("wants 2 GiB of memory"), advised, "{ended:?}");
            assert!(ended.err.contains("the hook restored: /bin/sh"), "{ended:?}");
            assert_eq!(ended.err.contains("the host is as it was"), advised, "{ended:?}");
            world.is_clean();
        }
    });
}

#[test]
fn a_signal_ends_a_hook_before_the_guest() {
    each(|world| {
        let machine = world.machine(&hooks(world, &[("ready", "wait")]).replace("timeout: 2", "timeout: 60"));
        let launcher = world.run(&machine);
        wait_for("the hook", || notes(world).contains(&"ready".to_owned()).then_some(()));
        launcher.signal(Signal::SIGINT);
        let ended = launcher.ended().with(1);
        assert!(ended.err.contains("was ended because of SIGINT"), "{ended:?}");
        assert_eq!(notes(world), ["before", "ready", "ended not-started1", "restored not-started1"]);
        world.is_clean();
    });
}

#[test]
fn recover_runs_the_hooks_that_a_killed_launcher_owes() {
    each(|world| {
        let launcher = world.run(&world.machine(&hooks(world, &[])));
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        wait_for("the hook of the running guest", || notes(world).contains(&"running qemu".to_owned()).then_some(()));
        launcher.signal(Signal::SIGKILL);
        launcher.ended();
        guest.type_in("q");
        world.guest_has_ended();
        let recovered = world.done(&["recover", &world.name]).with(0);
        assert!(recovered.err.contains("the hook ended: /bin/sh"), "{recovered:?}");
        let noted = ["before", "ready", "running qemu", "ended recovered0", "restored recovered0"];
        assert_eq!(notes(world), noted);
        world.done(&["recover", &world.name]).with(0);
        assert_eq!(notes(world), noted, "they were run again");
    });
}

#[test]
fn recover_runs_nothing_for_a_stage_that_was_not_reached() {
    each(|world| {
        let machine = world.machine(&hooks(world, &[("before", "wait")]).replace("timeout: 2", "timeout: 60"));
        let launcher = world.run(&machine);
        wait_for("the hook", || notes(world).contains(&"before".to_owned()).then_some(()));
        launcher.signal(Signal::SIGKILL);
        launcher.ended();
        // The hook goes with its launcher.
        wait_for("the hook's end", || world.processes().is_empty().then_some(()));
        world.done(&["recover", &world.name]).with(0);
        assert_eq!(notes(world), ["before", "restored recovered0"]);
    });
}
