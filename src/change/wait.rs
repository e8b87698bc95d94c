//! A bounded wait for something that the kernel or another program does.

use std::time::{Duration, Instant};

use crate::host::Root;

/// The pause between two looks.
const POLL: Duration = Duration::from_millis(5);

/// Waits until something holds, at most this long ([`Root::limit`] shortens it below a fake root). Returns whether it
/// holds.
pub(super) fn wait_for(root: &Root, limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + root.limit(limit);
    loop {
        if holds() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(POLL);
    }
}
