//! A stand-in for a QEMU that its guest has taken over: it takes QEMU's place, descriptors and all, and misbehaves.
//!
//! It is this test program itself, started by a small script in QEMU's place: the script hands what asks a QEMU what it
//! can do to the real one, and only the guest's run comes here.

use std::io::{BufRead as _, BufReader, Write};
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::world::{World, startable};

/// The variable by which the script tells what is to be done.
const MODE: &str = "VFIO_RUN_TEST_STAND_IN";
/// A process that has nothing to do with the machine.
const BYSTANDER: &str = "VFIO_RUN_TEST_BYSTANDER";

const GREETING: &str =
    r#"{"QMP":{"version":{"qemu":{"micro":22,"minor":2,"major":7},"package":""},"capabilities":[]}}"#;
/// What would be obeyed by a terminal, and taken for the launcher's own words.
pub const FORGED: &str = "\u{1b}]0;title\u{7}\u{1b}[2J\nvfio-run: the host is as it was\r\n";

/// How it misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Mode {
    /// It never greets.
    Silent,
    /// It greets and answers nothing.
    Mute,
    /// It answers with ids that nobody gave.
    WrongIds,
    /// It answers with a status that QEMU does not have.
    UnknownStatus,
    /// It refuses `cont` in words that a terminal would obey.
    ForgedRefusal,
    /// It gives another process's thread as its vCPU.
    ForeignThread,
    /// The rest begin when the guest runs. It sends garbage for as long as anybody takes it.
    Garbled,
    /// Resets without end.
    Resets,
    /// Events that are dear to parse, without end.
    Amplified,
    /// One line without end.
    EndlessLine,
    /// Events with words that a terminal would obey.
    ForgedEvents,
    /// It closes the monitor and goes on.
    ClosesMonitor,
    /// It answers nothing any more, and heeds no signal that it may ignore.
    Deaf,
    /// It is stopped.
    Stopped,
    /// It says more than a log should hold.
    Chatters,
    /// It empties its log, writes over it from the beginning, blows it up and ends.
    CutsItsLog,
    /// It leaves in the middle of an answer.
    HalfAnswer,
    /// It lets go of the lock that says that it lives, and of all else that it was given.
    LetsGo,
}

/// Every one.
pub const MODES: [Mode; 18] = [
    Mode::Silent,
    Mode::Mute,
    Mode::WrongIds,
    Mode::UnknownStatus,
    Mode::ForgedRefusal,
    Mode::ForeignThread,
    Mode::Garbled,
    Mode::Resets,
    Mode::Amplified,
    Mode::EndlessLine,
    Mode::ForgedEvents,
    Mode::ClosesMonitor,
    Mode::Deaf,
    Mode::Stopped,
    Mode::Chatters,
    Mode::CutsItsLog,
    Mode::HalfAnswer,
    Mode::LetsGo,
];

impl Mode {
    /// Whether it already keeps the guest from starting.
    pub fn spoils_the_start(self) -> bool {
        (self as usize) < (Mode::Garbled as usize)
    }
}

/// Makes a program that is the world's QEMU for whoever asks what it can do, and the stand-in for a guest. `test` is
/// the name of the test that calls [`act`].
pub fn write(world: &World, mode: Mode, test: &str, bystander: u32) -> PathBuf {
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *\" -uuid \"*) ;; *) exec {} \"$@\" ;; esac\n\
         {MODE}='{}' {BYSTANDER}={bystander} VFIO_RUN_TEST={} exec {} --exact {test} --nocapture\n",
        world.qemu().display(),
        serde_json::to_string(&mode).unwrap(),
        world.path("").display(),
        startable(&std::env::current_exe().unwrap()).display(),
    );
    let path = world.file("stand-in", script);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Never returns if this process is the stand-in.
pub fn act() {
    if let Ok(mode) = std::env::var(MODE) {
        // SAFETY: the script was given the launcher's monitor as this descriptor, and nobody else here uses it.
        let monitor = UnixStream::from(unsafe { OwnedFd::from_raw_fd(3) });
        let ended = play(serde_json::from_str(&mode).unwrap(), monitor);
        std::process::exit(i32::from(ended.is_err()));
    }
}

fn say(mut to: &UnixStream, what: &Value) -> std::io::Result<()> {
    to.write_all(format!("{what}\r\n").as_bytes())
}

/// Says one thing again and again, until nobody listens.
fn flood(mut to: &UnixStream, what: &[u8]) -> std::io::Result<()> {
    loop {
        to.write_all(what)?;
    }
}

fn sleep_for_ever() -> ! {
    loop {
        std::thread::park();
    }
}

