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
    /// The command being written.
    outgoing: Vec<u8>,
    /// How much of it is written.
    sent: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S, limit: usize) -> Self {
        Self { stream, incoming: Vec::new(), searched: 0, skipping: false, limit, outgoing: Vec::new(), sent: 0 }
    }

    /// The next line that holds a JSON object. Lines that do not are warned of and passed over.
    pub(super) async fn receive(&mut self) -> Result<(Value, usize), QmpError> {
        loop {
            let Some(line) = self.next_line()? else {
                self.fill().await?;
                continue;
            };
            if line.trim_ascii().is_empty() {
                continue;
            }
            match serde_json::from_slice::<Value>(&line) {
                Ok(value @ Value::Object(_)) => return Ok((value, line.len())),
                Ok(_) => tracing::warn!(bytes = line.len(), "QMP: ignored a line that is no JSON object"),
                Err(error) => tracing::warn!(bytes = line.len(), %error, "QMP: ignored a line that is no JSON"),
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
