//! What outlasts a QEMU that is started anew when the guest restarts: the news that ends the guest, and the report.

use super::activity::Recording;
use crate::plan::Plan;
use crate::systemd::logind::{End, EndNotices};

/// What outlasts a QEMU that is started anew when the guest restarts.
pub struct Lasting {
    /// The news that the host shuts down.
    pub notices: Option<EndNotices>,
    /// The report in the making, once the guest has run for a second.
    pub(in crate::run) recording: Option<Recording>,
}

impl Lasting {
    /// The launcher's name on the system bus, if it listens there.
    pub fn controller(&self) -> Option<&str> {
        self.notices.as_ref().and_then(EndNotices::name)
    }

    /// Begins a report, or goes on with it, if the plan has one.
    pub(super) fn record(&mut self, plan: &Plan, qemu: i32) {
        match &mut self.recording {
            Some(recording) => recording.follow(qemu),
            None => self.recording = Recording::begin(plan, qemu),
        }
    }
}

/// Waits for the news that the guest must end; for ever if nobody listens.
pub(super) async fn must_end(notices: Option<&mut EndNotices>) -> End {
    match notices {
        Some(notices) => notices.next().await,
        None => std::future::pending().await,
    }
}
