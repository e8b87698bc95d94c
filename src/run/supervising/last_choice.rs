//! When the host runs out of memory, the guest ends and not its launcher, which then restores the host.
//!
//! The kernel kills by size and by what a process has in `oom_score_adj` (proc(5)). QEMU is mostly larger than its launcher; with a small
//! guest, or with one in huge pages, it need not be. QEMU keeps what the unit or the session says, which is the administrator's to set.

const OWN: &str = "/proc/self/oom_score_adj";
/// By how much the launcher goes below what it was started with.
const BELOW: i32 = 500;
/// With one less a process is never killed.
const LOWEST: i32 = -999;

/// While it lives, this process is one of the kernel's last choices. Only root may have that; for others, size decides.
pub struct LastChoice {
    was: Option<i32>,
}

impl LastChoice {
    /// Lowers this process's own value.
    pub fn make() -> Self {
        let lowered = || {
            let was: i32 = std::fs::read_to_string(OWN).ok()?.trim().parse().ok()?;
            std::fs::write(OWN, below(was).to_string()).ok()?;
            Some(was)
        };
        Self { was: lowered() }
    }
}

fn below(was: i32) -> i32 {
    (was - BELOW).max(LOWEST).min(was)
}

impl Drop for LastChoice {
    /// A QEMU that is started anew inherits what the first one had.
    fn drop(&mut self) {
        if let Some(was) = self.was
            && let Err(error) = std::fs::write(OWN, was.to_string())
        {
            tracing::debug!("{OWN} stays lowered: {error}");
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
        drop(choice);
        assert_eq!(own(), before);
    }
}
