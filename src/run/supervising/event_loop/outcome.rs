//! How QEMU's end is meant.

use std::process::ExitStatus;

use super::guest::Guest;
use crate::run::kept::log::Log;
use crate::run::outcome::Outcome;
use crate::run::supervising::switch_clock::SwitchClock;

/// How QEMU's end is meant.
#[derive(Debug)]
pub enum Ended {
    /// The guest has ended.
    For(Outcome),
    /// The guest restarts, and the plan wants a new QEMU for that.
    Restarts {
        /// The dead-man switch, if it still waits.
        switch: Option<SwitchClock>,
    },
}

impl Guest<'_> {
    pub(super) fn ended(mut self, log: Option<&Log>) -> Ended {
        let status = self.qemu.reap();
        // Only a launcher that is its parent has a status.
        if self.restarts_anew() && status.is_none_or(|status| status.success()) {
            return Ended::Restarts { switch: self.switch.take() };
        }
        Ended::For(self.outcome(status, log))
    }

    /// Whether QEMU ends, or has ended, since the guest restarts, and a new QEMU follows.
    pub(super) fn restarts_anew(&self) -> bool {
        // `ShutdownCause` of a restart: the guest's own, or one over QMP.
        let restarts = matches!(self.reason.as_deref(), Some("guest-reset" | "host-qmp-system-reset"));
        let missed = self.switch.as_ref().and_then(|switch| switch.switch.missed());
        self.plan.relaunch && restarts && !self.ending.requested() && missed.is_none()
    }

    pub(super) fn outcome(&self, status: Option<ExitStatus>, log: Option<&Log>) -> Outcome {
        let name = &self.plan.name;
        let quote = || match log {
            Some(log) => log.quote(),
            None => format!("; the log: {}", self.plan.paths.log.display()),
        };
        let missed = self.switch.as_ref().and_then(|switch| switch.switch.missed());
        if let Some(missed) = missed {
            return Outcome::Crashed(format!("{missed}, so {name} was ended and the host got its devices back"));
        }
        match self.reason.as_deref() {
            _ if self.ending.insisted() => {
                Outcome::Forced(format!("QEMU of {name} was forced to quit, as was asked for"))
            }
            _ if self.ending.forced() => {
                Outcome::Crashed(format!("{name} did not power off and QEMU was forced to quit"))
            }
            Some("guest-panic") => Outcome::Crashed(format!("the guest of {name} crashed")),
            Some("host-error" | "subsystem-reset") => {
                Outcome::Crashed(format!("QEMU stopped {name} because of an error{}", quote()))
            }
            Some("host-signal") => Outcome::Crashed(format!("a signal ended QEMU of {name}")),
            Some(reason) if status.is_none_or(|s| s.success()) => Outcome::ShutDown(reason.to_owned()),
            _ => {
                let how = status.map_or_else(String::new, |s| format!(" ({s})"));
                Outcome::Crashed(format!("QEMU of {name} crashed{how}{}", quote()))
            }
        }
    }
}
