//! What outlasts a QEMU that is started anew when the guest restarts: the news that ends the guest, and the reports.

use super::activity::Recording;
use crate::run::reporting::Timeline;
use crate::systemd::logind::{End, EndNotices};

/// What outlasts a QEMU that is started anew when the guest restarts.
pub struct Lasting {
    /// The news that the host shuts down.
    pub notices: Option<EndNotices>,
    /// The report in the making, once the guest has run for a second.
    pub(in crate::run) recording: Option<Recording>,
    /// When each step of the start and of the end was done.
    pub(in crate::run) timeline: Timeline,
}

/// Waits for the news that the guest must end; for ever if nobody listens.
pub(super) async fn must_end(notices: Option<&mut EndNotices>) -> End {
    match notices {
        Some(notices) => notices.next().await,
        None => std::future::pending().await,
    }
}
