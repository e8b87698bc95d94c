//! How machines are shown and named: what runs first, then what needs attention; by name, by file, and misspelt.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::launcher::{Launcher, wait_for};
use super::port;
use super::talk::Serial;
use super::terminal;
use super::world::{World, each, own};

/// A machine that can be seen and reached in several ways.
fn runs(world: &World) -> Launcher {
    let port = port::free();
    let network = format!("(backend: Slirp, forward: [\"tcp 127.0.0.1:{port}:22\"])");
    let machine = world.machine(&format!("display: Vnc(), video: Std, networks: [{network}]"));
    let mut launcher = world.run(&machine);
    Serial::of(world).says("HELLO");
    launcher.tells(" runs (");
    launcher.tells(&format!("screen: `vfio-run view {}`", world.name));
    launcher.tells(&format!("console: `vfio-run console {}`", world.name));
    launcher.tells(&format!("ports: tcp {port} of 127.0.0.1 → 22"));
    launcher
}

/// A machine whose start fails, and that comes first in the order of names.
fn fails(world: &World) -> String {
    let name = format!("a-{}", world.name);
    let text = std::fs::read_to_string(world.machine("extra_args: [\"-device\", \"no-such-device\"]")).unwrap();
    let file = world.file("fails.ron", text.replace(&format!("\"{}\"", world.name), &format!("\"{name}\"")));
    world.done(&["run", file.to_str().unwrap()]).with(1);
    name
}

#[test]
fn what_runs_is_shown_first_then_what_failed_until_somebody_forgets_it() {
    each(|world| {
        let name = world.name.as_str();
        let failed = fails(world);
        let launcher = runs(world);
        let shown = world.done(&["status"]).with(0).out;
        let at = |words: &str| shown.find(words).unwrap_or_else(|| panic!("{words}: {shown}"));
        let order = [
            "NAME ",
            "\n\n",
            &format!("  screen   `vfio-run view {name}` (VNC, "),
            &format!("  console  `vfio-run console {name}`"),
            "  ports    tcp ",
            &format!("the last start of {failed}, "),
            &format!("`vfio-run recover --forget {failed}` dismisses this"),
        ]
        .map(at);
        assert!(order.is_sorted(), "{order:?}: {shown}");
        let json = world.done(&["status", "--json"]).with(0).json();
        assert_eq!((&json[0]["name"], &json[1]["name"]), (&name.into(), &failed.as_str().into()));
        assert_eq!(json[0]["reach"]["ports"].as_array().unwrap().len(), 1, "{json:#}");
        assert!(json[0]["reach"]["screen"]["vnc"]["socket"].as_str().unwrap().ends_with("vnc.sock"), "{json:#}");

        for (columns, plain) in [(80, false), (60, true), (44, false)] {
            for words in [&["status"][..], &["status", name], &["recover", name]] {
                let mut command = world.command(words);
                if plain {
                    command.env("NO_COLOR", "1");
                }
                let (status, shown) = terminal::shown(command, columns);
                assert!(status.success(), "{status}");
                terminal::fits(&anstream::adapter::strip_str(&shown).to_string(), columns);
                assert!(!shown.contains('\u{1b}') || !plain, "{shown:?}");
            }
        }
        let forgotten = world.done(&["recover", "--forget", &failed, "--json"]).with(0).json();
        assert_eq!(forgotten[0]["result"], "forgotten");
        assert!(!world.done(&["status"]).with(0).out.contains("the last start"));
        world.done(&["recover", "--forget", &failed]).with(1);

        // An end that somebody forced is no failure.
        world.done(&["stop", "--force", name]).with(0);
        launcher.ended().with(4);
        assert!(world.done(&["status"]).with(0).out.contains("no machine runs"));
        let launcher = runs(world);
        launcher.signal(Signal::SIGKILL);
        launcher.ended();
        let shown = world.done(&["status"]).with(0).out;
        assert!(shown.contains("  to do    its launcher was killed; `vfio-run recover --adopt"), "{shown}");
        world.done(&["stop", "--force", name]).with(0);
        assert_eq!(world.done(&["status"]).with(0).out, "no machine runs\n");
    });
}

/// Nobody waits for a process that a signal has stopped: this is for the start of the program.
const SHORT: Duration = Duration::from_secs(4);

