//! The stages of a run at which a user's own programs may take part.

use serde::{Deserialize, Serialize};

/// A stage of a run, in the order that they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Nothing of the host has been touched.
    Before,
    /// The changes to the host are made; QEMU has not been started.
    Ready,
    /// The guest runs.
    Running,
    /// The shared keyboard has changed hands.
    Toggled,
    /// The guest has ended, and so have QEMU and its helpers; the host is as the guest had it.
    Ended,
    /// The host is back.
    Restored,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 6] = [Self::Before, Self::Ready, Self::Running, Self::Toggled, Self::Ended, Self::Restored];

    /// Its name, as the machine file and `VFIO_RUN_STAGE` have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Toggled => "toggled",
            Self::Ended => "ended",
            Self::Restored => "restored",
        }
    }

    /// Whether it comes before the guest: what fails there stops the start.
    pub fn is_start(self) -> bool {
        matches!(self, Self::Before | Self::Ready)
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
