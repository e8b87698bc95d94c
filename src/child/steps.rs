//! What is set up in a child, step by step, and which of it failed.

use std::io;

/// What is set up in a child, in order; its number is what a failing child reports.
pub(super) const STEPS: [&str; 13] = [
    "start it",
    "enter its session",
    "enter its cgroup",
    "set its CPUs",
    "set its limits",
    "leave our keyring",
    "set its groups",
    "set its group",
    "set its user",
    "tie its end to ours",
    "tie its end to ours (we are gone)",
    "hand over its descriptors",
    "make a user namespace",
];
pub(super) const SESSION: u8 = 1;
pub(super) const CGROUP: u8 = 2;
pub(super) const AFFINITY: u8 = 3;
pub(super) const LIMITS: u8 = 4;
pub(super) const KEYRING: u8 = 5;
pub(super) const GROUPS: u8 = 6;
pub(super) const GROUP: u8 = 7;
pub(super) const USER: u8 = 8;
pub(super) const DEATH_SIGNAL: u8 = 9;
pub(super) const ORPHAN: u8 = 10;
pub(super) const DESCRIPTORS: u8 = 11;
pub(super) const NAMESPACE: u8 = 12;
/// What a child reports that was to do all of them and no more.
pub(super) const ALL: u8 = STEPS.len() as u8;

/// A child that could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {program}: could not {step}")]
pub struct SpawnError {
    /// The program.
    pub program: String,
    /// What failed, as words after "could not".
    pub step: &'static str,
    /// The kernel's answer.
    #[source]
    pub source: io::Error,
}

impl SpawnError {
    /// The step at which a user namespace is made.
    pub const NAMESPACE: &str = STEPS[NAMESPACE as usize];
}

/// The number of a step, and the kernel's answer.
pub(super) struct Failed {
    pub step: u8,
    pub source: io::Error,
}

impl Failed {
    /// The error that names the program, and what could not be done.
    pub fn named(self, program: String) -> SpawnError {
        SpawnError {
            program,
            step: STEPS.get(usize::from(self.step)).copied().unwrap_or(STEPS[0]),
            source: self.source,
        }
    }
}