#[test]
fn a_launcher_that_is_stopped_is_told_at_once_and_forgets_who_hung_up_meanwhile() {
    each(|world| {
        let launcher = runs(world);
        launcher.signal(Signal::SIGSTOP);
        let began = Instant::now();
        let shown = world.done(&["status"]).with(0).out;
        assert!(began.elapsed() < SHORT, "{:?}", began.elapsed());
        let remedy = format!("its launcher was stopped by a signal; `kill -CONT {}` lets it go on", launcher.pid());
        assert!(shown.contains(" silent ") && shown.contains(&remedy), "{shown}");
        let remedy = format!("was stopped by a signal; `kill -CONT {}` lets it go on", launcher.pid());
        let machine = world.path("machine.ron");
        let file = machine.to_str().unwrap();
        for (words, code) in [
            (&["pause", &world.name][..], 1),
            (&["stop", "--force", &world.name], 1),
            (&["recover", &world.name], 0),
            (&["recover", "--adopt", &world.name], 1),
            (&["check", file], 0),
            (&["run", file], 1),
        ] {
            let told = world.done(words).with(code);
            let shown = format!("{}{}", told.out, told.err);
            assert!(shown.contains(&remedy), "{words:?}: {shown}");
            assert!(!shown.contains("nothing to recover") && !shown.contains("vfio-run stop"), "{words:?}: {shown}");
        }
        // As a client that was killed while it waited.
        let mut gone = UnixStream::connect(world.run_dir().join("control.sock")).unwrap();
        gone.write_all(b"\"stop\"\n").unwrap();
        drop(gone);
        launcher.signal(Signal::SIGCONT);
        // Asked after that one, so it is answered after that one's turn.
        wait_for("the launcher's answer", || {
            let json = world.done(&["status", &world.name, "--json"]).with(0).json();
            (json["state"] != "silent").then(|| assert_eq!(json["state"], "running", "{json:#}"))
        });
        world.done(&["stop", &world.name]).with(0);
        launcher.ended().with(0);
    });
}

#[test]
fn a_qemu_that_is_stopped_is_told_at_once_by_whoever_would_wait_for_it() {
    each(|world| {
        let name = world.name.as_str();
        let fields = "guest: Linux, display: Vnc(), video: Std, disks: [], usb: []";
        let launcher = world.run(&world.machine(fields));
        Serial::of(world).says("HELLO");
        let qemu = Pid::from_raw(world.pid("qemu"));
        kill(qemu, Signal::SIGSTOP).unwrap();
        let remedy = format!("was stopped by a signal; `kill -CONT {qemu}` lets it go on");
        let picture = world.path("screen.png");
        for (words, code) in [
            (&["status", name][..], 0),
            (&["top", name, "--once", "--interval", "0.1"], 0),
            (&["agent", name, "ping"], 1),
            (&["console", name], 1),
            (&["view", name, "--print"], 1),
            (&["qmp", name, "query-status"], 1),
            (&["pause", name], 1),
            (&["resume", name], 1),
            (&["reset", name], 1),
            (&["powerdown", name], 1),
            (&["send-key", name, "a"], 1),
            (&["screenshot", name, picture.to_str().unwrap()], 1),
            (&["detach", name, "1234:5678"], 1),
        ] {
            let began = Instant::now();
            let ended = world.done(words).with(code);
            assert!(began.elapsed() < SHORT, "{words:?}: {:?}", began.elapsed());
            let shown = format!("{}{}", ended.out, ended.err);
            assert!(shown.contains(&remedy), "{words:?}: {shown}");
            assert!(code == 1 || shown.contains(" silent "), "{words:?}: {shown}");
        }
        // The launcher asks QEMU for nothing then.
        world.done(&["alive", name]).with(0);
        kill(qemu, Signal::SIGCONT).unwrap();
        wait_for("QEMU", || {
            let json = world.done(&["status", name, "--json"]).with(0).json();
            (json["state"] == "running").then_some(())
        });
        launcher.signal(Signal::SIGKILL);
        launcher.ended();
        kill(qemu, Signal::SIGSTOP).unwrap();
        let began = Instant::now();
        let refused = world.done(&["recover", "--adopt", name]).with(1);
        assert!(began.elapsed() < SHORT && refused.err.contains(&remedy), "{refused:?}");
        world.done(&["stop", "--force", name]).with(0);
    });
}

