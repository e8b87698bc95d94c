//! Connects the terminal to the guest's serial port.

use std::os::unix::net::UnixStream as StdStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::plan::Plan;
use crate::qemu::qmp::{Answer, Qmp};
use crate::run::supervising::stdout::Output;
use crate::run::terminal::Typed;

/// Ctrl-], as telnet and virsh have it.
const ESCAPE: u8 = 0x1d;

/// What happened on the console.
#[derive(Debug, PartialEq, Eq)]
pub enum ConsoleEvent {
    /// Ctrl-]: the user wants the guest to end.
    Escape,
    /// The guest's side is closed: QEMU has exited.
    Closed,
    /// A visitor's output cannot be written any more. A launcher's console goes on: that is no reason to end the guest.
    Unwritten(Errno),
}

/// The terminal (or a pipe) on one side, the guest's serial port on the other.
#[derive(Debug)]
pub struct Console {
    serial: UnixStream,
    typed: Typed,
    output: Output,
    /// Whether it is a visitor's.
    visits: bool,
    /// Typed, and not yet accepted by the serial port.
    pending: Vec<u8>,
}

/// Connects to the guest's serial port, if the plan says so. A QEMU that does not run yet will find the connection.
pub fn dial(plan: &Plan) -> Option<Result<StdStream>> {
    let socket = plan.paths.run.join("serial.sock");
    let dialled =
        || StdStream::connect(&socket).with_context(|| format!("cannot reach the serial port at {}", socket.display()));
    plan.console.then(dialled)
}

/// The command that tells whether QEMU has accepted the connection.
pub const IS_ACCEPTED: &str = "query-chardev";

/// Connects this terminal to the guest's serial port, which was dialled. The guest runs without it if that fails. `told`: what
/// QEMU has answered to [`IS_ACCEPTED`] since.
pub async fn connect(dialled: Option<Result<StdStream>>, told: Option<Answer>, qmp: &mut Qmp) -> Option<Console> {
    let dialled = dialled?;
    let joined = async {
        let serial = dialled?;
        wait_until_accepted(told, qmp).await?;
        Console::open(serial, false)
    };
    match joined.await {
        Ok(console) => {
            if console.is_terminal() {
                tracing::info!("this terminal is the guest's console; Ctrl-] asks the guest to power off");
            }
            Some(console)
        }
        Err(error) => {
            tracing::warn!("this terminal is not connected to the guest's serial port: {error:#}");
            None
        }
    }
}

impl Console {
    /// Joins terminal and serial port. Standard input that the event loop cannot watch (a regular file, /dev/null) is not
    /// read. A visitor leaves when its output cannot be written.
    pub(super) fn open(serial: StdStream, visits: bool) -> Result<Self> {
        serial.set_nonblocking(true)?;
        let typed = Typed::standard()?;
        let output = Output::standard()?;
        Ok(Self { serial: UnixStream::from_std(serial)?, typed, output, visits, pending: Vec::new() })
    }

    /// Whether a terminal is joined, so that Ctrl-C goes to the guest.
    pub(super) fn is_terminal(&self) -> bool {
        self.typed.is_terminal()
    }

    /// Shows what the guest wrote before QEMU exited.
    pub async fn show_final_output(&mut self) {
        let mut buffer = [0u8; 4096];
        let all = async {
            self.output.flush().await;
            while let Ok(n) = self.serial.read(&mut buffer).await
                && n > 0
            {
                self.output.push(&buffer[..n]);
                self.output.flush().await;
            }
        };
        // It can only take longer when another process holds QEMU's end, or nothing reads what we write.
        let _ = tokio::time::timeout(FINAL_OUTPUT_LIMIT, all).await;
    }

    /// Relays bytes both ways until there is an event. Can be dropped and called again: what was read is either written or
    /// kept. While the terminal does not take the guest's output, no more is read from the guest.
    pub async fn relay(&mut self) -> ConsoleEvent {
        let mut buffer = [0u8; 4096];
        loop {
            if let (true, Some(error)) = (self.visits, self.output.failure()) {
                return ConsoleEvent::Unwritten(error);
            }
            if !self.pending.is_empty() {
                match self.serial.write(&self.pending).await {
                    Ok(n) if n > 0 => {
                        self.pending.drain(..n);
                        continue;
                    }
                    _ => return ConsoleEvent::Closed,
                }
            }
            tokio::select! {
                () = self.output.flush(), if !self.output.is_empty() => {}
                read = self.serial.read(&mut buffer), if self.output.is_empty() => match read {
                    Ok(n) if n > 0 => self.output.push(&buffer[..n]),
                    _ => return ConsoleEvent::Closed,
                },
                Some(bytes) = self.typed.next() => match bytes.iter().position(|b| *b == ESCAPE) {
                    Some(at) if self.typed.is_terminal() => {
                        self.pending.extend_from_slice(&bytes[..at]);
                        return ConsoleEvent::Escape;
                    }
                    _ => self.pending.extend_from_slice(&bytes),
                },
            }
        }
    }
}

/// Waits until QEMU has accepted the connection: what the guest writes before that is lost.
async fn wait_until_accepted(mut told: Option<Answer>, qmp: &mut Qmp) -> Result<()> {
    let deadline = Instant::now() + ACCEPT_LIMIT;
    loop {
        // Raw, because qapi's type of the answer may want members that this QEMU does not have.
        let chardevs = match told.take() {
            Some(answer) => answer?,
            None => qmp.execute_raw(IS_ACCEPTED, json!({})).await?,
        };
        let is_free = |chardev: &Value| {
            let file = chardev["filename"].as_str().unwrap_or_default();
            chardev["label"] == "serial0" && file.starts_with("disconnected:")
        };
        if !chardevs.as_array().is_some_and(|list| list.iter().any(is_free)) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("QEMU did not accept the console's connection within {} s", ACCEPT_LIMIT.as_secs());
        }
        tokio::time::sleep(ACCEPT_POLL).await;
    }
}

/// How long QEMU may take to accept the connection; nearly always it has when it is first asked.
const ACCEPT_LIMIT: Duration = Duration::from_secs(5);
const ACCEPT_POLL: Duration = Duration::from_millis(1);

/// How long the guest's final output may take: it is in the socket already.
const FINAL_OUTPUT_LIMIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_visitor_leaves_when_nobody_takes_what_the_guest_says() {
        for (visits, event) in [(true, ConsoleEvent::Unwritten(Errno::EPIPE)), (false, ConsoleEvent::Closed)] {
            let (serial, mut guest) = StdStream::pair().unwrap();
            serial.set_nonblocking(true).unwrap();
            let (reader, writer) = nix::unistd::pipe().unwrap();
            drop(reader);
            let serial = UnixStream::from_std(serial).unwrap();
            let output = Output::on(writer);
            let mut console = Console { serial, typed: Typed::nothing(), output, visits, pending: Vec::new() };
            std::io::Write::write_all(&mut guest, b"HELLO").unwrap();
            // A launcher's goes on until the guest has ended.
            let guest = visits.then_some(guest);
            assert_eq!(console.relay().await, event);
            drop(guest);
        }
    }
}
