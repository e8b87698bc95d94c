//! The dead-man switch: waits for the guest's first sign of life, and says when it is too late for one. A small state
//! machine without clock or I/O, so that every order of events can be tested.

use std::time::Duration;

use crate::machine::{GiveBack, Sign};

/// How often it is looked whether the guest lives. Most signs have no event; what is looked at is counted by QEMU and
/// the kernel all the time, so a look more rarely sees no less.
pub const LOOK: Duration = Duration::from_secs(5);

/// What has become of the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No sign yet.
    Waits,
    /// The guest lives, or was asked to end: nothing is waited for.
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
    /// It is too late: the devices go back.
    GiveBack,
}

/// The switch of one guest.
#[derive(Debug)]
pub struct Guard {
    switch: GiveBack,
    state: State,
}

impl Guard {
    /// A switch whose time begins.
    pub fn new(switch: GiveBack) -> Self {
        Self { switch, state: State::Waits }
    }

    /// From the beginning until it is too late.
    pub fn limit(&self) -> Duration {
        Duration::from_secs(self.switch.within.into())
    }

    /// How long to wait before the next look, with so much time left; `None`: there is nothing to look for any more.
    pub fn patience(&self, left: Duration) -> Option<Duration> {
        (self.state == State::Waits).then(|| left.min(LOOK))
    }

    /// The guest has shown something; whether that is the first sign that counts. What a person says counts always.
    pub fn hear(&mut self, sign: Sign) -> bool {
        let counts = sign == Sign::Confirmed || [Sign::Any, sign].contains(&self.switch.sign);
        let first = counts && self.state == State::Waits;
        if first {
            self.state = State::Off;
        }
        first
    }

    /// These signs were there at a look, with so much time left.
    pub fn looked(&mut self, signs: &[Sign], left: Duration) -> Verdict {
        if let Some(sign) = signs.iter().find(|sign| self.hear(**sign)) {
            return Verdict::Lives(*sign);
        }
        if self.state == State::Waits && left.is_zero() {
            self.state = State::Missed;
            return Verdict::GiveBack;
        }
        Verdict::Wait
    }

    /// Somebody has asked for the guest's end, which has a limit of its own.
    pub fn stand_down(&mut self) {
        if self.state == State::Waits {
            self.state = State::Off;
        }
    }

    /// What was missed, in words, where it was.
    pub fn missed(&self) -> Option<Missed> {
        (self.state == State::Missed).then_some(Missed(self.switch))
    }

    /// What will have been missed, for a QEMU that is not ready in time.
    pub fn overdue(&self) -> Missed {
        Missed(self.switch)
    }
}

/// The guest, or already QEMU, was ended because no sign of life came in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} did not show within {} s (`give_back_unless`)", .0.sign, .0.within)]
pub struct Missed(GiveBack);

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn guard(sign: Sign) -> Guard {
        Guard::new(GiveBack { sign, within: 60 })
    }

    #[test]
    fn it_looks_now_and_then_and_gives_back_at_the_limit() {
        let mut guard = guard(Sign::Any);
        assert_eq!(guard.patience(LONG), Some(LOOK));
        assert_eq!(guard.looked(&[], LONG), Verdict::Wait);
        assert_eq!(guard.patience(Duration::from_secs(2)), Some(Duration::from_secs(2)));
        assert_eq!(guard.looked(&[], Duration::ZERO), Verdict::GiveBack);
        assert_eq!(guard.patience(LONG), None);
        let words = guard.missed().unwrap().to_string();
        assert_eq!(words, "a sign of life did not show within 60 s (`give_back_unless`)");
        // What comes too late is too late.
        assert!(!guard.hear(Sign::Disk) && guard.missed().is_some());
    }

    #[test]
    fn a_sign_at_the_last_look_counts() {
        let mut guard = guard(Sign::Any);
        assert_eq!(guard.looked(&[Sign::Disk], Duration::ZERO), Verdict::Lives(Sign::Disk));
        assert_eq!(guard.missed(), None);
    }

    #[test]
    fn after_the_first_sign_it_never_looks_again() {
        let mut guard = guard(Sign::GuestAgent);
        assert!(guard.hear(Sign::GuestAgent));
        assert!(!guard.hear(Sign::GuestAgent));
        assert_eq!(guard.patience(LONG), None);
        assert_eq!(guard.looked(&[], Duration::ZERO), Verdict::Wait);
    }

    #[test]
    fn only_the_sign_that_is_wanted_counts_and_a_person_s_word() {
        let signs = [Sign::GuestAgent, Sign::Driver, Sign::Disk, Sign::Confirmed];
        for wanted in signs {
            for shown in signs {
                let counts = wanted == shown || shown == Sign::Confirmed;
                assert_eq!(guard(wanted).hear(shown), counts, "{wanted:?} {shown:?}");
            }
            assert!(guard(Sign::Any).hear(wanted));
        }
    }

    #[test]
    fn whoever_asks_for_the_end_has_taken_over() {
        let mut guard = guard(Sign::Any);
        guard.stand_down();
        assert_eq!(guard.patience(LONG), None);
        assert_eq!(guard.looked(&[], Duration::ZERO), Verdict::Wait);
        assert_eq!(guard.missed(), None);
    }
}
