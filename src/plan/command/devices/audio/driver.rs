//! A driver of QEMU's that plays sound.

use serde_json::Value;

/// Id of the backend.
pub(super) const BACKEND: &str = "audio0";

/// A driver of QEMU's.
pub(super) struct Backend {
    /// Its name, as `-audiodev help` has it.
    pub driver: &'static str,
    /// Members of its own.
    pub members: Vec<(&'static str, Value)>,
}

impl Backend {
    /// It plays nowhere.
    pub const NOWHERE: Self = Self { driver: "none", members: Vec::new() };
}

/// Where a driver comes from.
pub(super) fn package(driver: &str) -> &'static str {
    match driver {
        "spice" => "install it (Debian: package `qemu-system-modules-spice`, or `qemu-system-x86` of Debian 12)",
        "pa" | "jack" => "install it (Debian: package `qemu-system-gui`)",
        "pipewire" => "use `Pulse`, or a QEMU that has it (from 8.1 on; Debian 13: package `qemu-system-gui`)",
        _ => "use another `audio`, or a QEMU that has it",
    }
}
