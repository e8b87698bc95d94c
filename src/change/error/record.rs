//! Records of the journal that do not fit their change.

/// The journal's record of what was there before cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It was written for another kind of change, or by another version.
    #[error("the journal's record of what was there before does not belong to this change: {before}")]
    Wrong {
        /// What the record holds.
        before: String,
    },
    /// What was there cannot be written down: a path that is no UTF-8.
    #[error("what is there now cannot be recorded in the journal: {0}")]
    Unwritable(String),
}
