//! What a QEMU can do (asked of the binary), its command line as typed options, and the QMP session.

pub mod command;
pub mod device;
mod facts;
pub mod pcie;
mod shell;

pub use facts::QemuFacts;
