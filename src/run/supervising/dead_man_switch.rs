//! The dead-man switch: waits for the guest's first sign of life, and decides when it is too late for one. A state machine
//! without a clock and without I/O, so that a test can try every order of events.

use std::time::Duration;

use crate::machine::{GiveBack, Sign};

/// How often vfio-run checks for a sign of life until the first. Most signs have no event; QEMU and the kernel count them
/// all the time, so checking more rarely misses none.
pub const LOOK: Duration = Duration::from_secs(5);

/// What has become of the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No sign yet.
    Waits,
    /// The guest has shown a sign of life, or somebody asked it to end.
    Off,
    /// Its time passed without a sign.
    Missed,
}

/// What follows from a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Look again later.
    Wait,
    /// This was the first sign of life.
    Lives(Sign),
    /// It is too late: the host gets its devices back.
    GiveBack,
}

/// The switch of one guest.
#[derive(Debug)]
pub struct DeadManSwitch {
    config: GiveBack,
    state: State,
}

impl DeadManSwitch {
    /// A switch that waits.
    pub fn new(config: GiveBack) -> Self {
        Self { config, state: State::Waits }
    }

    /// The time from the start until it is too late.
    pub fn limit(&self) -> Duration {
        Duration::from_secs(self.config.within.into())
    }

    /// How long to wait before the next look, with so much time left; `None`: there is nothing to look for any more.
    pub fn patience(&self, left: Duration) -> Option<Duration> {
        (self.state == State::Waits).then(|| left.min(LOOK))
    }

    /// Records a sign. Returns whether it is the first that counts; `vfio-run alive` always counts.
    pub fn sees(&mut self, sign: Sign) -> bool {
        let counts = sign == Sign::Confirmed || [Sign::Any, sign].contains(&self.config.sign);
        let first = counts && self.state == State::Waits;
        if first {
            self.state = State::Off;
        }
        first
    }

    /// Records the signs of one look, with so much time left.
    pub fn looked(&mut self, signs: &[Sign], left: Duration) -> Verdict {
        if let Some(sign) = signs.iter().find(|sign| self.sees(**sign)) {
            return Verdict::Lives(*sign);
        }
        if self.state == State::Waits && left.is_zero() {
            self.state = State::Missed;
            return Verdict::GiveBack;
        }
        Verdict::Wait
    }

    /// Waits for nothing any more: somebody has asked the guest to end, which has a limit of its own.
    pub fn disarm(&mut self) {
        if self.state == State::Waits {
            self.state = State::Off;
        }
    }

    /// Which sign was missed, if it was.
    pub fn missed(&self) -> Option<Missed> {
        (self.state == State::Missed).then_some(Missed(self.config))
    }

    /// Which sign a QEMU that is not ready in time will have missed.
    pub fn would_miss(&self) -> Missed {
        Missed(self.config)
    }
}

/// No sign of life came in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} did not show within {} s (`give_back_unless`)", .0.sign, .0.within)]
pub struct Missed(GiveBack);

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn switch(sign: Sign) -> DeadManSwitch {
        DeadManSwitch::new(GiveBack { sign, within: 60 })
    }

    #[test]
    fn it_looks_now_and_then_and_gives_back_at_the_limit() {
        let mut switch = switch(Sign::Any);
        assert_eq!(switch.patience(LONG), Some(LOOK));
        assert_eq!(switch.looked(&[], LONG), Verdict::Wait);
        assert_eq!(switch.patience(Duration::from_secs(2)), Some(Duration::from_secs(2)));
        assert_eq!(switch.looked(&[], Duration::ZERO), Verdict::GiveBack);
        assert_eq!(switch.patience(LONG), None);
        let words = switch.missed().unwrap().to_string();
        assert_eq!(words, "a sign of life did not show within 60 s (`give_back_unless`)");
        // A sign that comes after the limit does not count.
        assert!(!switch.sees(Sign::Disk) && switch.missed().is_some());
    }

    #[test]
    fn a_sign_at_the_last_look_counts() {
        let mut switch = switch(Sign::Any);
        assert_eq!(switch.looked(&[Sign::Disk], Duration::ZERO), Verdict::Lives(Sign::Disk));
        assert_eq!(switch.missed(), None);
    }

    #[test]
    fn after_the_first_sign_it_never_looks_again() {
        let mut switch = switch(Sign::GuestAgent);
        assert!(switch.sees(Sign::GuestAgent));
        assert!(!switch.sees(Sign::GuestAgent));
        assert_eq!(switch.patience(LONG), None);
        assert_eq!(switch.looked(&[], Duration::ZERO), Verdict::Wait);
    }

    #[test]
    fn only_the_wanted_sign_and_a_confirmation_count() {
        let signs = [Sign::GuestAgent, Sign::Driver, Sign::Disk, Sign::Confirmed];
        for wanted in signs {
            for shown in signs {
                let counts = wanted == shown || shown == Sign::Confirmed;
                assert_eq!(switch(wanted).sees(shown), counts, "{wanted:?} {shown:?}");
            }
            assert!(switch(Sign::Any).sees(wanted));
        }
    }

    #[test]
    fn a_request_to_end_disarms_it() {
        let mut switch = switch(Sign::Any);
        switch.disarm();
        assert_eq!(switch.patience(LONG), None);
        assert_eq!(switch.looked(&[], Duration::ZERO), Verdict::Wait);
        assert_eq!(switch.missed(), None);
    }
}
