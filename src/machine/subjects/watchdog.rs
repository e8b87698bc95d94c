//! What happens when the guest hangs or its kernel panics: a watchdog, and a device by which the kernel tells.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A watchdog: a timer that the guest's own program sets again and again, until it hangs. Without such a program nothing
/// happens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Watchdog {
    /// Which one. Linux has drivers for both, Windows for neither. Default `Itco`.
    #[serde(default)]
    pub device: WatchdogDevice,
    /// What happens when its time has passed. Default `Reset`.
    #[serde(default)]
    pub action: WatchdogAction,
}

/// A watchdog's device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WatchdogDevice {
    /// The chipset's own (Linux: `iTCO_wdt`).
    #[default]
    Itco,
    /// A PCI device of its own (Linux: `i6300esb`).
    I6300esb,
}

/// What happens when a watchdog's time has passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WatchdogAction {
    /// The guest restarts.
    #[default]
    Reset,
    /// The power button is pressed.
    Shutdown,
    /// The guest ends at once.
    PowerOff,
    /// The guest stands still: `vfio-run stop` ends it.
    Pause,
    /// The guest gets a non-maskable interrupt, at which many kernels write a dump.
    InjectNmi,
    /// A message tells of it.
    None,
}

/// A device by which the guest's kernel tells that it panicked (pvpanic). Linux has its driver, Windows needs the one of
/// virtio-win.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PanicDevice {
    /// What happens when it did. Default `Shutdown`.
    #[serde(default)]
    pub action: PanicAction,
}

/// What happens when the guest's kernel panicked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PanicAction {
    /// The guest ends, and the devices go back to the host.
    #[default]
    Shutdown,
    /// The guest stands still, to be looked at: `vfio-run stop` ends it.
    Pause,
    /// The guest goes on: its kernel may restart it, or write a dump.
    None,
}
