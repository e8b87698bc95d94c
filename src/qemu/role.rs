//! What an option does besides being read by QEMU.

use serde::{Deserialize, Serialize};

/// What an option does to the host or for others, set where the option is made. It tells the trial, which starts QEMU
/// before anything is taken from the host, what to make of the option.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It concerns nobody but QEMU: the trial has it too.
    #[default]
    Plain,
    /// It takes a device of the host, or a descriptor of one: the trial goes without it, and without what refers to it.
    HostDevice,
    /// A helper process is at its other end: the trial goes without it, and without what refers to it.
    Helper,
    /// It is a socket that QEMU listens on: nobody can connect to the trial's.
    Listens,
    /// It plays on a sound server of the host's: the trial's plays nowhere.
    Sound,
    /// It touches or locks the host's memory, by these members of its value; the trial goes without them. If none is
    /// named, the option as a whole does, and the trial goes without it.
    Touches(Vec<String>),
}

impl Role {
    /// Whether it is the role of most options.
    pub fn is_plain(&self) -> bool {
        *self == Self::Plain
    }
}
