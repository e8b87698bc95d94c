//! What outlasts a QEMU that is started anew when the guest restarts: the news from the system bus, and the report.

use super::activity::Recording;
use crate::plan::Plan;
use crate::run::starting::holds::why_sleep_waits;
use crate::systemd::logind::{News, Notices};

/// What outlasts a QEMU that is started anew when the guest restarts.
pub struct Lasting {
    /// The news that the host shuts down or sleeps.
    pub notices: Option<Notices>,
    /// The report in the making, once the guest has run for a second.
    pub(in crate::run) recording: Option<Recording>,
}

impl Lasting {
    /// The launcher's name on the system bus, if it listens there.
    pub fn controller(&self) -> Option<&str> {
        self.notices.as_ref().and_then(Notices::name)
    }

    /// Holds up the host's next sleep, after it has woken.
    pub(super) async fn hold_sleep_again(&mut self, plan: &Plan) {
        let Some(notices) = &mut self.notices else { return };
        if let Err(error) = notices.hold_sleep_again(&why_sleep_waits(plan)).await {
            tracing::warn!("the host will not wait for {} when it sleeps again: {error}", plan.name);
        }
    }

    /// Begins a report, or goes on with it, if the plan has one.
    pub(super) fn record(&mut self, plan: &Plan, qemu: i32) {
        match &mut self.recording {
            Some(recording) => recording.follow(qemu),
            None => self.recording = Recording::begin(plan, qemu),
        }
    }
}

/// Waits for news; for ever if nobody listens.
pub(super) async fn news(notices: Option<&mut Notices>) -> News {
    match notices {
        Some(notices) => notices.next().await,
        None => std::future::pending().await,
    }
}
