//! The line to the agent inside a lab host (`l1/agent` has the protocol).

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A command that has ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Exit status as a shell counts it: 128 + n for signal n.
    pub status: i32,
    /// Standard output without the last line ends.
    pub stdout: String,
    /// Standard error without the last line ends.
    pub stderr: String,
}

/// The line to the agent.
pub struct Agent {
    stream: UnixStream,
    heard: Vec<u8>,
    ended: HashMap<u32, Ended>,
    next: u32,
    /// Whether anything but a hello is left over from the boot before.
    is_booting: bool,
    transcript: File,
    /// When the power was switched on.
    since: Instant,
}

impl Agent {
    /// Takes over a line. Everything that goes over it is written to `transcript` too.
    pub fn new(stream: UnixStream, transcript: File) -> Self {
        Self {
            stream,
            heard: Vec::new(),
            ended: HashMap::new(),
            next: 1,
            is_booting: false,
            transcript,
            since: Instant::now(),
        }
    }

    /// Starts a command and gives its number.
    pub fn start(&mut self, command: &str) -> Result<u32> {
        let id = self.next;
        self.next += 1;
        let line = format!("{id} {}\n", command.replace('\\', "\\\\").replace('\n', "\\n"));
        let now = self.now();
        writeln!(self.transcript, "[{id}] {now} {command}")?;
        self.stream.set_write_timeout(Some(Duration::from_secs(20)))?;
        self.stream.write_all(line.as_bytes()).context("the line to the lab host is broken")?;
        Ok(id)
    }

    /// Waits for the end of a command.
    ///
    /// # Errors
    /// When the deadline passes or the host is gone.
    pub fn wait(&mut self, id: u32, deadline: Instant) -> Result<Ended> {
        loop {
            if let Some(ended) = self.ended.remove(&id) {
                return Ok(ended);
            }
            self.hear(deadline)?;
        }
    }

    /// Whether a command has ended; waits for nothing.
    pub fn has_ended(&mut self, id: u32) -> Result<bool> {
        while !self.ended.contains_key(&id) {
            self.stream.set_nonblocking(true)?;
            let heard = self.hear_once();
            self.stream.set_nonblocking(false)?;
            if !heard? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits for the agent of a fresh boot to say hello. Commands of the boot before are forgotten.
    ///
    /// # Errors
    /// When the deadline passes, the host is gone, or `is_hopeless`, which is asked each second.
    pub fn wait_for_hello(&mut self, deadline: Instant, is_hopeless: impl Fn() -> bool) -> Result<()> {
        self.is_booting = true;
        while self.is_booting {
            self.stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            let heard = self.hear_once().context("the lab host did not come up")?;
            if !heard && (Instant::now() > deadline || is_hopeless()) {
                bail!("the lab host did not come up");
            }
        }
        Ok(())
    }

    /// Seconds since power on, for the transcript.
    fn now(&self) -> String {
        format!("{:.1} s", self.since.elapsed().as_secs_f32())
    }

    fn hear(&mut self, deadline: Instant) -> Result<()> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("the lab host did not answer in time");
            }
            self.stream.set_read_timeout(Some(left))?;
            if self.hear_once()? {
                return Ok(());
            }
        }
    }

    /// Reads what is there; says whether there was anything.
    fn hear_once(&mut self) -> Result<bool> {
        let mut buffer = [0; 65536];
        match self.stream.read(&mut buffer) {
            Ok(0) => bail!("the lab host is gone"),
            Ok(count) => {
                self.heard.extend(&buffer[..count]);
                while self.take_one()? {}
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(false),
            Err(error) => Err(error).context("the line to the lab host is broken"),
        }
    }

    /// Takes one whole message out of what was heard. Anything before it is noise of a boot or of a crash.
    fn take_one(&mut self) -> Result<bool> {
        let sign: &[u8] = if self.is_booting { b"@@HELLO " } else { b"@@" };
        let Some(start) = find(&self.heard, sign) else { return Ok(false) };
        let Some(length) = find(&self.heard[start..], b"\n") else { return Ok(false) };
        let line = String::from_utf8_lossy(&self.heard[start..start + length]).into_owned();
        let body = start + length + 1;
        let words: Vec<&str> = line.split(' ').collect();
        let mut end = body;
        match words.as_slice() {
            ["@@HELLO", boot] => {
                writeln!(self.transcript, "hello from boot {boot}")?;
                self.is_booting = false;
                self.ended.clear();
            }
            ["@@DONE", id, status, out, err] => {
                let (out, err): (usize, usize) = (out.parse()?, err.parse()?);
                if self.heard.len() < body + out + err {
                    return Ok(false);
                }
                end += out + err;
                let text = |from: usize, to: usize| String::from_utf8_lossy(&self.heard[from..to]).into_owned();
                let (stdout, stderr) = (text(body, body + out), text(body + out, end));
                let ended = Ended { status: status.parse()?, stdout, stderr };
                let now = self.now();
                writeln!(
                    self.transcript,
                    "[{id}] {now} → {}\n{}{}",
                    ended.status,
                    indent(&ended.stdout),
                    indent(&ended.stderr)
                )?;
                self.ended.insert(id.parse()?, ended);
            }
            _ => writeln!(self.transcript, "noise: {line}")?,
        }
        self.heard.drain(..end);
        Ok(true)
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Sets output off from commands in the transcript; what is very long is cut.
fn indent(text: &str) -> String {
    let mut lines: Vec<String> = text.lines().take(200).map(|line| format!("      {line}\n")).collect();
    let more = text.lines().count().saturating_sub(200);
    if more > 0 {
        lines.push(format!("      … {more} lines more\n"));
    }
    lines.concat()
}
