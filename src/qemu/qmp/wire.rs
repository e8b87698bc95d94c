//! Lines of JSON over a byte stream, such that a dropped future never loses or halves a message.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use super::error::QmpError;

/// How much is read at once. QEMU writes its replies in pieces of this order.
const CHUNK: usize = 16 * 1024;

/// How many lines that are no messages are passed over.
const MOST_GARBLED: u32 = 100;
/// How much memory a line may take when it is parsed, in multiples of the longest line that is believed. QEMU's largest
/// answers take about 20.
const MOST_PARSED: usize = 24;

/// What a line costs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    /// Its length.
    pub(super) bytes: usize,
    /// About how much memory it takes when it is parsed; never much less than it does. Empty objects in a list are the
    /// worst: 3 bytes each in the line.
    pub(super) parsed: usize,
}

impl Cost {
    /// An object's table, and a value of any kind, in bytes.
    const OBJECT: usize = 512;
    const VALUE: usize = 80;

    fn of(line: &[u8]) -> Self {
        let parsed = line.iter().map(|byte| match byte {
            b'{' => Self::OBJECT,
            b'[' | b',' => Self::VALUE,
            _ => 1,
        });
        Self { bytes: line.len(), parsed: parsed.sum() }
    }
}

/// A stream cut into lines. All state lives here and not in the futures, so each of them may be dropped at any await.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    /// Bytes that were read and not yet handed out.
    incoming: Vec<u8>,
    /// Up to here `incoming` holds no line end.
    searched: usize,
    /// Whether the rest of an over-long line is being thrown away.
    skipping: bool,
    /// The longest line that is believed.
    pub(super) limit: usize,
    /// Lines that were passed over.
    garbled: u32,
    /// The command being written.
    outgoing: Vec<u8>,
    /// How much of it is written.
    sent: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S, limit: usize) -> Self {
        let (incoming, outgoing) = (Vec::new(), Vec::new());
        Self { stream, incoming, searched: 0, skipping: false, limit, garbled: 0, outgoing, sent: 0 }
    }

    /// The next line that holds a JSON object, and about how much memory that takes. Lines that do not are passed over, but
    /// not for ever.
    pub(super) async fn receive(&mut self) -> Result<(Value, Cost), QmpError> {
        loop {
            let Some(line) = self.next_line()? else {
                self.fill().await?;
                continue;
            };
            if line.trim_ascii().is_empty() {
                continue;
            }
            let cost = Cost::of(&line);
            let why = if cost.parsed > self.limit.saturating_mul(MOST_PARSED) {
                "takes too much memory"
            } else {
                match serde_json::from_slice::<Value>(&line) {
                    Ok(value @ Value::Object(_)) => return Ok((value, cost)),
                    Ok(_) => "is no JSON object",
                    Err(_) => "is no JSON",
                }
            };
            if self.garbled == 0 {
                tracing::warn!(bytes = line.len(), "QMP: ignored a line that {why}, and further such lines");
            }
            self.garbled += 1;
            if self.garbled > MOST_GARBLED {
                return Err(QmpError::Garbled { lines: self.garbled });
            }
        }
    }

    /// Writes one line. A line whose writing was cut short is finished first, because QEMU has its beginning; one
    /// that was never begun is forgotten.
    pub(super) async fn send(&mut self, line: Vec<u8>) -> Result<(), QmpError> {
        self.queue(line).await?;
        self.flush().await
    }

    /// Finishes a line whose writing was cut short, and keeps this one to be written next.
    async fn queue(&mut self, mut line: Vec<u8>) -> Result<(), QmpError> {
        if self.sent > 0 {
            self.flush().await?;
        }
        line.push(b'\n');
        self.outgoing = line;
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), QmpError> {
        while self.sent < self.outgoing.len() {
            // `write` has written nothing when it is dropped, so `sent` is always true.
            match self.stream.write(&self.outgoing[self.sent..]).await {
                Ok(0) => return Err(QmpError::Closed),
                Ok(written) => self.sent += written,
                Err(error) => return Err(closed_or(error)),
            }
        }
        self.outgoing.clear();
        self.sent = 0;
        self.stream.flush().await.map_err(closed_or)
    }

    async fn fill(&mut self) -> Result<(), QmpError> {
        self.incoming.reserve(CHUNK);
        // `read_buf` has read nothing when it is dropped.
        match self.stream.read_buf(&mut self.incoming).await {
            Ok(0) => Err(QmpError::Closed),
            Ok(_) => Ok(()),
            Err(error) => Err(closed_or(error)),
        }
    }

    /// Takes a whole line out of what was read, or says that more is needed.
    fn next_line(&mut self) -> Result<Option<Vec<u8>>, QmpError> {
        let end = self.incoming[self.searched..].iter().position(|b| *b == b'\n').map(|at| self.searched + at);
        if self.skipping {
            match end {
                Some(end) => {
                    self.incoming.drain(..=end);
                    self.skipping = false;
                }
                None => self.incoming.clear(),
            }
            self.searched = 0;
            // The rest may hold a further line; the caller looks again before it reads.
            return if self.skipping { Ok(None) } else { Err(QmpError::LineTooLong { limit: self.limit }) };
        }
        match end {
            Some(end) if end > self.limit => {
                self.incoming.drain(..=end);
                self.searched = 0;
                Err(QmpError::LineTooLong { limit: self.limit })
            }
            Some(end) => {
                let rest = self.incoming.split_off(end + 1);
                self.searched = 0;
                Ok(Some(std::mem::replace(&mut self.incoming, rest)))
            }
            None if self.incoming.len() > self.limit => {
                // Freed at once: the limit is there to bound memory.
                self.incoming = Vec::new();
                self.searched = 0;
                self.skipping = true;
                Ok(None)
            }
            None => {
                self.searched = self.incoming.len();
                Ok(None)
            }
        }
    }
}

impl Wire<UnixStream> {
    /// As [`Self::send`], with a descriptor that QEMU gets a duplicate of. It goes with the line's first byte, so a line
    /// whose writing was cut short has taken it along.
    pub(super) async fn send_with(&mut self, line: Vec<u8>, fd: BorrowedFd<'_>) -> Result<(), QmpError> {
        self.queue(line).await?;
        let fds = [fd.as_raw_fd()];
        let sent = self.stream.async_io(Interest::WRITABLE, || {
            let (text, rights) = ([IoSlice::new(&self.outgoing)], [ControlMessage::ScmRights(&fds)]);
            Ok(sendmsg::<()>(self.stream.as_raw_fd(), &text, &rights, MsgFlags::MSG_NOSIGNAL, None)?)
        });
        self.sent = sent.await.map_err(closed_or)?;
        self.flush().await
    }
}

/// QEMU closes its end with a command unread when it quits, which the kernel reports as a reset or a broken pipe.
fn closed_or(error: io::Error) -> QmpError {
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::NotConnected
        | io::ErrorKind::UnexpectedEof => QmpError::Closed,
        _ => QmpError::Io(error),
    }
}
