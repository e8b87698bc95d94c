//! Pure decisions: machine, host and QEMU in; placement, changes, helpers, command line and findings out.
//! Nothing here opens a file, asks a clock or starts a process.

mod accelerator;
mod account;
mod cgroup;
mod command;
mod contents;
mod devices;
mod draft;
mod finding;
mod guard;
mod holds;
mod hooks;
mod make;
mod parts;
mod paths;
mod permission;
mod placement;
#[cfg(test)]
pub(crate) mod sample;
mod session;
#[cfg(test)]
mod tests;
mod trial;
mod trust;
mod tuning;
mod wanted;

pub use accelerator::tries_kvm;
pub use cgroup::Cgroup;
pub use command::AGENT;
pub use contents::Plan;
pub use devices::{Taking, taking};
pub use finding::{Finding, Place, Severity, Verdict};
pub use holds::{Hold, PlannedHold};
pub use hooks::PlannedHook;
pub use make::plan;
pub use parts::{Account, Descriptor, Helper, Inherited, Keep, PlannedChange};
pub use paths::Paths;
pub use placement::Placement;
pub use session::Move;
pub use trial::{Trial, trial};
pub use wanted::{wanted, wanted_by_any};
