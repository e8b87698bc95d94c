//! How a guest is ended, and what a dead launcher left is put back.

pub(super) mod escalation;
pub(super) mod recover;
