//! Units that systemd refused.

/// A unit could not be stopped or started.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// systemd failed.
    #[error("{unit}: {why}")]
    Systemd {
        /// The unit.
        unit: String,
        /// What systemd said.
        why: String,
    },
}