#[test]
fn a_launcher_that_is_stopped_while_it_starts_is_told() {
    each(|world| {
        let name = world.name.as_str();
        let launcher = world.run(&world.machine("hooks: (before: [[\"/usr/bin/tail\", \"-f\", \"/dev/null\"]])"));
        wait_for("the start", || {
            let json = world.done(&["status", name, "--json"]).json();
            (json["state"] == "starting").then_some(())
        });
        launcher.signal(Signal::SIGSTOP);
        let remedy = format!("its launcher was stopped by a signal; `kill -CONT {}` lets it go on", launcher.pid());
        for words in [&["status"][..], &["top", "--once", "--interval", "0.1"]] {
            let shown = world.done(words).with(0).out;
            assert!(shown.contains(" silent ") && shown.contains(&remedy), "{words:?}: {shown}");
        }
        launcher.signal(Signal::SIGCONT);
        launcher.signal(Signal::SIGTERM);
        assert_ne!(launcher.ended().code, Some(0));
    });
}

#[test]
fn a_machine_that_cannot_be_read_has_a_line_and_hides_no_other() {
    each(|world| {
        let launcher = runs(world);
        let folder = |name: &str| {
            let folder = world.run_dir().with_file_name(name);
            std::fs::create_dir(&folder).unwrap();
            std::fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
            own(&folder);
            folder
        };
        let garbage = folder("garbage");
        std::fs::write(garbage.join("journal"), "{\"intent\"\nnonsense\n").unwrap();
        own(&garbage.join("journal"));
        let closed = folder("closed");
        std::fs::set_permissions(&closed, Permissions::from_mode(0o000)).unwrap();
        for words in [&["status"][..], &["top", "--once", "--interval", "0.1"]] {
            let shown = world.done(words).with(0).out;
            let row = |name: &str, state: &str| {
                shown.lines().any(|line| line.starts_with(&format!("{name} ")) && line.contains(state))
            };
            assert!(row(&world.name, " running ") && row("closed", " unreadable"), "{shown}");
            assert!(row("garbage", " unreadable") || words[0] == "top", "{shown}");
        }
        for name in ["closed", "garbage"] {
            let json = world.done(&["status", name, "--json"]).with(0).json();
            assert_eq!(json["state"], "unreadable", "{json:#}");
            assert!(json["remedy"].as_str().unwrap().contains(&format!("/{name}")), "{json:#}");
        }
        for words in [&["report", "closed"][..], &["view", "closed"], &["recover", "closed"], &["report", "garbage"]] {
            let refused = world.done(words).with(1);
            assert!(refused.err.contains(&format!("/{}", words[1])), "{refused:?}");
        }
        std::fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
        std::fs::remove_dir_all(&closed).unwrap();
        std::fs::remove_dir_all(&garbage).unwrap();
        world.done(&["stop", &world.name]).with(0);
        launcher.ended().with(0);
    });
}

#[test]
fn a_machine_is_named_by_its_name_or_its_file_and_a_typo_is_told() {
    each(|world| {
        let name = world.name.as_str();
        let launcher = runs(world);
        for file in ["machine.ron", "./machine.ron", world.path("machine.ron").to_str().unwrap()] {
            let json = world.done(&["status", file, "--json"]).with(0).json();
            assert_eq!((&json["name"], &json["state"]), (&name.into(), &"running".into()));
        }
        let typo = world.done(&["pause", &format!("{name}x")]).with(1);
        assert!(typo.err.contains(&format!("does not run; did you mean {name}?")), "{typo:?}");
        let other = world.done(&["pause", "nothing-like-it-at-all"]).with(1);
        assert!(other.err.contains(&format!("does not run; there are: {name}")), "{other:?}");
        // A file that is called as the machine is, and is not the one that it was started from.
        let other = world.file(&format!("{name}.ron"), "(");
        let refused = world.done(&["pause", other.to_str().unwrap()]).with(1);
        assert!(refused.err.contains("runs from ") && refused.err.contains("machine.ron, not from "), "{refused:?}");
        std::fs::remove_file(&other).unwrap();
        world.done(&["pause", other.to_str().unwrap()]).with(1);
        let broken = world.file("broken.ron", "(");
        world.done(&["pause", broken.to_str().unwrap()]).with(2);
        // The file that it runs from is known also when it is no machine's any more.
        world.file("machine.ron", "(base: \"gone.ron\")");
        world.done(&["stop", "machine.ron"]).with(0);
        launcher.ended().with(0);
    });
}
