//! A started program whose output is kept and whose end is waited for, but never for ever.

use std::fmt;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The longest that anything may take; far more than it does, for machines that are busy.
pub const LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// Waits until there is something; panics with `what` when there is not.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(POLL);
    }
}

/// What a program has said so far.
#[derive(Default)]
pub struct Output {
    title: String,
    out: Mutex<Vec<u8>>,
    err: Mutex<Vec<u8>>,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &Mutex<Vec<u8>>| String::from_utf8_lossy(&bytes.lock().unwrap()).into_owned();
        write!(f, "{}\n-- output\n{}\n-- messages\n{}", self.title, text(&self.out), text(&self.err))
    }
}

/// A program that runs.
pub struct Launcher {
    child: Child,
    output: Arc<Output>,
    readers: Vec<JoinHandle<()>>,
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ended {
    /// Fails unless it ended with this code.
    pub fn with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// Standard output, which must be one JSON value.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

impl Launcher {
    /// Starts it; its output is read all the time.
    pub fn start(mut command: Command) -> Self {
        let title = format!("{command:?}").split_once("vfio-run\" ").map_or("", |t| t.1).to_owned();
        let output = Arc::new(Output { title, ..Output::default() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let kept = output.clone();
        let first = std::thread::spawn(move || keep(out, &kept.out));
        let kept = output.clone();
        let second = std::thread::spawn(move || keep(err, &kept.err));
        Self { child, output, readers: vec![first, second] }
    }

    /// What it has said, also when it is gone.
    pub fn output(&self) -> Arc<Output> {
        self.output.clone()
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Where its input goes, for one that was started with a pipe.
    pub fn input(&mut self) -> std::process::ChildStdin {
        self.child.stdin.take().unwrap()
    }

    /// Messages so far.
    pub fn messages(&self) -> String {
        String::from_utf8_lossy(&self.output.err.lock().unwrap()).into_owned()
    }

    /// Standard output so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.output.out.lock().unwrap()).into_owned()
    }

    /// Waits until its messages contain something.
    pub fn tells(&mut self, text: &str) -> &mut Self {
        wait_for(text, || {
            let gone = self.child.try_wait().unwrap();
            // The order matters: what it said last is read before its end is believed.
            if gone.is_some() {
                while !self.readers.iter().all(JoinHandle::is_finished) && !self.messages().contains(text) {
                    std::thread::sleep(POLL);
                }
            }
            let told = self.messages().contains(text);
            assert!(told || gone.is_none(), "it ended ({gone:?}) before it said {text:?}");
            told.then_some(())
        });
        self
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Waits for its end.
    pub fn ended(mut self) -> Ended {
        let status = wait_for("the program's end", || self.child.try_wait().unwrap());
        // QEMU may hold none of its pipes, or this would hang.
        wait_for("the end of its output", || self.readers.iter().all(JoinHandle::is_finished).then_some(()));
        Ended { code: status.code(), out: self.said(), err: self.messages() }
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn keep(mut from: impl Read, into: &Mutex<Vec<u8>>) {
    let mut part = [0u8; 4096];
    while let Ok(n) = from.read(&mut part)
        && n > 0
    {
        into.lock().unwrap().extend_from_slice(&part[..n]);
    }
}
