//! Starts a GPU-passthrough virtual machine directly on QEMU and gives the host back afterwards.
//!
//! The rooms, and which may use which, are drawn in ARCHITECTURE.md.

// A panic would end the launcher while the guest has the host's devices. What can fail is an error with its cause.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable, clippy::exit)]
// Only src/report writes to the terminal.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod change;
pub mod child;
pub mod cli;
pub mod commands;
pub mod fill;
pub mod host;
pub mod import;
pub mod journal;
pub mod machine;
pub mod manual;
pub mod netlink;
pub mod plan;
pub mod qemu;
pub mod report;
pub mod run;
pub mod streams;
pub mod systemd;
pub mod trusted;
pub mod units;
