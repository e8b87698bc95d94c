//! The clock of the dead-man switch.

use std::time::Duration;

use tokio::time::Instant;

use super::dead_man_switch::{DeadManSwitch, Missed};
use crate::machine::GiveBack;

/// The dead-man switch with its clock.
#[derive(Debug)]
pub struct SwitchClock {
    /// The switch.
    pub switch: DeadManSwitch,
    deadline: Instant,
    /// When to look for a sign of life next; `None`: never again.
    pub next_look: Option<Instant>,
}

impl SwitchClock {
    /// Starts its time. The first look is at once, since a guest that was taken over may have run for long.
    pub fn start(config: GiveBack) -> Self {
        let (switch, now) = (DeadManSwitch::new(config), Instant::now());
        Self { deadline: now + switch.limit(), next_look: Some(now), switch }
    }

    /// Does `work`, and fails if the time is up before it is done.
    pub async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, Missed> {
        tokio::time::timeout_at(self.deadline, work).await.map_err(|_| self.switch.would_miss())
    }

    /// The time that is left.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Sets the time of the next look.
    pub fn set_next_look(&mut self) {
        self.next_look = self.switch.patience(self.left()).map(|patience| Instant::now() + patience);
    }
}
