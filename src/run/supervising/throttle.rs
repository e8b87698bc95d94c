//! How many messages about a guest are shown: all of one in order, few of one that resets in a loop, or of a QEMU that a guest
//! has taken over and that sends events without end. Without a clock of its own, so that a test can try every course.

use std::time::Duration;

use tokio::time::Instant;

/// So many at once are shown.
const BURST: u32 = 20;
/// After that, one more each time that so long has passed.
const EACH: Duration = Duration::from_secs(6);

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// It is shown, after so many that were not.
    Yes {
        /// How many.
        after: u64,
    },
    /// It is not, and it is the first of these.
    NoMore,
    /// It is not, as others before.
    No,
}

/// Counts the messages of one guest.
#[derive(Debug)]
pub struct Throttle {
    left: u32,
    since: Instant,
    hidden: u64,
}

impl Throttle {
    /// Nothing was shown yet.
    pub fn new(now: Instant) -> Self {
        Self { left: BURST, since: now, hidden: 0 }
    }

    /// Whether a message is shown now.
    pub fn decide(&mut self, now: Instant) -> Shown {
        let more = now.saturating_duration_since(self.since).as_secs() / EACH.as_secs();
        if more > 0 {
            self.since = now;
            self.left = BURST.min(self.left.saturating_add(u32::try_from(more).unwrap_or(BURST)));
        }
        if self.left > 0 {
            self.left -= 1;
            return Shown::Yes { after: std::mem::take(&mut self.hidden) };
        }
        self.hidden += 1;
        if self.hidden == 1 { Shown::NoMore } else { Shown::No }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted_and_a_guest_in_order_is_heard() {
        let begun = Instant::now();
        let mut throttle = Throttle::new(begun);
        for _ in 0..BURST {
            assert_eq!(throttle.decide(begun), Shown::Yes { after: 0 });
        }
        assert_eq!(throttle.decide(begun), Shown::NoMore);
        for _ in 0..1000 {
            assert_eq!(throttle.decide(begun + EACH / 2), Shown::No);
        }
        assert_eq!(throttle.decide(begun + EACH), Shown::Yes { after: 1001 });
        assert_eq!(throttle.decide(begun + EACH), Shown::NoMore);
        // One that comes now and then is always shown, and so is the first after a long time.
        let mut now = begun + EACH * 1000;
        for _ in 0..BURST * 3 {
            now += EACH;
            assert!(matches!(throttle.decide(now), Shown::Yes { .. }));
        }
    }
}
