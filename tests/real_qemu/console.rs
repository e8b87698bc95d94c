//! The guest's console on a terminal and on a pipe.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Command, Stdio};

use nix::fcntl::FcntlArg;
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::launcher::wait_for;
use super::talk::Serial;
use super::terminal::Terminal;
use super::world::{World, each, own};

fn console(world: &World) -> Terminal {
    let machine = world.machine("serial: Console");
    let mut terminal = Terminal::with(world.command(&[machine.to_str().unwrap()]));
    terminal.shows("HELLO");
    terminal
}

#[test]
fn the_terminal_is_the_guests_and_is_given_back() {
    each(|world| {
        let machine = world.machine("serial: Console");
        let mut terminal = Terminal::with(world.command(&[machine.to_str().unwrap()]));
        let before = terminal.settings();
        terminal.shows("\r\nHELLO\r\n");
        assert!(!terminal.shown.contains("\r\r"), "{:?}", terminal.shown);
        assert!(terminal.is_raw());
        terminal.types("?");
        terminal.shows("HERE");
        // Ctrl-C is the guest's.
        terminal.types("\x03?");
        terminal.shows("HERE\r\nHERE");
        terminal.types("q");
        assert_eq!(terminal.code(), Some(0));
        assert_eq!(terminal.settings(), before);
    });
}

#[test]
fn ctrl_bracket_powers_off_and_twice_ends() {
    each(|world| {
        let mut terminal = console(world);
        terminal.types("\x1d");
        terminal.shows("BUTTON");
        assert_eq!(terminal.code(), Some(0));
        assert!(!terminal.is_raw());

        let mut terminal = console(world);
        terminal.types("i");
        terminal.shows("IGNORING");
        terminal.types("\x1d");
        terminal.shows("asking");
        terminal.types("\x1d");
        assert_eq!(terminal.code(), Some(4));
        assert!(!terminal.is_raw());
    });
}

#[test]
fn the_terminal_is_given_back_when_qemu_is_killed() {
    each(|world| {
        let mut terminal = console(world);
        assert!(terminal.is_raw());
        kill(Pid::from_raw(world.pid("qemu")), Signal::SIGKILL).unwrap();
        assert_eq!(terminal.code(), Some(4));
        assert!(!terminal.is_raw());
    });
}

#[test]
fn the_console_works_on_a_pipe() {
    each(|world| {
        let machine = world.machine("serial: Console");
        let mut command = world.command(&[machine.to_str().unwrap()]);
        command.stdin(Stdio::piped());
        let mut launcher = world.start(command);
        wait_for("HELLO", || launcher.said().contains("HELLO").then_some(()));
        let mut input = launcher.input();
        input.write_all(b"?").unwrap();
        wait_for("HERE", || launcher.said().contains("HERE").then_some(()));
        // The end of the input is not the end of the guest.
        drop(input);
        world.done(&["stop", &world.name]).with(0);
        let ended = launcher.ended().with(0);
        assert!(ended.out.contains("BUTTON"), "{ended:?}");
    });
}

#[test]
fn nothing_that_the_guest_says_first_is_lost() {
    each(|world| {
        // It says one word and powers off.
        let machine = world.machine("serial: Console, kernel: (image: \"guest\", cmdline: \"!\")");
        for _ in 0..5 {
            let ended = world.run(&machine).ended().with(0);
            assert_eq!(ended.out, "HELLO\n", "{ended:?}");
        }
    });
}

