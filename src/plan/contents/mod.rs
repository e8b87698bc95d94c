//! The plan as a value, and what it consists of.

mod finding;
mod parts;
mod paths;
mod plan;

pub use finding::{Finding, Place, Severity, Verdict};
pub use parts::{Account, Descriptor, Helper, Inherited, Keep, PlannedChange};
pub use paths::Paths;
pub use plan::Plan;
