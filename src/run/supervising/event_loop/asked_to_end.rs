//! Requests that the guest ends, by signals, by people and by the host, step after step.

use anyhow::Result;
use qapi::qmp;
use tokio::time::Instant;

use super::guest::{COMMAND_LIMIT, Guest};
use crate::qemu::QmpError;
use crate::run::ending::escalation::{self, Step};
use crate::run::signals::HANG_UP;
use crate::run::systemd_notify;
use crate::systemd::logind::End;
use crate::units::machine_state;

impl Guest<'_> {
    /// The host shuts down, or systemd stops QEMU's scope: the guest is asked once.
    pub(super) async fn on_end_of_host(&mut self, end: End) {
        let name = &self.plan.name;
        match end {
            End::Host => tracing::info!(event = "host-shutdown", "the host shuts down and waits for {name}"),
            End::Scope => tracing::info!(event = "scope-stop", "systemd stops the scope of {name}"),
        }
        self.host_ends |= end == End::Host;
        if !self.ending.requested() {
            self.request_shutdown().await;
        }
    }

    /// A signal asks for the end. It counts as a second request only if it did not come together with the first.
    pub(super) async fn on_signal(&mut self, signal: &str) {
        let since = self.asked.map(|asked| asked.elapsed());
        // A host that shuts down sends these to every process in the end.
        if self.host_ends && self.ending.requested() && matches!(signal, "SIGTERM" | HANG_UP) {
            return;
        }
        if !self.ending.requested() || escalation::is_second_request(signal, since) {
            self.request_shutdown().await;
        } else if signal != HANG_UP {
            let (name, limit) = (&self.plan.name, escalation::SAME_REQUEST.as_secs());
            tracing::info!(
                "{name} was asked to end just now; {signal} counts as a second request only {limit} s later"
            );
        }
    }

    /// Somebody asks for the end; each further request goes one step further.
    pub(super) async fn request_shutdown(&mut self) {
        self.asked = Some(Instant::now());
        self.disarm();
        let step = self.ending.request();
        self.take_step(step).await;
    }

    /// Ends the guest without asking it.
    pub(super) async fn force_quit(&mut self) {
        self.asked = Some(Instant::now());
        let step = self.ending.force();
        self.take_step(step).await;
    }

    /// Disarms the dead-man switch, because somebody asked for the end, which has its own limits.
    pub(super) fn disarm(&mut self) {
        if let Some(switch) = &mut self.switch {
            switch.switch.disarm();
            switch.set_next_look();
        }
    }

    pub(super) async fn take_step(&mut self, step: Step) {
        let name = &self.plan.name;
        let failed = match step {
            Step::PressPowerButton => {
                let left = self.ending.left().as_secs();
                let again = if left < self.plan.shutdown_timeout.into() { " again" } else { "" };
                tracing::info!(event = "powerdown", "asking {name} to power off{again}; it has {left} s");
                systemd_notify::stopping("asked the guest to power off");
                self.press_power_button().await
            }
            Step::Quit => {
                match self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                    true => tracing::warn!(event = "quit", "{name} did not power off in time; forcing QEMU to quit"),
                    false => tracing::warn!(event = "quit", "forcing QEMU to quit, without waiting for {name}"),
                }
                systemd_notify::stopping("ending the guest");
                self.timeline.look_at_vcpus(self.qemu.pid());
                self.command(qmp::quit {}).await
            }
            Step::Kill => {
                tracing::warn!(event = "kill", "killing QEMU of {name}");
                self.timeline.look_at_vcpus(self.qemu.pid());
                self.qemu.kill();
                Ok(())
            }
            Step::GiveUp => Ok(()),
        };
        match failed {
            Ok(()) | Err(QmpError::Closed) => {}
            Err(error) => tracing::warn!("{error:#}"),
        }
        self.deadline = self.ending.patience().map(|patience| Instant::now() + patience);
    }

    /// Presses the ACPI power button; a guest that is paused or sleeps would not notice it. One that wakes may not notice the
    /// first press either, but the second.
    pub(super) async fn press_power_button(&mut self) -> Result<(), QmpError> {
        // When QEMU says that it shuts down, its threads may be gone before anybody has looked.
        self.timeline.look_at_vcpus(self.qemu.pid());
        if self.stands_still() {
            self.command(qmp::cont {}).await?;
        } else if self.state == machine_state::SUSPENDED
            && let Err(error) = self.command(qmp::system_wakeup {}).await
        {
            // It may have woken by itself.
            tracing::debug!("{error:#}");
        }
        self.command(qmp::system_powerdown {}).await
    }

    pub(super) async fn command<C: qmp::QmpCommand>(&mut self, command: C) -> Result<(), QmpError> {
        match &mut self.qmp {
            Some(qmp) => qmp.execute_within(command, COMMAND_LIMIT).await.map(drop),
            None => Err(QmpError::Closed),
        }
    }
}
