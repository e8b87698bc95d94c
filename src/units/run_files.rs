//! Names in a machine's run directory that say who has the machine and what it does: the launcher writes them, and the host's
//! facts look for some.

/// The journal of what was changed on the host; it is there until all is restored.
pub const JOURNAL: &str = "journal";
/// Locked for as long as the launcher lives.
pub const LOCK: &str = "lock";
/// Locked for as long as QEMU lives, which inherits the lock.
pub const GUEST_LOCK: &str = "guest.lock";
/// Locked for as long as a helper lives that keeps what it inherits (passt does not, and ends by itself).
pub const HELPERS_LOCK: &str = "helpers.lock";
/// The plan that is carried out.
pub const PLAN: &str = "plan.json";
/// What is known of the run so far, for its report.
pub const REPORT: &str = "report.json";
