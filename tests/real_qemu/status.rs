//! How machines are shown and named: what runs first, then what needs attention; by name, by file, and misspelt.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::Signal;

use super::launcher::{Launcher, wait_for};
use super::talk::Serial;
use super::world::{World, each};

/// A machine that can be seen and reached in several ways.
fn runs(world: &World) -> Launcher {
    let fields = "display: Vnc(), video: Std, networks: [(backend: Slirp, forward: [\"tcp 127.0.0.1:0\"])]";
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let machine = world.machine(&fields.replace("127.0.0.1:0", &format!("127.0.0.1:{port}:22")));
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

/// What a terminal of 80 columns shows.
fn in_a_terminal(world: &World, arguments: &[&str], plain: bool) -> String {
    let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(&size, None).unwrap();
    let end = || Stdio::from(pty.slave.try_clone().unwrap());
    let mut command = world.command(arguments);
    command.stdin(Stdio::null()).stdout(end()).stderr(end()).env("TERM", "xterm-256color");
    if plain {
        command.env("NO_COLOR", "1");
    }
    let status = command.status().unwrap();
    assert!(status.success(), "{status}");
    drop((command, pty.slave));
    let (mut shown, mut part) = (Vec::new(), [0; 4096]);
    let mut master = std::fs::File::from(pty.master);
    // EIO is a terminal's end.
    while let Ok(n @ 1..) = master.read(&mut part) {
        shown.extend_from_slice(&part[..n]);
    }
    String::from_utf8(shown).unwrap().replace('\r', "")
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

        for plain in [false, true] {
            for words in [&["status"][..], &["status", name]] {
                let shown = in_a_terminal(world, words, plain);
                // Paths are longer, and stay whole.
                let long = shown.lines().filter(|line| line.chars().count() > 80 && line.trim().contains(' '));
                let long: Vec<&str> = long.filter(|line| !line.contains('/')).collect();
                assert!(long.is_empty(), "{long:?} in\n{shown}");
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

#[test]
fn a_launcher_that_is_stopped_costs_a_second_and_forgets_who_hung_up_meanwhile() {
    each(|world| {
        let launcher = runs(world);
        launcher.signal(Signal::SIGSTOP);
        let began = Instant::now();
        let shown = world.done(&["status"]).with(0).out;
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        let remedy = format!("does not answer (stopped?); `kill -CONT {}`", launcher.pid());
        assert!(shown.contains(" silent ") && shown.replace("\n           ", " ").contains(&remedy), "{shown}");
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
