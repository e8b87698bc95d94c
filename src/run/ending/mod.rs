//! How a guest is ended, and how the host is restored.

pub(super) mod escalation;
pub(super) mod finish;
pub(super) mod processes_of_dead;
pub(super) mod recover;
pub(super) mod restore;
pub(super) mod undo_dead;
