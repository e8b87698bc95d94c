//! A network card that is being written, and what it is connected to.

use serde_json::{Map, Value};

use crate::machine::Network;
use crate::qemu::Role;

/// A card that is being written.
pub(super) struct Card<'a> {
    /// Its place among the machine's cards.
    pub(super) index: usize,
    /// Its id and that of its backend: `net0`.
    pub(super) id: String,
    /// What the file says of it.
    pub(super) network: &'a Network,
    /// Its MAC address.
    pub(super) mac: String,
    /// The machine's vCPUs.
    pub(super) vcpus: u32,
}

impl Card<'_> {
    /// The name of a finding about it.
    pub(super) fn key(&self, what: &str) -> String {
        format!("{}.{what}", self.id)
    }

    /// The path of one of its fields.
    pub(super) fn field(&self, name: &str) -> String {
        format!("networks[{}].{name}", self.index)
    }
}

/// What a card is connected to.
pub(super) struct Connected {
    /// `-netdev`'s type.
    pub(super) kind: &'static str,
    /// Its members beside `type` and `id`.
    pub(super) props: Map<String, Value>,
    /// What it does to the host.
    pub(super) role: Role,
    /// How many queues it has.
    pub(super) queues: u32,
    /// The largest packet that may leave, if it is not what every card assumes.
    pub(super) mtu: Option<u32>,
}
