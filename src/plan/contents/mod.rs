//! The plan as a value, and what it consists of.

mod finding;
mod helper;
mod late;
mod memory;
mod parts;
mod paths;
mod plan;
mod reach;
mod screen;

pub use finding::{Finding, Place, Severity, Verdict};
pub use helper::{Helper, HelperAccount, HelperDescriptor, HelperEnd};
pub use late::{Late, LateDevice, LateDisk, LateInput, LateUsb, assign_usb};
pub use memory::{GuestMemory, MemoryPart};
pub use parts::{
    Access, Account, Content, Descriptor, Inherited, Keep, Link, Opened, PlannedChange, Tap, TapPort, Variable, Viewer,
};
pub use paths::Paths;
pub use plan::Plan;
pub use reach::Reach;
pub(super) use screen::AUTHORITY;
pub use screen::{Screen, Server, authority, screen};
