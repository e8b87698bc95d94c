//! What is kept of a machine in files: its folders, lock and leases, its log, and why its last start failed.

pub(super) mod folders;
pub(super) mod last_failure;
pub(super) mod launcher;
pub(super) mod leases;
pub(super) mod log;
