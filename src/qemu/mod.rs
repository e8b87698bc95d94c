//! What a QEMU can do (asked of the binary), its command line as typed options, and the QMP session.

pub mod agent;
mod cache;
pub mod command;
pub mod device;
mod facts;
mod kvm_guest;
pub mod pcie;
pub mod probe;
pub mod qmp;
mod role;
mod schema;
mod short;

pub use facts::QemuFacts;
pub use kvm_guest::KvmGuest;
pub use probe::{KvmTrial, ProbeError, probe};
pub use qmp::{Event, Qmp, QmpError};
pub use role::Role;
