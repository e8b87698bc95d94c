//! From a plan to a guest that runs: the trial, the sockets, the processes and their threads.

mod affinity;
pub(super) mod scope;
pub mod sockets;
pub(super) mod start;
pub(super) mod threads;
pub mod transient_unit;
mod trial;
