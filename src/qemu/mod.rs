//! What a QEMU can do (asked of the binary), its command line as typed options, and the QMP session.

pub mod command;
pub mod device;
mod facts;
pub mod pcie;
pub mod qmp;
mod wire;

pub use facts::QemuFacts;
pub use qmp::{Event, Qmp, QmpError};
