//! A bounded wait for something that the kernel or another program does.

use std::time::{Duration, Instant};

use crate::host::Root;

/// The pause between two looks.
const POLL: Duration = Duration::from_millis(5);
/// The pause between two looks at all processes of the host, each of which costs thousands of system calls.
const LOOK: Duration = Duration::from_millis(100);

/// Waits until something holds, at most this long ([`Root::limit`] shortens it below a fake root). Returns whether it
/// holds.
pub(super) fn wait_for(root: &Root, limit: Duration, holds: impl FnMut() -> bool) -> bool {
    wait_between(root, limit, POLL, holds)
}

/// As [`wait_for`], for what is found out by looking at all processes.
pub(super) fn wait_for_processes(root: &Root, limit: Duration, holds: impl FnMut() -> bool) -> bool {
    wait_between(root, limit, root.limit(LOOK), holds)
}

fn wait_between(root: &Root, limit: Duration, pause: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + root.limit(limit);
    loop {
        if holds() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_processes_are_looked_at_ten_times_a_second_and_not_more() {
        let (root, mut looks) = (Root::new("/"), 0);
        let found = wait_for_processes(&root, Duration::from_millis(250), || {
            looks += 1;
            false
        });
        assert!(!found && (2..=4).contains(&looks), "{looks}");
    }
}
