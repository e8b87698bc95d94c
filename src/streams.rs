//! Standard output and error, written so that nobody waits for a reader who does not read: a terminal that was stopped with
//! Ctrl-S or is behind a dead connection, a pipe into a program that hangs.
//!
//! The descriptors that we share with our parent shell are not set to non-blocking, since that would hold for the shell too;
//! a terminal is opened once more instead.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How much is written at once after poll(2) has reported the descriptor writable. A pipe has room for more; a terminal may
/// have room for less, which matters only if it cannot be opened once more.
const AT_ONCE: usize = 128;
/// How long the last messages wait for a reader, all together.
const SHORT: Duration = Duration::from_secs(1);

/// How long a message waits for its reader.
#[derive(Debug, Clone, Copy)]
enum Patience {
    /// As long as it takes.
    Endless,
    /// Not at all.
    None,
    /// Until then.
    Until(Instant),
}

/// The streams of messages.
#[derive(Debug)]
struct Streams {
    patience: Patience,
    out: Stream,
    err: Stream,
}

/// One of them.
#[derive(Debug)]
struct Stream {
    /// The stream that is written to, once it was needed.
    fd: Option<OwnedFd>,
    /// Whether the last message was written in part.
    torn: bool,
    /// How many messages were lost since one was written.
    lost: u64,
}

static STREAMS: Mutex<Streams> =
    Mutex::new(Streams { patience: Patience::Endless, out: Stream::NEW, err: Stream::NEW });

/// Which stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// From now on messages are lost rather than waited for: what they would hold up matters more.
pub fn lose_messages_rather_than_wait() {
    set(Patience::None);
}

/// Nothing is held up any more, so the last messages may wait a moment.
pub fn wait_for_readers_shortly() {
    set(Patience::Until(Instant::now() + SHORT));
}

fn set(patience: Patience) {
    if let Ok(mut streams) = STREAMS.lock() {
        streams.patience = patience;
        // Now, when descriptors are to be had, and nobody counts them.
        streams.out.open(Which::Out);
        streams.err.open(Which::Err);
    }
}

/// Writes one message, with its line end. `lost` makes the words that stand before it if messages were lost.
pub fn message(which: Which, text: &[u8], lost: impl Fn(u64) -> Vec<u8>) -> io::Result<()> {
    let Ok(mut streams) = STREAMS.lock() else { return Ok(()) };
    let patience = streams.patience;
    let stream = if which == Which::Out { &mut streams.out } else { &mut streams.err };
    if let Patience::Endless = patience {
        return match which {
            Which::Out => io::stdout().lock().write_all(text).and_then(|()| io::stdout().flush()),
            Which::Err => io::stderr().lock().write_all(text),
        };
    }
    stream.write(which, text, lost, patience)
}

impl Stream {
    const NEW: Self = Self { fd: None, torn: false, lost: 0 };

    fn open(&mut self, which: Which) {
        if self.fd.is_none() {
            let (out, err) = (io::stdout(), io::stderr());
            let fd = if which == Which::Out { out.as_fd() } else { err.as_fd() };
            self.fd = opened_once_more(&fd).or_else(|| fd.try_clone_to_owned().ok());
        }
    }

    fn write(
        &mut self,
        which: Which,
        text: &[u8],
        lost: impl Fn(u64) -> Vec<u8>,
        patience: Patience,
    ) -> io::Result<()> {
        self.open(which);
        // Standard error may be closed.
        let Some(fd) = &self.fd else { return Ok(()) };
        let mut whole = Vec::new();
        if self.torn {
            whole.push(b'\n');
        }
        if self.lost > 0 {
            whole.extend(lost(self.lost));
        }
        whole.extend_from_slice(text);
        let length = whole.len();
        // A reader that has gone is no reason to say less to another.
        while write_now(fd.as_fd(), &mut whole) == Ok(false) {
            let left = match patience {
                Patience::Until(then) => then.saturating_duration_since(Instant::now()),
                Patience::None | Patience::Endless => Duration::ZERO,
            };
            let wait = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            if left.is_zero() || poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)], wait) == Ok(0) {
                break;
            }
        }
        match whole.len() {
            0 => (self.torn, self.lost) = (false, 0),
            left => {
                // What was cut short stands in a line of its own; that it is a part only is seen.
                self.torn |= left < length;
                self.lost += 1;
            }
        }
        Ok(())
    }
}

