//! The terminal that a user types on: raw, and what is typed there.

use std::io::IsTerminal as _;
use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, tcgetpgrp};
use tokio::io::unix::AsyncFd;

use crate::run::watch_fd::watch_readable;

/// Standard input, as far as it is ours.
#[derive(Debug)]
pub struct Typed {
    input: Option<AsyncFd<OwnedFd>>,
    raw: Option<RawTerminal>,
}

impl Typed {
    /// Standard input; a terminal is raw from now on, until this is dropped. What the event loop cannot watch (a regular file,
    /// /dev/null) is not read.
    pub fn standard() -> Result<Self> {
        let stdin = std::io::stdin();
        // In the background (`&`) the terminal is the shell's: neither its settings nor what is typed there is ours.
        let is_ours = !tcgetpgrp(&stdin).is_ok_and(|group| group != getpgrp());
        let raw = if stdin.is_terminal() && is_ours {
            Some(RawTerminal::enter(stdin.as_fd().try_clone_to_owned()?)?)
        } else {
            None
        };
        let input = stdin.as_fd().try_clone_to_owned().and_then(watch_readable).ok().filter(|_| is_ours);
        Ok(Self { input, raw })
    }

    /// No input at all.
    #[cfg(test)]
    pub(in crate::run) fn nothing() -> Self {
        Self { input: None, raw: None }
    }

    /// Whether a terminal is typed on, so that Ctrl-C is a character.
    pub fn is_terminal(&self) -> bool {
        self.raw.is_some()
    }

    /// What was typed; `None` once, at its end. Waits for ever if there is no input. Can be dropped and called again.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        let typed = read(self.input.as_ref()).await;
        if typed.is_none() {
            self.input = None;
        }
        typed
    }
}

async fn read(input: Option<&AsyncFd<OwnedFd>>) -> Option<Vec<u8>> {
    let Some(input) = input else { return std::future::pending().await };
    loop {
        let mut ready = input.readable().await.ok()?;
        let mut buffer = [0u8; 1024];
        // The descriptor is shared with our parent shell, so it is not made non-blocking; it is only read when poll(2)
        // says that there is something.
        let mut poll = [PollFd::new(input.get_ref().as_fd(), PollFlags::POLLIN)];
        if nix::poll::poll(&mut poll, PollTimeout::ZERO) == Ok(0) {
            ready.clear_ready();
            continue;
        }
        match nix::unistd::read(input.get_ref(), &mut buffer) {
            Ok(0) => return None,
            Ok(n) => return Some(buffer[..n].to_vec()),
            Err(Errno::EAGAIN | Errno::EINTR) => ready.clear_ready(),
            // EIO: the terminal is gone, or we are in the background.
            Err(_) => return None,
        }
    }
}

/// A terminal in raw mode; its settings are restored when this is dropped. Neither waits until the terminal has shown what was
/// written, for which it may have no reader: how output is treated stays as it is.
#[derive(Debug)]
struct RawTerminal {
    terminal: OwnedFd,
    before: Termios,
}

impl RawTerminal {
    fn enter(terminal: OwnedFd) -> Result<Self> {
        let before = tcgetattr(&terminal).context("cannot read the terminal's settings")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        // Our own messages and the guest's lines end in a line feed; without this the next would begin where it ended.
        raw.output_flags = before.output_flags;
        tcsetattr(&terminal, SetArg::TCSANOW, &raw).context("cannot set the terminal to raw mode")?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Err(e) = tcsetattr(&self.terminal, SetArg::TCSANOW, &self.before) {
            tracing::warn!("the terminal's settings could not be restored ({e}); type `reset`");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::streams::{opened_once_more, write_now};

    #[test]
    fn a_terminal_that_nobody_reads_gets_its_settings_back_at_once() {
        let pty = nix::pty::openpty(None, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let full = opened_once_more(&pty.slave).unwrap();
        assert_eq!(write_now(full.as_fd(), &mut b"x".repeat(1 << 20)), Ok(false));
        let terminal = pty.slave.try_clone().unwrap();
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let raw = RawTerminal::enter(terminal).unwrap();
            let flags = tcgetattr(&raw.terminal).unwrap().local_flags;
            drop(raw);
            done.send(flags).unwrap();
        });
        let flags = is_done.recv_timeout(Duration::from_secs(10)).expect("it waits for a reader");
        assert_ne!(flags, before.local_flags);
        assert_eq!(tcgetattr(&pty.slave).unwrap(), before);
    }
}