#[test]
fn a_reader_that_pauses_holds_up_nothing_and_misses_nothing() {
    each(|world| {
        let machine = world.machine("serial: Console");
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        // Full to the last byte, as behind `less`, or a connection that is dead.
        nix::fcntl::fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
        writer.write_all(&[b'.'; 4096]).unwrap();
        let mut command = world.command(&[machine.to_str().unwrap()]);
        command.stdin(Stdio::piped()).stdout(writer).stderr(Stdio::null());
        let mut launcher = command.spawn().unwrap();
        drop(command);
        wait_for("its supervision", || {
            let status = world.done(&["status", &world.name, "--json"]).json();
            (status["state"] == "running").then_some(())
        });
        let mut guest = launcher.stdin.take().unwrap();
        guest.write_all(b"?").unwrap();
        world.done(&["alive", &world.name]).with(0);
        let mut shown = String::new();
        wait_for("HERE", || {
            let mut part = [0; 4096];
            let n = reader.read(&mut part).unwrap();
            shown.push_str(std::str::from_utf8(&part[..n]).unwrap());
            shown.ends_with("HELLO\nHERE\n").then_some(())
        });
        world.done(&["stop", &world.name]).with(0);
        assert_eq!(launcher.wait().unwrap().code(), Some(0));
    });
}

/// Ends a guest whose launcher has nobody who reads its messages.
fn ends_all_the_same(world: &World, mut command: Command) {
    let mut launcher = command.spawn().unwrap();
    wait_for("its supervision", || {
        let status = world.done(&["status", &world.name, "--json"]).json();
        (status["state"] == "running").then_some(())
    });
    // Many messages: each reset has one.
    let mut guest = Serial::of_running(world);
    for _ in 0..3 {
        guest.type_in("r").says("HELLO");
    }
    world.done(&["stop", &world.name]).with(0);
    assert_eq!(launcher.wait().unwrap().code(), Some(0));
}

#[test]
fn a_pipe_that_nobody_reads_does_not_keep_the_guest_from_its_end() {
    each(|world| {
        let machine = world.machine("serial: Socket");
        for json in [false, true] {
            let (_reader, mut writer) = std::io::pipe().unwrap();
            nix::fcntl::fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
            writer.write_all(&[b'.'; 4096]).unwrap();
            let mut command = world.command(&["run", machine.to_str().unwrap()]);
            if json {
                command.arg("--json").stdout(writer).stderr(Stdio::null());
            } else {
                command.stdout(Stdio::null()).stderr(writer);
            }
            ends_all_the_same(world, command);
        }
    });
}

#[test]
fn a_terminal_in_ctrl_s_does_not_keep_the_guest_from_its_end() {
    each(|world| {
        for own_terminal in [true, false] {
            let pty = openpty(None, None).unwrap();
            if own_terminal {
                own(&nix::unistd::ttyname(&pty.slave).unwrap());
            }
            nix::sys::termios::tcflow(&pty.slave, nix::sys::termios::FlowArg::TCOOFF).unwrap();
            let mut command = world.command(&["run", world.machine("serial: Socket").to_str().unwrap()]);
            command.stdout(Stdio::null()).stderr(Stdio::from(pty.slave.try_clone().unwrap()));
            ends_all_the_same(world, command);
        }
    });
}

#[test]
fn a_terminal_that_takes_nothing_does_not_keep_the_guest_from_its_end() {
    each(|world| {
        let machine = world.machine("serial: Console");
        let mut terminal = Terminal::of_user(world.command(&[machine.to_str().unwrap()]));
        terminal.shows("HELLO");
        // Full, as behind a connection that is dead.
        let path = format!("/proc/self/fd/{}", terminal.slave.as_raw_fd());
        let mut full = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path).unwrap();
        while full.write(&[b'.'; 64]).is_ok() {}
        terminal.types("?");
        world.done(&["stop", &world.name]).with(0);
        assert_eq!(terminal.code(), Some(0));
    });
}

/// The verb `console` in a terminal.
fn visits(world: &World) -> Terminal {
    let mut terminal = Terminal::with(world.command(&["console", &world.name]));
    terminal.shows("Ctrl-] leaves");
    wait_for("raw mode", || terminal.is_raw().then_some(()));
    terminal
}

