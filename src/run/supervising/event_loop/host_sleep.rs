//! The host suspends or hibernates, and the guest is paused meanwhile.

use qapi::qmp;

use super::guest::Guest;
use crate::qemu::QmpError;
use crate::units::machine_state;

impl Guest<'_> {
    /// Pauses the guest before the host sleeps, which waits for that. One that sleeps itself, was paused by somebody, or was asked
    /// to end, is left alone.
    pub(super) async fn on_sleep_of_host(&mut self) {
        let name = &self.plan.name;
        if self.state != machine_state::RUNNING || self.ending.requested() {
            tracing::info!(event = "host-sleep", "the host goes to sleep; {name} is {} and stays so", self.state);
            return;
        }
        match self.command(qmp::stop {}).await {
            Ok(()) => {
                tracing::info!(event = "host-sleep", "the host goes to sleep, so {name} is paused until it wakes");
                self.heed_events();
                self.paused_for_sleep = self.state == machine_state::PAUSED;
            }
            Err(error) => {
                tracing::warn!("the host goes to sleep, and {name} could not be paused: {error}");
                // QEMU has read it, and does it when it answers again.
                self.paused_for_sleep = matches!(error, QmpError::Deadline { .. });
            }
        }
    }

    /// Whether it is paused, or will be when QEMU has done what it was told before the host's sleep.
    pub(super) fn stands_still(&self) -> bool {
        match self.state.as_str() {
            machine_state::PAUSED => true,
            machine_state::RUNNING => self.paused_for_sleep,
            _ => false,
        }
    }

    /// Lets the guest go on if the launcher had paused it; whether it does.
    pub(super) async fn on_wake_of_host(&mut self) -> bool {
        let name = &self.plan.name;
        // Somebody may have let it go on, or pressed its power button, already. If QEMU has yet to pause it, it does one after
        // the other.
        let stands_still = self.stands_still();
        if !std::mem::take(&mut self.paused_for_sleep) || !stands_still {
            return false;
        }
        match self.command(qmp::cont {}).await {
            Ok(()) => {
                self.heed_events();
                tracing::info!(event = "host-wake", "the host is awake, and {name} goes on");
                true
            }
            Err(error) => {
                tracing::warn!(
                    "the host is awake, and {name} is still paused ({error}); `vfio-run resume {name}` tries again"
                );
                false
            }
        }
    }
}
