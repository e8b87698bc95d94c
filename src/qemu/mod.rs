//! What a QEMU can do (asked of the binary), its command line as typed options, and the QMP session.

pub mod command;
mod facts;
pub mod qmp;
mod wire;

pub use facts::QemuFacts;
pub use qmp::{Event, Qmp, QmpError};
