//! What is kept of a machine in files: its folders and locks, its leases, its log, and why its last start failed.

pub(super) mod folders;
pub(super) mod guest_lock;
pub(super) mod last_failure;
pub(super) mod launcher;
pub(super) mod leases;
pub(super) mod lock;
pub(super) mod log;
pub(super) mod new_image;
pub(super) mod plan_file;
pub(super) mod state;
mod tpm_state;
