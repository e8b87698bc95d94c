//! QEMU's command line, one file a subject: each adds its options, and with them the changes, helpers and findings that
//! the subject needs.

mod base;
mod board;
mod boot;
mod cpu;
mod decided;
pub(super) mod disks;
mod display;
mod enlightenments;
mod extra;
mod firmware;
mod memory;
mod networks;
mod passthrough;
mod ports;
mod tpm;
mod vsock;
mod write;

pub(super) use decided::Decided;
pub use ports::AGENT;
pub(super) use write::write;
