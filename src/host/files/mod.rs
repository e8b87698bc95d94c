//! Files of the host that a machine depends on: images, firmware, its unit, its own file.

pub(super) mod firmware;
pub(super) mod images;
pub(super) mod qcow2;
mod unit_file;
pub(super) mod variables;
pub(super) mod writable;

pub use firmware::{Descriptor, Feature};
pub use images::{FileFact, FileKind, ForeignLink, Volume};
pub use qcow2::{Backing, Named, Qcow2};
pub use unit_file::{InstalledUnit, WantedUnit};
pub use variables::Certificate;
pub use writable::Writable;
