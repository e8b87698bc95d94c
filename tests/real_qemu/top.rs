//! What running guests do, as `top` shows it: in numbers, and on a terminal.

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::launcher::{LIMIT, Launcher, wait_for};
use super::talk::{Qmp, Serial};
use super::terminal::Terminal;
use super::world::{World, each};

fn runs(world: &World) -> (Launcher, Serial) {
    world.file("disk.img", vec![0; 1 << 20]);
    let machine = world.machine("networks: [(backend: Slirp)], disks: [(file: \"disk.img\", format: Raw)]");
    let launcher = world.run(&machine);
    let mut serial = Serial::of(world);
    serial.says("HELLO");
    (launcher, serial)
}

/// What one look of `top` tells of the machine.
fn looked(world: &World) -> Value {
    let told = world.done(&["top", "--once", "--json", "--interval", "0.5"]).with(0);
    assert_eq!(told.out.lines().count(), 1, "{told:?}");
    let told = told.json();
    assert!(told["seconds"].as_f64().unwrap() >= 0.4, "{told:#}");
    assert_eq!(told["machines"].as_array().unwrap().len(), 1, "{told:#}");
    told["machines"][0].clone()
}

#[test]
fn a_busy_guest_has_a_load_and_a_paused_one_has_none() {
    each(|world| {
        let (launcher, mut serial) = runs(world);
        serial.type_in("b");
        serial.says("BUSY");
        let busy = looked(world);
        assert_eq!((&busy["name"], &busy["state"]), (&world.name.as_str().into(), &"running".into()));
        assert_eq!(busy["qemu"], world.pid("qemu"));
        // Other tests want the CPU too.
        let load = |told: &Value| told["load"].as_f64().unwrap();
        assert!(load(&busy) > 0.1 && load(&busy) < 1.2, "{busy:#}");
        assert_eq!(busy["vcpus"].as_array().unwrap().len(), 1, "{busy:#}");
        assert_eq!((&busy["disks"][0]["id"], &busy["disks"][0]["reads"]), (&"disk0".into(), &0.0.into()), "{busy:#}");
        // Without KVM nobody counts exits, and nobody counts what QEMU's own network carries.
        assert!(busy["exits"].is_null() && busy["unknown"]["exits"].is_string(), "{busy:#}");
        let card = &busy["networks"][0];
        assert!(card["id"] == "net0" && card["sent_bytes"].is_null() && card["unknown"].is_string(), "{busy:#}");
        assert!(busy["memory"]["resident"].is_string(), "{busy:#}");

        world.done(&["pause", &world.name]).with(0);
        let paused = looked(world);
        assert!(paused["state"] == "paused" && load(&paused) < 0.02, "{paused:#}");
        // QEMU's own word is another one after a reset.
        let mut qmp = Qmp::of(world);
        qmp.ask("system_reset");
        wait_for("the reset", || (qmp.ask("query-status")["status"] == "prelaunch").then_some(()));
        drop(qmp);
        assert_eq!(looked(world)["state"], "paused");
        let shown = world.done(&["top", &world.name, "--once", "--interval", "0.1"]).with(0);
        assert!(shown.out.contains("NAME ") && !shown.out.contains('\u{1b}'), "{shown:?}");
        assert!(shown.out.contains("networks   net0 -"), "{shown:?}");
        world.done(&["stop", "--force", &world.name]).with(0);
        launcher.ended().with(4);
    });
}

#[test]
fn a_terminal_shows_what_comes_and_goes_and_is_given_back() {
    each(|world| {
        let size = |columns| Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let (launcher, _serial) = runs(world);
        let mut command = world.command(&["top", "--interval", "0.1"]);
        command.env("TERM", "xterm-256color").env("NO_COLOR", "1");
        let mut terminal = Terminal::on(openpty(&size(80), None).unwrap(), command);
        let before = terminal.settings();
        terminal.shows("\u{1b}[?1049h");
        // Once there was something to compare, there is a load.
        terminal.shows(&format!("{}  running  ", world.name));
        terminal.shows(" %  ");
        terminal.shows("q leaves");
        assert!(!terminal.shown.contains("\u{1b}[1m"), "{:?}", terminal.shown);
        assert_ne!(terminal.settings(), before);

        terminal.shown.clear();
        terminal.resize(&size(40));
        terminal.shows(&format!("NAME {}  STATE running\u{1b}[K\r\n  LOAD ", world.name));

        terminal.shown.clear();
        world.done(&["stop", "--force", &world.name]).with(0);
        launcher.ended().with(4);
        terminal.shows("no machine runs");
        terminal.shown.clear();
        let (launcher, _serial) = runs(world);
        terminal.shows(&format!("NAME {}  STATE running", world.name));

        terminal.types("q");
        assert_eq!(terminal.code(), Some(0));
        terminal.shows("\u{1b}[?25h\u{1b}[?1049l");
        assert_eq!(terminal.settings(), before);
        world.done(&["stop", &world.name]).with(0);
        launcher.ended().with(0);
    });
}

#[test]
fn a_pipe_gets_one_part_after_the_other_until_nobody_reads_on() {
    each(|world| {
        let (launcher, _serial) = runs(world);
        let mut command = world.wrapped(&["timeout", &LIMIT.as_secs().to_string()], &["top", "--interval", "0.1"]);
        let (mut reader, writer) = std::io::pipe().unwrap();
        command.stdout(writer);
        let mut child = command.spawn().unwrap();
        drop(command);
        let mut text = String::new();
        while text.matches("NAME ").count() < 2 {
            let mut part = [0; 1024];
            let n = std::io::Read::read(&mut reader, &mut part).unwrap();
            assert!(n > 0, "{text}");
            text.push_str(std::str::from_utf8(&part[..n]).unwrap());
        }
        assert!(text.contains("\n\nNAME ") && !text.contains('\u{1b}'), "{text}");
        drop(reader);
        assert_eq!(child.wait().unwrap().code(), Some(0));

        let lines = world.start(world.command(&["top", "--json", "--interval", "0.1"]));
        wait_for("two lines", || (lines.said().lines().count() >= 2).then_some(()));
        kill(Pid::from_raw(lines.pid()), Signal::SIGTERM).unwrap();
        let lines = lines.ended().with(0);
        for line in lines.out.lines() {
            let told: Value = serde_json::from_str(line).unwrap();
            assert_eq!(told["machines"][0]["name"], world.name.as_str());
        }
        world.done(&["stop", &world.name]).with(0);
        launcher.ended().with(0);
    });
}