fn play(mode: Mode, monitor: UnixStream) -> std::io::Result<()> {
    if mode == Mode::Silent {
        sleep_for_ever();
    }
    (&monitor).write_all(GREETING.as_bytes())?;
    (&monitor).write_all(b"\r\n")?;
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // A vCPU's thread.
        tell.send(nix::unistd::gettid().as_raw()).unwrap();
        sleep_for_ever();
    });
    let vcpu = told.recv().unwrap();
    let bystander: i32 = std::env::var(BYSTANDER).unwrap().parse().unwrap();
    let mut running = false;
    for line in BufReader::new(monitor.try_clone()?).lines() {
        let command: Value = serde_json::from_str(&line?)?;
        let (name, mut id) = (command["execute"].as_str().unwrap_or_default(), command["id"].clone());
        if running && mode == Mode::Deaf || mode == Mode::Mute && name != "qmp_capabilities" {
            continue;
        }
        if mode == Mode::WrongIds && name != "qmp_capabilities" {
            id = json!(987_654);
        }
        let answer = match name {
            "query-cpus-fast" => {
                let thread = if mode == Mode::ForeignThread { bystander } else { vcpu };
                let path = "/machine/unattached/device[0]";
                json!([{ "cpu-index": 0, "qom-path": path, "thread-id": thread, "target": "x86_64" }])
            }
            "query-status" if mode == Mode::UnknownStatus => json!({ "status": FORGED, "running": running }),
            "query-status" => {
                let status = if running { "running" } else { "prelaunch" };
                json!({ "status": status, "running": running, "singlestep": false })
            }
            "cont" if mode == Mode::ForgedRefusal => {
                say(&monitor, &json!({ "error": { "class": FORGED, "desc": FORGED }, "id": id }))?;
                continue;
            }
            name if name.starts_with("query-") || name == "qom-list" => json!([]),
            _ => json!({}),
        };
        say(&monitor, &json!({ "return": answer, "id": id }))?;
        match name {
            "quit" => return Ok(()),
            "cont" => {
                running = true;
                let monitor = monitor.try_clone()?;
                match mode {
                    // Nothing that it holds may be left open, not even by another thread.
                    Mode::LetsGo => let_go(),
                    _ => drop(std::thread::spawn(move || misbehave(mode, &monitor))),
                }
            }
            _ => {}
        }
    }
    // The launcher's end is nothing to it.
    sleep_for_ever()
}

/// What begins when the guest runs.
fn misbehave(mode: Mode, monitor: &UnixStream) -> std::io::Result<()> {
    let event = |name: &str, data: Value| {
        json!({ "event": name, "data": data, "timestamp": { "seconds": 1, "microseconds": 2 } }).to_string() + "\n"
    };
    match mode {
        Mode::Garbled => flood(monitor, "\u{1b}[31m{\"half\": [[[\u{7}\n".repeat(500).as_bytes()),
        Mode::Resets => {
            flood(monitor, event("RESET", json!({ "guest": true, "reason": "guest-reset" })).repeat(100).as_bytes())
        }
        Mode::Amplified => {
            let all = json!({ "all": vec![json!({ "": 0 }); 100_000] });
            flood(monitor, event("RTC_CHANGE", all).as_bytes())
        }
        Mode::EndlessLine => flood(monitor, &[b'x'; 65_536]),
        Mode::ForgedEvents => {
            let data = json!({ "reason": FORGED, "action": FORGED, "path": FORGED, "device": FORGED });
            for name in ["BLOCK_IO_ERROR", "WATCHDOG", "GUEST_PANICKED", "SHUTDOWN", "MEMORY_FAILURE", FORGED] {
                (&*monitor).write_all(event(name, data.clone()).as_bytes())?;
            }
            Ok(())
        }
        Mode::ClosesMonitor => monitor.shutdown(std::net::Shutdown::Both),
        Mode::Deaf => {
            for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
                // SAFETY: to ignore a signal runs no code.
                unsafe { libc::signal(signal, libc::SIG_IGN) };
            }
            Ok(())
        }
        Mode::Stopped => Ok(nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP)?),
        Mode::Chatters => {
            let much = format!("{FORGED}{}\n", "x".repeat(4000)).repeat(16);
            loop {
                std::io::stderr().write_all(much.as_bytes())?;
            }
        }
        Mode::CutsItsLog => {
            let log = std::fs::File::from(std::io::stderr().as_fd().try_clone_to_owned()?);
            log.set_len(0)?;
            // Without O_APPEND, so that it writes where it likes.
            nix::fcntl::fcntl(&log, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty()))?;
            (&log).write_all(format!("{FORGED}\n").as_bytes())?;
            log.set_len(32 << 20)?;
            std::process::exit(1);
        }
        Mode::HalfAnswer => {
            (&*monitor).write_all(b"{\"return\": {\"status\": \"run")?;
            std::process::exit(0);
        }
        _ => Ok(()),
    }
}

/// Closes all that it was given, the lock of `guest.lock` among it, and lives on.
fn let_go() -> ! {
    // SAFETY: nothing here uses a descriptor any more.
    unsafe { libc::close_range(0, u32::MAX, 0) };
    sleep_for_ever()
}

/// The most memory that a process has had resident, in KiB.
pub fn peak_memory(pid: i32) -> Option<u64> {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?.parse().ok()
}
