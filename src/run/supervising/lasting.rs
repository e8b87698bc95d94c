//! What outlasts a QEMU that is started anew when the guest restarts: the news from the system bus, and the reports.

use super::activity::Recording;
use crate::plan::Plan;
use crate::run::reporting::Timeline;
use crate::run::starting::holds::why_sleep_waits;
use crate::systemd::logind::{News, Notices};

/// What outlasts a QEMU that is started anew when the guest restarts.
pub struct Lasting {
    /// The news that the host shuts down or sleeps.
    pub notices: Option<Notices>,
    /// The report in the making, once the guest has run for a second.
    pub(in crate::run) recording: Option<Recording>,
    /// When each step of the start and of the end was done.
    pub(in crate::run) timeline: Timeline,
}

/// Holds up the host's next sleep, after it has woken.
pub(super) async fn hold_sleep_again(notices: &mut Option<Notices>, plan: &Plan) {
    let Some(notices) = notices else { return };
    if let Err(error) = notices.hold_sleep_again(&why_sleep_waits(plan)).await {
        tracing::warn!("the host will not wait for {} when it sleeps again: {error}", plan.name);
    }
}

/// Waits for news; for ever if nobody listens.
pub(super) async fn news(notices: Option<&mut Notices>) -> News {
    match notices {
        Some(notices) => notices.next().await,
        None => std::future::pending().await,
    }
}
