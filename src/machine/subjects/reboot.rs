//! What happens when the guest restarts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What happens when the guest restarts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnReboot {
    /// QEMU resets the machine and goes on, as a board does.
    #[default]
    Reset,
    /// QEMU ends, which has the kernel reset the devices in `pci`, and vfio-run starts it anew; the host stays as it is
    /// meanwhile. For cards that come back from a reset of the machine without a picture. It takes a few seconds more.
    Relaunch,
}
