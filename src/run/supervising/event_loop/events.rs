//! QEMU's events, and which of them people are told.

use std::time::Duration;

use tokio::time::Instant;

use super::guest::Guest;
use crate::qemu::Event;
use crate::run::supervising::signs_of_life;
use crate::run::supervising::throttle::Shown;
use crate::run::systemd_notify;
use crate::units::{counted, machine_state};

/// How soon after a reset SeaBIOS has made its own.
const SEABIOS: Duration = Duration::from_secs(2);

impl Guest<'_> {
    /// Handles an event of QEMU's.
    pub(super) fn on_event(&mut self, event: &Event) {
        let name = self.plan.name.as_str();
        let now = Instant::now();
        match event.name.as_str() {
            "RESET" => self.interrupts.guest_restarts(now),
            _ => self.interrupts.look_in_passing(now),
        }
        if let Some(sign) = signs_of_life::sign_of_event(event) {
            self.on_sign_of_life(sign);
        }
        if event.name == "SHUTDOWN" {
            // Before its threads end.
            self.timeline.look_at_vcpus(self.qemu.pid());
            self.reason = Some(event.text("reason").unwrap_or("unknown").to_owned());
        }
        match event.name.as_str() {
            "SHUTDOWN" if self.restarts_anew() => self.set_state(machine_state::STARTING),
            "SHUTDOWN" => self.set_state(machine_state::SHUTDOWN),
            "STOP" => self.set_state(machine_state::PAUSED),
            "RESUME" => {
                self.paused_for_sleep = false;
                self.set_state(machine_state::RUNNING);
            }
            "SUSPEND" => self.set_state(machine_state::SUSPENDED),
            "WAKEUP" => self.set_state(machine_state::RUNNING),
            _ => {}
        }
        let told =
            matches!(event.name.as_str(), "SHUTDOWN" | "RESET" | "GUEST_PANICKED" | "WATCHDOG" | "BLOCK_IO_ERROR");
        if self.is_reset_of_seabios(event, now) || told && !self.may_be_shown() {
            return;
        }
        match event.name.as_str() {
            "SHUTDOWN" => {
                let reason = self.reason.as_deref().unwrap_or_default();
                tracing::info!(event = "shutdown", reason, "{name} shuts down ({reason})");
            }
            "RESET" => tracing::info!(event = "reset", "{name} restarts"),
            "GUEST_PANICKED" => tracing::error!(event = "panic", "the guest of {name} panicked"),
            "WATCHDOG" => {
                let action = event.text("action").unwrap_or("unknown");
                tracing::warn!(event = "watchdog", action, "the watchdog of {name} was not set in time ({action})");
            }
            "BLOCK_IO_ERROR" => {
                let device = event.text("device").filter(|d| !d.is_empty()).or(event.text("node-name")).unwrap_or("?");
                let reason = event.text("reason").unwrap_or("unknown reason");
                tracing::error!(event = "io-error", "disk {device} of {name} failed: {reason}");
            }
            other => tracing::debug!("QEMU: {other} {}", event.data),
        }
    }

    /// Whether the guest's firmware resets the board once more. SeaBIOS that QEMU has reset finds itself in memory as it was,
    /// brings itself back to its beginning, and resets (`tryReboot` in its `src/resume.c`): that is one restart.
    fn is_reset_of_seabios(&mut self, event: &Event, now: Instant) -> bool {
        match (event.name.as_str(), event.data["guest"].as_bool()) {
            ("RESET", Some(true)) => self.reset_at.take().is_some_and(|at| now.duration_since(at) < SEABIOS),
            ("RESET", _) => {
                self.reset_at = Some(now);
                false
            }
            _ => false,
        }
    }

    /// Whether one more event is shown to people and to systemd.
    pub(super) fn may_be_shown(&mut self) -> bool {
        let name = &self.plan.name;
        match self.throttle.decide(Instant::now()) {
            Shown::Yes { after } => {
                if after > 0 {
                    tracing::warn!("not shown: {} of {name}", counted(after as usize, "event", "events"));
                }
                true
            }
            Shown::NoMore => {
                tracing::warn!("{name} has so many events that not all of them are shown from now on");
                false
            }
            Shown::No => false,
        }
    }

    pub(super) fn set_state(&mut self, state: &str) {
        if self.state != state {
            self.state = state.to_owned();
            if self.may_be_shown() {
                tracing::debug!("{} is {state}", self.plan.name);
                systemd_notify::status(state);
            }
        }
    }
}
