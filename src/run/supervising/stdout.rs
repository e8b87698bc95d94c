//! Standard output that the event loop never waits for: a terminal behind a dead connection, or a reader that pauses, must
//! not hold it up. The descriptor that we share with our parent shell is not set to non-blocking, since that would hold
//! for the shell too; a terminal is opened once more instead.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::run::watch_fd::watch_writable;

/// How much is written at once after poll(2) has reported the descriptor writable. A pipe has room for more; a terminal may
/// have room for less, which matters only if it cannot be opened once more.
const AT_ONCE: usize = 128;

/// Drops messages that a terminal does not take at once from now on. Otherwise the launcher would wait for ever once the
/// guest's output has filled the terminal, and the host would not be restored.
pub fn drop_messages_rather_than_wait() {
    if let Some(own) = opened_once_more(&io::stderr()) {
        // If this fails, standard error is as it was.
        let _ = nix::unistd::dup2_stderr(own);
    }
}

/// The terminal behind a descriptor, without the flags that others have set, or rely on.
fn opened_once_more(fd: &(impl AsFd + IsTerminal)) -> Option<OwnedFd> {
    if !fd.is_terminal() {
        return None;
    }
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    // A terminal of another user's cannot be opened.
    OpenOptions::new().write(true).custom_flags(flags).open(path).ok().map(OwnedFd::from)
}

/// Standard output, and what it has not taken yet.
#[derive(Debug)]
pub struct Output {
    fd: OwnedFd,
    pending: Vec<u8>,
}

impl Output {
    /// This process's.
    pub fn standard() -> io::Result<Self> {
        Ok(Self::on(io::stdout().as_fd().try_clone_to_owned()?))
    }

    fn on(fd: OwnedFd) -> Self {
        Self { fd: opened_once_more(&fd).unwrap_or(fd), pending: Vec::new() }
    }

    /// Whether all was taken.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Adds what is to be written by [`Output::flush`].
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// Waits until all was taken, or the reader has gone, which is no reason to end the guest. Can be dropped and called
    /// again. Watches the descriptor only while it takes nothing.
    pub async fn flush(&mut self) {
        if write_now(&self.fd, &mut self.pending) {
            return;
        }
        let room = self.fd.try_clone().and_then(watch_writable);
        while let Ok(room) = &room
            && let Ok(mut ready) = room.writable().await
        {
            if write_now(&self.fd, &mut self.pending) {
                return;
            }
            ready.clear_ready();
        }
        // What cannot be watched, such as a file, always has room; it is not known how this one could be written.
        self.pending.clear();
    }
}

/// Writes what is taken at once. Returns whether there is nothing left to write.
fn write_now(fd: &OwnedFd, pending: &mut Vec<u8>) -> bool {
    while !pending.is_empty() {
        let mut room = [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)];
        if poll(&mut room, PollTimeout::ZERO) == Ok(0) {
            return false;
        }
        match nix::unistd::write(fd, &pending[..pending.len().min(AT_ONCE)]) {
            Ok(n) => drop(pending.drain(..n)),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return false,
            // The reader has gone.
            Err(_) => pending.clear(),
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_reader_that_pauses_holds_nothing_up_and_misses_nothing() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let mut output = Output::on(writer);
        let words = b"HELLO\n".repeat(50_000);
        output.push(&words);
        assert!(tokio::time::timeout(Duration::from_millis(20), output.flush()).await.is_err());
        assert!(!output.is_empty());
        let reads = std::thread::spawn(move || {
            let mut read = vec![0; 300_000];
            File::from(reader).read_exact(&mut read).unwrap();
            read
        });
        output.flush().await;
        assert!(output.is_empty());
        assert!(reads.join().unwrap() == words);
        // The reader has gone.
        output.push(&words);
        output.flush().await;
        assert!(output.is_empty());
    }

    #[tokio::test]
    async fn a_terminal_that_is_not_read_holds_nothing_up_and_misses_nothing() {
        let pty = nix::pty::openpty(None, None).unwrap();
        let mut output = Output::on(pty.slave);
        output.push(&b"\n".repeat(300_000));
        assert!(tokio::time::timeout(Duration::from_millis(20), output.flush()).await.is_err());
        let reads = std::thread::spawn(move || {
            let mut read = vec![0; 600_000];
            File::from(pty.master).read_exact(&mut read).unwrap();
            read
        });
        output.flush().await;
        assert!(output.is_empty());
        assert!(reads.join().unwrap() == b"\r\n".repeat(300_000));
        // It was closed.
        output.push(b"HELLO");
        output.flush().await;
        assert!(output.is_empty());
    }
}
