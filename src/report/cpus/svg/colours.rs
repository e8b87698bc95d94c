//! What has which colour in a picture of CPUs.

use super::super::map::GroupKind;
use crate::host::CoreKind;
pub use crate::report::svg::colours::{INK, LIGHT_INK, LINE, PALE_INK, PAPER, WRONG};

/// A CPU that nothing runs on.
pub const IDLE: &str = "#ffffff";
/// A CPU that this process may not use.
pub const FORBIDDEN: &str = "#dfe3e8";
/// A CPU with vCPUs that wait for each other.
pub const CONFLICT: &str = WRONG;

/// Of each machine's vCPUs, and of QEMU's other threads.
const MACHINES: [(&str, &str); 6] = [
    ("#1a5fb4", "#cfe0f7"),
    ("#b3470b", "#fadcc8"),
    ("#7b2fa8", "#e7d5f2"),
    ("#0d7377", "#cbe9ea"),
    ("#a11d4d", "#f5d2de"),
    ("#4d5a08", "#e2e8c0"),
];

/// The colour of a machine's vCPUs.
pub fn of_vcpus(machine: usize) -> &'static str {
    MACHINES[machine % MACHINES.len()].0
}

/// The colour of a machine's other threads.
pub fn of_others(machine: usize) -> &'static str {
    MACHINES[machine % MACHINES.len()].1
}

/// The colour of a kind of core.
pub fn of_kind(kind: CoreKind) -> &'static str {
    match kind {
        CoreKind::Uniform => "#e3e8ee",
        CoreKind::Performance => "#ffe2a0",
        CoreKind::Efficiency => "#cdebbf",
        CoreKind::LowPower => "#ddd6ee",
    }
}

/// The ground and the frame of a group.
pub fn of_group(kind: GroupKind) -> (&'static str, &'static str) {
    match kind {
        GroupKind::Host | GroupKind::Package => ("#f2f4f7", "#7d8896"),
        GroupKind::Die => ("#f7f5f2", "#a0948a"),
        GroupKind::Node => ("#e9f1fb", "#6d93c4"),
        GroupKind::L3 => ("#fffaf0", "#c9a04a"),
    }
}
