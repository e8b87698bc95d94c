//! Pure decisions: machine, host and QEMU in; placement, changes, helpers, command line and findings out.
//! Nothing here opens a file, asks a clock or starts a process.

mod accelerator;
mod boot_line;
mod command;
mod contents;
mod dead_man_switch;
mod devices;
mod draft;
mod holds;
mod hooks;
mod image_format;
mod isolation;
mod make;
#[cfg(test)]
mod parts_tests;
mod placement;
mod process;
mod quiet;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
mod trial;
mod tuning;
mod wanted;

pub use accelerator::tries_kvm;
pub use command::AGENT;
pub use contents::{
    Access, Account, Content, Descriptor, Finding, GuestMemory, Helper, HelperAccount, HelperDescriptor, HelperEnd,
    Inherited, Keep, Late, LateDevice, LateDisk, LateInput, LateUsb, Link, MemoryPart, Opened, Paths, Place, Plan,
    PlannedChange, Reach, Screen, Server, Severity, Tap, TapPort, Variable, Verdict, Viewer, assign_usb, authority,
    screen,
};
pub use devices::{Taking, taking};
pub use holds::{Hold, PlannedHold};
pub use hooks::PlannedHook;
pub use image_format::{ImageFormat, image_format};
pub use isolation::{Isolation, can_leave_cpus};
pub use make::plan;
pub use placement::{Placement, Why};
pub use process::cgroup::Cgroup;
pub use process::session::Move;
pub use process::unit_group::{UnitGroup, own_slice};
pub use trial::{Trial, trial, trial_of_any};
pub use tuning::DeviceIrqs;
pub use wanted::{wanted, wanted_by_any};