/// The terminal behind a descriptor, without the flags that others have set, or rely on.
pub fn opened_once_more(fd: &(impl AsFd + IsTerminal)) -> Option<OwnedFd> {
    if !fd.is_terminal() {
        return None;
    }
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    // A terminal of another user's cannot be opened.
    OpenOptions::new().write(true).custom_flags(flags).open(path).ok().map(OwnedFd::from)
}

/// Writes what is taken at once. Returns whether there is nothing left to write. Nothing is left either after an error: the reader
/// has gone (`EPIPE`), or there is no room (`ENOSPC`).
pub fn write_now(fd: BorrowedFd<'_>, pending: &mut Vec<u8>) -> Result<bool, Errno> {
    while !pending.is_empty() {
        let mut room = [PollFd::new(fd, PollFlags::POLLOUT)];
        if poll(&mut room, PollTimeout::ZERO) == Ok(0) {
            return Ok(false);
        }
        match nix::unistd::write(fd, &pending[..pending.len().min(AT_ONCE)]) {
            Ok(n) => drop(pending.drain(..n)),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(false),
            Err(error) => {
                pending.clear();
                return Err(error);
            }
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;

    use super::*;

    fn lost(n: u64) -> Vec<u8> {
        format!("{n} lost\n").into_bytes()
    }

    #[test]
    fn a_message_that_nobody_takes_is_lost_and_counted() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let mut reader = File::from(reader);
        let mut stream = Stream { fd: Some(writer), ..Stream::NEW };
        let mut say = |text: &str, patience| stream.write(Which::Err, text.as_bytes(), lost, patience).unwrap();
        let mut written = 0;
        let line = "x".repeat(199) + "\n";
        while written < 80_000 {
            say(&line, Patience::None);
            written += line.len();
        }
        let begun = Instant::now();
        say("last\n", Patience::Until(begun + Duration::from_millis(20)));
        // The kernel counts in whole milliseconds.
        assert!(begun.elapsed() >= Duration::from_millis(19));
        // What the pipe holds, which is less than its size.
        let mut rest = [0; 4096];
        let holds = |pipe: &File| poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO) == Ok(1);
        while holds(&reader) {
            assert!(reader.read(&mut rest).unwrap() > 0);
        }
        say("heard\n", Patience::None);
        let n = reader.read(&mut rest).unwrap();
        let said = String::from_utf8_lossy(&rest[..n]).into_owned();
        assert!(said.ends_with(" lost\nheard\n") && said.starts_with('\n'), "{said}");
        say("again\n", Patience::None);
        let n = reader.read(&mut rest).unwrap();
        assert_eq!(&rest[..n], b"again\n");
        // The reader has gone.
        drop(reader);
        say("nobody\n", Patience::None);
    }

    #[test]
    fn a_terminal_that_was_stopped_holds_nothing_up() {
        let pty = nix::pty::openpty(None, None).unwrap();
        nix::sys::termios::tcflow(&pty.slave, nix::sys::termios::FlowArg::TCOOFF).unwrap();
        for once_more in [true, false] {
            let own = pty.slave.try_clone().unwrap();
            let fd = if once_more { opened_once_more(&own).unwrap() } else { own };
            let mut stream = Stream { fd: Some(fd), ..Stream::NEW };
            stream.write(Which::Err, b"hello\n", lost, Patience::None).unwrap();
            assert_eq!(stream.lost, 1);
            nix::sys::termios::tcflow(&pty.slave, nix::sys::termios::FlowArg::TCOON).unwrap();
            stream.write(Which::Err, b"again\n", lost, Patience::Until(Instant::now() + SHORT)).unwrap();
            assert_eq!(stream.lost, 0);
            nix::sys::termios::tcflow(&pty.slave, nix::sys::termios::FlowArg::TCOOFF).unwrap();
        }
    }
}
