//! A guest that runs, as the event loop knows it.

use std::time::Duration;

use tokio::time::Instant;

use crate::journal::Journal;
use crate::plan::Plan;
use crate::qemu::Qmp;
use crate::run::ending::escalation::Ending;
use crate::run::late::LateDevices;
use crate::run::process::Watched;
use crate::run::reporting::Timeline;
use crate::run::supervising::device_irqs::DeviceInterrupts;
use crate::run::supervising::switch_clock::SwitchClock;
use crate::run::supervising::throttle::Throttle;

/// How long QEMU may take over a command; a main loop that is stuck must not hold up the guest's end.
pub(super) const COMMAND_LIMIT: Duration = Duration::from_secs(5);

/// A running guest.
pub(super) struct Guest<'a> {
    pub plan: &'a Plan,
    pub qemu: &'a Watched,
    /// `None` once QEMU has closed it.
    pub qmp: Option<Qmp>,
    pub ending: Ending,
    /// When somebody last asked for the end.
    pub asked: Option<Instant>,
    /// When the guest's time to end is up.
    pub deadline: Option<Instant>,
    /// QEMU's run state, as `status` shows it.
    pub state: String,
    /// The dead-man switch, if there is one.
    pub switch: Option<SwitchClock>,
    /// Devices that come and go.
    pub late: LateDevices,
    /// Whether QEMU may have kept descriptors that it was to close while the guest stood still.
    pub keeps_descriptors: bool,
    /// Interrupts of the guest's devices.
    pub interrupts: DeviceInterrupts<'a>,
    pub journal: &'a mut Journal,
    /// The report of the run.
    pub timeline: &'a mut Timeline,
    /// How many of QEMU's events are shown.
    pub throttle: Throttle,
    /// Whether the host shuts down, which sends its signals then.
    pub host_ends: bool,
    /// Whether the launcher has paused the guest for the host's sleep, or QEMU has yet to do that, and nobody has asked since
    /// that it stays so or goes on.
    pub paused_for_sleep: bool,
    /// When QEMU last reset the board because somebody asked for it.
    pub reset_at: Option<Instant>,
    /// Why QEMU said that it shuts down (`ShutdownCause` in QEMU's `qapi/run-state.json`).
    pub reason: Option<String>,
}
