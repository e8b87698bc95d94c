//! What is in the way of an isolation.

use crate::host::Process;

/// What is in the way of an isolation.
pub(super) struct InTheWay {
    /// What is so, in one sentence.
    pub detail: String,
    /// What to do about it.
    pub remedy: String,
    /// Whether it is no fault of the host's: nobody need be warned of it who did not ask for an isolation.
    pub usual: bool,
    /// Whether only another kernel could do it for a unit.
    pub beyond_reach: bool,
}

impl InTheWay {
    pub fn new(detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { detail: detail.into(), remedy: remedy.into(), usual: false, beyond_reach: false }
    }

    pub fn usual(detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { usual: true, ..Self::new(detail, remedy) }
    }

    pub fn of_foreign_unit(process: &Process) -> Self {
        let unit = process.unit.as_deref().unwrap_or("another group");
        let detail = format!("vfio-run runs in {unit}, which is not its own to divide");
        Self::new(detail, "start it from a shell, or in the unit that `vfio-run unit` writes")
    }
}
