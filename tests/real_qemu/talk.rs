//! The other ends of a running machine: the guest's serial port, QEMU's monitor, and systemd's notification socket.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::launcher::{LIMIT, wait_for};
use super::world::World;

/// How long an emulated Linux may take for anything: its boot takes ten seconds on a host that has time.
const LINUX_LIMIT: Duration = Duration::from_secs(300);
/// How long one read may block.
const PART: Duration = Duration::from_millis(100);

/// Connects as soon as there is somebody.
fn connect(path: &Path) -> UnixStream {
    let stream = wait_for(&path.display().to_string(), || UnixStream::connect(path).ok());
    stream.set_read_timeout(Some(PART)).unwrap();
    stream
}

/// Reads until `found` has something to give.
fn read_until<T>(
    stream: &mut UnixStream,
    heard: &mut Vec<u8>,
    what: &str,
    found: impl FnMut(&mut Vec<u8>) -> Option<T>,
) -> T {
    read_within(LIMIT, stream, heard, what, found)
}

fn read_within<T>(
    limit: Duration,
    stream: &mut UnixStream,
    heard: &mut Vec<u8>,
    what: &str,
    mut found: impl FnMut(&mut Vec<u8>) -> Option<T>,
) -> T {
    let deadline = Instant::now() + limit;
    let mut part = [0u8; 4096];
    loop {
        if let Some(found) = found(heard) {
            return found;
        }
        let so_far = String::from_utf8_lossy(heard);
        assert!(Instant::now() < deadline, "waited in vain for {what} after {so_far:?}");
        match stream.read(&mut part) {
            Ok(0) => panic!("closed before {what}; after {so_far:?}"),
            Ok(n) => heard.extend_from_slice(&part[..n]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(e) => panic!("{e} before {what}; after {so_far:?}"),
        }
    }
}

fn place_of(heard: &[u8], text: &str) -> Option<usize> {
    heard.windows(text.len()).position(|w| w == text.as_bytes())
}

/// Takes all up to a line of which this is the end, if it was heard; what was before that end.
fn take_line(heard: &mut Vec<u8>, end: &str) -> Option<String> {
    let line = format!("{end}\n");
    let at = place_of(heard, &line)?;
    let said = String::from_utf8_lossy(&heard[..at]).into_owned();
    heard.drain(..at + line.len());
    Some(said)
}

/// The guest's serial port.
pub struct Serial {
    stream: UnixStream,
    heard: Vec<u8>,
}

impl Serial {
    /// Connects to the port of a machine that runs or is about to: QEMU takes the connection before the guest runs.
    pub fn of(world: &World) -> Self {
        Self { stream: connect(&world.run_dir().join("serial.sock")), heard: Vec::new() }
    }

    /// Connects to the port of a guest that runs already, so that it may have said its `HELLO` to nobody: waits until it
    /// answers.
    pub fn of_running(world: &World) -> Self {
        let mut serial = Self::of(world);
        serial.type_in("?").says("HERE");
        serial
    }

    /// Waits until the guest says a line of which this is the end.
    pub fn says(&mut self, word: &str) -> &mut Self {
        read_until(&mut self.stream, &mut self.heard, word, |heard| take_line(heard, word));
        self
    }

    /// Waits, longer than for others, until a Linux guest says a line of which this is the end; all up to that.
    pub fn says_late(&mut self, word: &str) -> String {
        read_within(LINUX_LIMIT, &mut self.stream, &mut self.heard, word, |heard| take_line(heard, word))
    }

    /// Waits as long until a Linux guest says a line of which `word` is the end; not if it says `lost` before.
    pub fn says_late_or(&mut self, word: &str, lost: &str) -> bool {
        read_within(LINUX_LIMIT, &mut self.stream, &mut self.heard, word, |heard| match take_line(heard, word) {
            Some(_) => Some(true),
            None => place_of(heard, lost).map(|_| false),
        })
    }

    /// Types a letter.
    pub fn type_in(&mut self, letter: &str) -> &mut Self {
        self.stream.write_all(letter.as_bytes()).unwrap();
        self
    }

    /// Types a letter and leaves as soon as QEMU has read it. Left at once, QEMU hears of that first and reads no more.
    pub fn leave_with(mut self, letter: &str) {
        self.type_in(letter);
        // What is closed in one direction alone is read to its end, and only then closed in the other.
        self.stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = [0; 64];
        wait_for("the end of the connection", || match self.stream.read(&mut rest) {
            Ok(0) => Some(()),
            Err(e) if !matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Some(()),
            _ => None,
        });
    }

    /// Whether the port was closed without a word.
    pub fn said_nothing(&mut self) -> bool {
        let mut all = std::mem::take(&mut self.heard);
        // A connection that QEMU never took is reset.
        drop(self.stream.read_to_end(&mut all));
        all.is_empty()
    }
}

/// A QMP connection.
pub struct Qmp {
    stream: UnixStream,
    heard: Vec<u8>,
    events: Vec<Value>,
}

impl Qmp {
    /// Connects to the socket for the user's tools.
    pub fn of(world: &World) -> Self {
        Self::at(&world.run_dir().join("qmp.sock"))
    }

    /// Connects to a socket and greets.
    pub fn at(path: &Path) -> Self {
        let mut qmp = Self { stream: connect(path), heard: Vec::new(), events: Vec::new() };
        assert!(qmp.next("a greeting")["QMP"].is_object());
        qmp.ask("qmp_capabilities");
        qmp
    }

    fn next(&mut self, what: &str) -> Value {
        read_until(&mut self.stream, &mut self.heard, what, |heard| {
            let end = heard.iter().position(|b| *b == b'\n')?;
            let line: Vec<u8> = heard.drain(..=end).collect();
            Some(serde_json::from_slice(&line).unwrap())
        })
    }

    /// Executes a command without arguments and gives its answer.
    pub fn ask(&mut self, command: &str) -> Value {
        self.ask_with(command, json!({}))
    }

    /// Executes a command with these arguments and gives its answer.
    pub fn ask_with(&mut self, command: &str, arguments: Value) -> Value {
        let mut line = json!({ "execute": command, "arguments": arguments }).to_string();
        line.push('\n');
        self.stream.write_all(line.as_bytes()).unwrap();
        loop {
            let mut answer = self.next(command);
            if answer["event"].is_string() {
                self.events.push(answer);
                continue;
            }
            assert!(answer.get("return").is_some(), "{command}: {answer}");
            return answer["return"].take();
        }
    }

    /// Waits for an event.
    pub fn event(&mut self, name: &str) -> Value {
        loop {
            if let Some(at) = self.events.iter().position(|e| e["event"] == name) {
                return self.events.remove(at);
            }
            let next = self.next(name);
            self.events.push(next);
        }
    }
}

/// What systemd would be: a socket that is told how things are.
pub struct Notified {
    socket: UnixDatagram,
    path: PathBuf,
    all: String,
}

impl Notified {
    /// Listens in the world's folder.
    pub fn listen(world: &World) -> Self {
        let path = world.path("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
        socket.set_read_timeout(Some(PART)).unwrap();
        Self { socket, path, all: String::new() }
    }

    /// Has a program tell this socket.
    pub fn by(&self, command: &mut Command) {
        command.env("NOTIFY_SOCKET", &self.path);
    }

    /// Waits until a line was told; gives all that was told up to then.
    pub fn hears(&mut self, line: &str) -> &str {
        let deadline = Instant::now() + LIMIT;
        let mut part = [0u8; 4096];
        while !self.all.lines().any(|l| l.starts_with(line)) {
            assert!(Instant::now() < deadline, "waited in vain for {line}; was told {:?}", self.all);
            if let Ok(n) = self.socket.recv(&mut part) {
                self.all.push_str(&String::from_utf8_lossy(&part[..n]));
                self.all.push('\n');
            }
        }
        &self.all
    }
}
