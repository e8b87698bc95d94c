//! From a plan to a guest that runs: the claim, the changes, the trial, the sockets, the processes and their threads.

mod affinity;
pub(super) mod changes;
pub(super) mod claim;
pub mod contents;
pub(super) mod display;
mod display_manager;
mod greeting;
mod helpers;
pub(super) mod holders;
pub(super) mod holds;
pub(super) mod isolate;
pub mod memory;
mod scheduler;
mod scope;
pub mod sockets;
mod sound;
mod spawn;
pub(super) mod start;
mod taps;
pub(super) mod threads;
pub mod transient_unit;
pub(super) mod trial;

pub use display_manager::wait_for_display_manager;
