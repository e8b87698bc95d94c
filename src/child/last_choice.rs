//! When the host runs out of memory, the guest ends and not its launcher, which then restores the host.
//!
//! The kernel kills by size and by what a process has in `oom_score_adj` (proc(5)). QEMU is mostly larger than its launcher; with a small
//! guest, or with one in huge pages, it need not be. QEMU keeps what the unit or the session says, which is the administrator's to set.

use std::sync::atomic::{AtomicI32, Ordering};

const OWN: &str = "/proc/self/oom_score_adj";
/// By how much the launcher goes below what it was started with.
const BELOW: i32 = 500;
/// With one less a process is never killed.
const LOWEST: i32 = -999;

/// Stands for a value of this process that was not lowered.
const AS_IT_WAS: i32 = i32::MIN;
/// What this process had before it lowered its own.
static BEFORE: AtomicI32 = AtomicI32::new(AS_IT_WAS);

/// What a child is to have, if that is not what it inherits: a hook that needs much memory is killed before this process.
pub(super) fn of_children() -> Option<i32> {
    Some(BEFORE.load(Ordering::Relaxed)).filter(|was| *was != AS_IT_WAS)
}

/// While it lives, this process is one of the kernel's last choices, and its children are what they would be without it. Only root may
/// have that; for others, size decides.
#[derive(Debug)]
pub struct LastChoice {
    was: Option<i32>,
}

impl LastChoice {
    /// Lowers this process's own value.
    pub fn make() -> Self {
        let lowered = || {
            let was: i32 = std::fs::read_to_string(OWN).ok()?.trim().parse().ok()?;
            std::fs::write(OWN, below(was).to_string()).ok()?;
            BEFORE.store(was, Ordering::Relaxed);
            Some(was)
        };
        Self { was: lowered() }
    }
}

fn below(was: i32) -> i32 {
    (was - BELOW).max(LOWEST).min(was)
}

impl Drop for LastChoice {
    fn drop(&mut self) {
        let Some(was) = self.was else { return };
        match std::fs::write(OWN, was.to_string()) {
            Ok(()) => BEFORE.store(AS_IT_WAS, Ordering::Relaxed),
            Err(error) => tracing::debug!("{OWN} stays lowered: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_lowered_as_far_as_may_be_and_as_before_afterwards() {
        assert_eq!([200, 0, -600, -1000].map(below), [-300, -500, -999, -1000]);
        let own = || std::fs::read_to_string(OWN).unwrap().trim().parse::<i32>().unwrap();
        let before = own();
        let choice = LastChoice::make();
        assert_eq!(own(), choice.was.map_or(before, below));
        let child = crate::child::Command::new("/bin/cat");
        let said = |mut child: crate::child::Command| {
            child.arg(OWN).stdout(std::process::Stdio::piped());
            String::from_utf8(child.spawn().unwrap().wait_with_output().unwrap().stdout).unwrap()
        };
        assert_eq!(said(child), format!("{before}\n"));
        drop(choice);
        assert_eq!(own(), before);
    }
}
