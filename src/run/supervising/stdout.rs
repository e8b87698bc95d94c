//! The guest's console output, for which the event loop never waits.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;

use crate::run::watch_fd::watch_writable;
use crate::streams::{opened_once_more, write_now};

/// Standard output, and what it has not taken yet.
#[derive(Debug)]
pub struct Output {
    fd: OwnedFd,
    pending: Vec<u8>,
    failure: Option<Errno>,
}

impl Output {
    /// This process's.
    pub fn standard() -> io::Result<Self> {
        Ok(Self::on(io::stdout().as_fd().try_clone_to_owned()?))
    }

    /// What this descriptor leads to.
    pub(super) fn on(fd: OwnedFd) -> Self {
        Self { fd: opened_once_more(&fd).unwrap_or(fd), pending: Vec::new(), failure: None }
    }

    /// Whether all was taken.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Why something could not be written: the reader has gone (`EPIPE`), or there is no room (`ENOSPC`).
    pub fn failure(&self) -> Option<Errno> {
        self.failure
    }

    /// Writes what is taken at once; whether that was all.
    pub fn write_now(&mut self) -> bool {
        write_now(self.fd.as_fd(), &mut self.pending).unwrap_or_else(|error| {
            self.failure = Some(error);
            true
        })
    }

    /// Adds what is to be written by [`Output::flush`].
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// Waits until all was taken, or the reader has gone, which is no reason to end the guest. Can be dropped and called
    /// again. Watches the descriptor only while it takes nothing.
    pub async fn flush(&mut self) {
        if self.write_now() {
            return;
        }
        let room = self.fd.try_clone().and_then(watch_writable);
        while let Ok(room) = &room
            && let Ok(mut ready) = room.writable().await
        {
            if self.write_now() {
                return;
            }
            ready.clear_ready();
        }
        // What cannot be watched, such as a file, always has room; it is not known how this one could be written.
        self.pending.clear();
    }
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
        assert_eq!(output.failure(), None);
        output.push(&words);
        output.flush().await;
        assert!(output.is_empty());
        assert_eq!(output.failure(), Some(Errno::EPIPE));
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut output = Output::on(full.into());
        output.push(b"HELLO");
        output.flush().await;
        assert_eq!((output.is_empty(), output.failure()), (true, Some(Errno::ENOSPC)));
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
