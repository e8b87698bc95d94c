//! How a run went: for the caller, and for the hooks that run after the guest.

use crate::host::activity::Stutter;
use crate::units::exit;

/// How a run went.
#[derive(Debug)]
pub struct Report {
    /// What became of the guest.
    pub outcome: Outcome,
    /// What of the host could not be restored, in words that name it.
    pub left: Vec<String>,
    /// What else went wrong without stopping anything: hooks that failed after the start.
    pub warnings: Vec<String>,
    /// What made the guest stutter, if that was asked for and the guest ran.
    pub stutter: Option<Stutter>,
}

/// What became of the guest.
#[derive(Debug)]
pub enum Outcome {
    /// It shut down, or somebody ended it over QMP.
    ShutDown(String),
    /// It never ran.
    NotStarted(anyhow::Error),
    /// Somebody wanted QEMU forced to quit.
    Forced(String),
    /// QEMU or the guest crashed, or the launcher had to force QEMU to quit.
    Crashed(String),
}

impl Report {
    /// The exit code for it.
    pub fn exit_code(&self) -> u8 {
        match &self.outcome {
            _ if !self.left.is_empty() => exit::NOT_RESTORED,
            _ => self.outcome.for_hooks().code,
        }
    }

    /// The report of a start that was refused before anything was done.
    pub(in crate::run) fn refused(why: anyhow::Error, left: Vec<String>) -> Self {
        Self { outcome: Outcome::NotStarted(why), left, warnings: Vec::new(), stutter: None }
    }
}

impl Outcome {
    /// What hooks are told about it.
    pub(in crate::run) fn for_hooks(&self) -> HookOutcome {
        match self {
            Self::ShutDown(_) => SHUT_DOWN,
            Self::NotStarted(_) => NOT_STARTED,
            Self::Forced(_) | Self::Crashed(_) => CRASHED,
        }
    }
}

/// What hooks after the guest are told: `VFIO_RUN_OUTCOME` and `VFIO_RUN_EXIT_CODE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::run) struct HookOutcome {
    /// One of [`HOOK_OUTCOMES`].
    pub outcome: &'static str,
    /// The exit code, as far as it is known.
    pub code: u8,
}

const SHUT_DOWN: HookOutcome = HookOutcome { outcome: "shut-down", code: exit::OK };
const NOT_STARTED: HookOutcome = HookOutcome { outcome: "not-started", code: exit::NOT_STARTED };
const CRASHED: HookOutcome = HookOutcome { outcome: "crashed", code: exit::CRASHED };
/// For the hooks of a run whose launcher died: nobody knows how its guest ended.
pub(in crate::run) const RECOVERED: HookOutcome = HookOutcome { outcome: "recovered", code: exit::OK };
/// For the hooks of a rehearsal.
pub(in crate::run) const REHEARSED: HookOutcome = HookOutcome { outcome: "rehearsed", code: exit::OK };

/// All that `VFIO_RUN_OUTCOME` can be.
pub const HOOK_OUTCOMES: [&str; 5] =
    [SHUT_DOWN.outcome, NOT_STARTED.outcome, CRASHED.outcome, RECOVERED.outcome, REHEARSED.outcome];
