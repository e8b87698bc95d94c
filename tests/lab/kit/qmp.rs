//! L0's monitor. A few commands, each with a deadline; the program's own QMP session is under test, so not used here.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, IoSlice, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Value, json};

/// How long a monitor command may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A monitor session.
pub struct Qmp {
    stream: BufReader<UnixStream>,
    line: Vec<u8>,
    /// Names and contents of the events so far.
    pub events: Vec<Value>,
}

impl Qmp {
    /// Greets the monitor.
    pub fn open(stream: UnixStream, deadline: Instant) -> Result<Self> {
        let mut qmp = Self { stream: BufReader::new(stream), line: Vec::new(), events: Vec::new() };
        qmp.next(deadline).context("no greeting from L0's monitor")?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Carries out a command and gives what it returns.
    ///
    /// # Errors
    /// QEMU's own words when it refuses; that it is late, when it is.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        let mut line = serde_json::to_vec(&json!({ "execute": command, "arguments": arguments }))?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).with_context(|| format!("cannot send `{command}` to L0"))?;
        self.answer(command, &arguments, deadline)
    }

    fn answer(&mut self, command: &str, arguments: &Value, deadline: Instant) -> Result<Value> {
        loop {
            let message = self.next(deadline).with_context(|| format!("no answer to `{command}` from L0"))?;
            if let Some(value) = message.get("return") {
                return Ok(value.clone());
            }
            if let Some(error) = message.get("error") {
                bail!("L0 refused `{command}` {arguments}: {}", error["desc"].as_str().unwrap_or("no reason given"));
            }
        }
    }

    /// Gives QEMU a descriptor, which it then knows as `name`.
    pub fn hand_over(&mut self, name: &str, file: &File) -> Result<()> {
        let line = format!("{}\n", json!({ "execute": "getfd", "arguments": { "fdname": name } }));
        let fds = [file.as_raw_fd()];
        let socket = self.stream.get_ref().as_raw_fd();
        let (text, rights) = ([IoSlice::new(line.as_bytes())], [ControlMessage::ScmRights(&fds)]);
        sendmsg::<()>(socket, &text, &rights, MsgFlags::empty(), None).context("cannot hand a descriptor to L0")?;
        self.answer("getfd", &Value::Null, Instant::now() + PATIENCE)?;
        Ok(())
    }

    /// Waits for an event with this name that came since the session began.
    pub fn wait_for_event(&mut self, name: &str, deadline: Instant) -> Result<Value> {
        loop {
            if let Some(at) = self.events.iter().position(|event| event["event"] == name) {
                return Ok(self.events.remove(at));
            }
            self.next(deadline).with_context(|| format!("no event {name} from L0"))?;
        }
    }

    /// The next message; an event is put aside first.
    fn next(&mut self, deadline: Instant) -> Result<Value> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("too late");
            }
            self.stream.get_ref().set_read_timeout(Some(left))?;
            match self.stream.read_until(b'\n', &mut self.line) {
                Ok(0) => bail!("L0's QEMU has ended"),
                // A part of a line stays in `self.line`.
                Ok(_) if !self.line.ends_with(b"\n") => {}
                Ok(_) => break,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let message: Value = serde_json::from_slice(&std::mem::take(&mut self.line))?;
        if message.get("event").is_some() {
            self.events.push(message.clone());
        }
        Ok(message)
    }
}
