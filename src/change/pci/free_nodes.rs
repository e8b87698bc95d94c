//! Have nobody hold a device open before its driver is taken away: some drivers wait for ever for the last user, others
//! let go under a program that then crashes.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::change::ChangeError;
use crate::change::attribute::wait_for;
use crate::host::Root;
use crate::host::pci::{Holder, Node, holders_of};

/// How long programs of a unit that has stopped may take to close what they hold, and how long one may take to end.
const LIMIT: Duration = Duration::from_secs(5);
/// How long the programs of a user who has logged out may take: their service manager stays for 10 s
/// (`UserStopDelaySec=` of logind.conf(5)), and then stops them.
const USER_LIMIT: Duration = Duration::from_secs(25);

/// Waits until nobody holds the nodes, or ends whoever does; the error names who still holds them.
pub(in crate::change) fn free(root: &Root, nodes: &[Node], end: bool) -> Result<(), ChangeError> {
    let mut holders = Vec::new();
    let mut gone = |limit| {
        let free = wait_for(limit, || {
            holders = holders_of(root, nodes);
            holders.is_empty()
        });
        (free, holders.clone())
    };
    // A fake root has nobody who could be ended.
    let signals: &[Signal] = if end && root.is_real() { &[Signal::SIGTERM, Signal::SIGKILL] } else { &[] };
    // Who is to be ended need not be waited for first.
    let (mut free, mut holders) = gone(if signals.is_empty() { LIMIT } else { Duration::ZERO });
    if !free && holders.iter().all(|holder| holder.is_broker() || leaves(root, holder)) {
        (free, holders) = gone(USER_LIMIT);
    }
    for signal in signals {
        if free {
            break;
        }
        send(&holders, *signal);
        (free, holders) = gone(LIMIT);
    }
    if free { Ok(()) } else { Err(ChangeError::Held { holders }) }
}

/// Whether a program ends by itself: its user has logged out, and so the user's service manager ends (logind's
/// `/run/systemd/users/UID`, `logind-user.c`).
fn leaves(root: &Root, holder: &Holder) -> bool {
    let state = |uid| root.text_up_to(format!("/run/systemd/users/{uid}"), 16 << 10);
    holder.manager.and_then(state).is_some_and(|text| text.lines().any(|line| line == "STATE=closing"))
}

fn send(holders: &[Holder], signal: Signal) {
    for holder in holders.iter().filter(|holder| holder.pid > 1 && !holder.is_broker()) {
        // One that has ended meanwhile is what was wanted.
        let _ = kill(Pid::from_raw(holder.pid), signal);
    }
}