#[test]
fn a_visitor_of_the_console_leaves_and_the_guest_goes_on() {
    each(|world| {
        let name = world.name.as_str();
        let mut launcher = world.run(&world.machine("serial: Socket"));
        launcher.tells(" runs (");
        let before = Terminal::with(world.command(&["status", name])).settings();
        let mut terminal = visits(world);
        terminal.types("?");
        terminal.shows("HERE");
        // Ctrl-C is the guest's, and one at a time has the port.
        terminal.types("\x03?");
        terminal.shows("HERE\r\nHERE");
        let other = world.done(&["console", name]).with(1);
        assert!(other.err.contains("another program has the serial port"), "{other:?}");
        terminal.types("\x1d");
        terminal.shows("goes on");
        assert_eq!((terminal.code(), terminal.settings()), (Some(0), before.clone()));

        for signal in [Signal::SIGTERM, Signal::SIGHUP] {
            let mut terminal = visits(world);
            kill(Pid::from_raw(terminal.child.id() as i32), signal).unwrap();
            assert_eq!((terminal.code(), terminal.settings()), (Some(0), before.clone()), "{signal}");
        }
        // The guest's end is the visit's.
        let mut terminal = visits(world);
        terminal.types("q");
        terminal.shows("has closed its serial port");
        assert_eq!((terminal.code(), terminal.settings()), (Some(0), before));
        launcher.ended().with(0);
    });
}

#[test]
fn a_visit_by_a_pipe_is_a_plain_stream() {
    each(|world| {
        let mut launcher = world.run(&world.machine("serial: Socket"));
        launcher.tells(" runs (");
        let mut command = world.command(&["console", &world.name]);
        command.stdin(Stdio::piped());
        let mut visit = world.start(command);
        let mut input = visit.input();
        // Ctrl-] is a byte as any other here.
        input.write_all(b"\x1d?").unwrap();
        wait_for("HERE", || visit.said().contains("HERE").then_some(()));
        // The end of the input is not the end of the visit.
        drop(input);
        world.done(&["stop", &world.name]).with(0);
        let ended = visit.ended().with(0);
        assert!(ended.out.ends_with("HERE\nBUTTON\n"), "{ended:?}");
        launcher.ended().with(0);
    });
}

#[test]
fn a_visit_whose_output_cannot_be_written_ends() {
    each(|world| {
        let name = world.name.as_str();
        let mut launcher = world.run(&world.machine("serial: Socket"));
        launcher.tells(" runs (");
        let (reader, unread) = std::io::pipe().unwrap();
        drop(reader);
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        for (output, code, words) in [(Stdio::from(unread), 0, ""), (full.into(), 1, "No space left on device")] {
            let mut command = world.command(&["console", name]);
            command.stdin(Stdio::piped()).stdout(output).stderr(Stdio::piped());
            let mut visit = command.spawn().unwrap();
            // The guest answers.
            visit.stdin.take().unwrap().write_all(b"?").unwrap();
            let ended = visit.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&ended.stderr);
            assert!(ended.status.code() == Some(code) && said.contains(words), "{:?}: {said}", ended.status);
            assert!(code != 0 || said.is_empty(), "{said}");
        }
        world.done(&["stop", name]).with(0);
        launcher.ended().with(0);
    });
}

#[test]
fn a_console_that_cannot_be_joined_says_why() {
    each(|world| {
        let name = world.name.as_str();
        assert!(world.done(&["console", name]).with(1).err.contains("does not run"));
        let mut launcher = world.run(&world.machine("serial: Console"));
        launcher.tells(" runs (");
        let refused = world.done(&["console", name]).with(1);
        assert!(refused.err.contains(&format!("the launcher of {name} (process {})", launcher.pid())), "{refused:?}");
        assert!(refused.err.contains("With `serial: Socket`"), "{refused:?}");
        world.done(&["stop", name]).with(0);
        launcher.ended().with(0);
        world.is_clean();
        let mut launcher = world.run(&world.machine("serial: File(\"serial.txt\")"));
        launcher.tells(" runs (");
        let refused = world.done(&["console", name]).with(1);
        assert!(refused.err.contains("has no serial port that could be joined; `serial: Socket`"), "{refused:?}");
        world.done(&["stop", name]).with(0);
        launcher.ended().with(0);
    });
}
