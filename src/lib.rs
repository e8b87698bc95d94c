//! Starts a GPU-passthrough virtual machine directly on QEMU and gives the host back afterwards.
//!
//! The rooms, and which may use which, are drawn in ARCHITECTURE.md.

pub mod change;
pub mod child;
pub mod cli;
pub mod commands;
pub mod host;
pub mod journal;
pub mod machine;
pub mod manual;
pub mod plan;
pub mod qemu;
pub mod report;
pub mod run;
pub mod systemd;
pub mod units;
