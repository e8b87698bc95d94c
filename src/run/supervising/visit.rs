//! A visit to the guest's serial port by somebody else than its launcher: this terminal, or a pipe, is joined to it for a while.

use std::os::unix::net::UnixStream;

use anyhow::Result;
use nix::errno::Errno;

use super::console::{Console, ConsoleEvent};
use crate::run::signals::Signals;
use crate::streams;

/// How a visit has ended. The guest knows of none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visited {
    /// The user typed Ctrl-].
    Left,
    /// QEMU has closed the port: the guest has ended, or QEMU is started anew.
    Closed,
    /// What the guest says cannot be written any more.
    Unwritten(Errno),
    /// This signal came.
    Signal(&'static str),
}

/// Joins them until one of that happens. The terminal's settings are put back in any case.
pub async fn visit(serial: UnixStream) -> Result<Visited> {
    let mut signals = Signals::catch()?;
    // A terminal that nobody reads must not keep a signal from ending the visit.
    streams::lose_messages_rather_than_wait();
    let mut console = Console::open(serial, true)?;
    if console.is_terminal() {
        tracing::info!("this terminal is joined to the guest's serial port; Ctrl-] leaves, and the guest goes on");
    }
    let visited = tokio::select! {
        event = console.relay() => match event {
            ConsoleEvent::Escape => Visited::Left,
            ConsoleEvent::Closed => Visited::Closed,
            ConsoleEvent::Unwritten(error) => Visited::Unwritten(error),
        },
        signal = signals.next() => Visited::Signal(signal),
    };
    if visited == Visited::Closed {
        console.show_final_output().await;
    }
    streams::wait_for_readers_shortly();
    Ok(visited)
}
