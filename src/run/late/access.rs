//! What it takes to give QEMU a device of the host.

use crate::journal::Journal;
use crate::plan::Plan;
use crate::qemu::Qmp;

/// What it takes to give QEMU a device.
pub(in crate::run) struct Access<'a> {
    /// The plan that is carried out.
    pub plan: &'a Plan,
    /// QEMU's monitor.
    pub qmp: &'a mut Qmp,
    /// The journal.
    pub journal: &'a mut Journal,
}
