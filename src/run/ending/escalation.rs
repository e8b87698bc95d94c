//! How a guest is ended, step by step: power button, again, `quit`, SIGKILL, giving up. A state machine without a clock and
//! without I/O, so that a test can try every order of events.

use std::time::Duration;

use crate::run::process::END_LIMIT;
use crate::run::signals::HANG_UP;

/// How long the guest has between two presses of its power button. Windows ignores a press while it starts, or while
/// its screen is off; it notices a second press a little later.
pub const PRESS_AGAIN: Duration = Duration::from_secs(15);
/// How long QEMU may take to leave after `quit`: it flushes the disks' caches then.
pub const QUIT_LIMIT: Duration = Duration::from_secs(20);

/// Signals that come within this time after somebody asked are the same request: a terminal that is closed sends SIGHUP
/// twice, and a session that is stopped gets SIGTERM and SIGHUP at once.
pub const SAME_REQUEST: Duration = Duration::from_secs(2);

/// Whether a signal is a further request, so long after the last one. SIGHUP is none: it only says that the terminal was
/// closed.
pub fn is_second_request(signal: &str, since: Option<Duration>) -> bool {
    signal != HANG_UP && since.is_none_or(|since| since >= SAME_REQUEST)
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// QMP `system_powerdown`: the ACPI power button.
    PressPowerButton,
    /// QMP `quit`.
    Quit,
    /// SIGKILL.
    Kill,
    /// Not even that ends it.
    GiveUp,
}

/// How far the ending has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Asked,
    Quitting,
    Killed,
}

/// The ending of one guest.
#[derive(Debug)]
pub struct Ending {
    state: State,
    /// From the first request to `quit`.
    limit: Duration,
    /// Since the first request.
    asked_for: Duration,
    /// Whether somebody wanted the force, and it was not the end of patience.
    insisted: bool,
}

impl Ending {
    /// A guest that nobody has asked to end, and how long it may take once asked.
    pub fn new(limit: Duration) -> Self {
        Self { state: State::Running, limit, asked_for: Duration::ZERO, insisted: false }
    }

    /// Whether the guest was asked to end, in whatever way.
    pub fn requested(&self) -> bool {
        self.state != State::Running
    }

    /// Whether it was ended by force.
    pub fn forced(&self) -> bool {
        matches!(self.state, State::Quitting | State::Killed)
    }

    /// Whether it was ended by force because somebody wanted that.
    pub fn insisted(&self) -> bool {
        self.forced() && self.insisted
    }

    /// How long the guest still has before it is ended by force.
    pub fn left(&self) -> Duration {
        self.limit.saturating_sub(self.asked_for)
    }

    /// Somebody asks: the first time politely, then more and more firmly.
    pub fn request(&mut self) -> Step {
        let (state, step) = match self.state {
            State::Running => (State::Asked, Step::PressPowerButton),
            State::Asked => (State::Quitting, Step::Quit),
            State::Quitting | State::Killed => (State::Killed, Step::Kill),
        };
        self.insisted |= step != Step::PressPowerButton;
        self.state = state;
        step
    }

    /// Somebody wants it ended without asking the guest.
    pub fn force(&mut self) -> Step {
        self.insisted = true;
        let step = if self.forced() { Step::Kill } else { Step::Quit };
        self.state = if step == Step::Kill { State::Killed } else { State::Quitting };
        step
    }

    /// QEMU does not answer any more: nothing but a signal reaches it.
    pub fn kill(&mut self) -> Step {
        self.state = State::Killed;
        Step::Kill
    }

    /// How long to wait for the guest before `elapsed` is called; `None`: for ever.
    pub fn patience(&self) -> Option<Duration> {
        match self.state {
            State::Running => None,
            State::Killed => Some(END_LIMIT),
            State::Asked => Some(PRESS_AGAIN.min(self.limit.saturating_sub(self.asked_for))),
            State::Quitting => Some(QUIT_LIMIT),
        }
    }

    /// The patience is over and the guest is still there.
    pub fn elapsed(&mut self) -> Step {
        match self.state {
            State::Asked => {
                self.asked_for += PRESS_AGAIN.min(self.limit.saturating_sub(self.asked_for));
                if self.asked_for < self.limit {
                    return Step::PressPowerButton;
                }
                self.state = State::Quitting;
                Step::Quit
            }
            State::Running | State::Quitting => self.kill(),
            State::Killed => Step::GiveUp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn force_that_somebody_wanted_is_told_from_the_end_of_patience() {
        let new = || Ending::new(Duration::from_secs(10));
        let (mut asked, mut forced, mut patient) = (new(), new(), new());
        asked.request();
        forced.force();
        patient.request();
        assert!(!asked.insisted() && forced.insisted());
        asked.request();
        patient.elapsed();
        assert!(asked.insisted() && patient.forced() && !patient.insisted());
    }

    #[test]
    fn a_guest_that_hears_nothing_is_asked_until_the_limit_then_told_then_killed() {
        let mut ending = Ending::new(Duration::from_secs(40));
        assert_eq!(ending.patience(), None);
        assert_eq!(ending.request(), Step::PressPowerButton);
        assert_eq!(ending.patience(), Some(PRESS_AGAIN));
        assert_eq!((ending.left(), ending.elapsed()), (Duration::from_secs(40), Step::PressPowerButton));
        assert_eq!((ending.left(), ending.elapsed()), (Duration::from_secs(25), Step::PressPowerButton));
        assert_eq!((ending.left(), ending.patience()), (Duration::from_secs(10), Some(Duration::from_secs(10))));
        assert_eq!(ending.elapsed(), Step::Quit);
        assert!(ending.forced());
        assert_eq!(ending.patience(), Some(QUIT_LIMIT));
        assert_eq!(ending.elapsed(), Step::Kill);
        assert_eq!(ending.patience(), Some(END_LIMIT));
        assert_eq!(ending.elapsed(), Step::GiveUp);
    }

    #[test]
    fn each_further_request_is_firmer() {
        let mut ending = Ending::new(Duration::from_secs(90));
        let steps = [ending.request(), ending.request(), ending.request(), ending.request()];
        assert_eq!(steps, [Step::PressPowerButton, Step::Quit, Step::Kill, Step::Kill]);
    }

    #[test]
    fn signals_that_come_together_are_one_request() {
        let soon = Some(SAME_REQUEST - Duration::from_millis(1));
        for signal in ["SIGINT", "SIGTERM"] {
            assert!(!is_second_request(signal, soon));
            assert!(is_second_request(signal, Some(SAME_REQUEST)));
            assert!(is_second_request(signal, None));
        }
        assert!(!is_second_request("SIGHUP", Some(Duration::from_secs(60))));
    }

    #[test]
    fn force_skips_the_power_button() {
        let mut ending = Ending::new(Duration::from_secs(90));
        assert_eq!(ending.force(), Step::Quit);
        assert_eq!(ending.force(), Step::Kill);
    }

    #[test]
    fn no_time_at_all_means_quit_at_once() {
        let mut ending = Ending::new(Duration::ZERO);
        ending.request();
        assert_eq!(ending.patience(), Some(Duration::ZERO));
        assert_eq!(ending.elapsed(), Step::Quit);
    }
}
