//! Network cards.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One network card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// What it is connected to. Default `User`.
    #[serde(default)]
    pub backend: Backend,
    /// The card that the guest sees. Default `Virtio`.
    #[serde(default)]
    pub model: NetworkModel,
    /// MAC address, `"52:54:00:…"`. Default: derived from the machine's UUID and the card's position.
    #[serde(default)]
    pub mac: Option<String>,
}

/// What a network card is connected to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Backend {
    /// QEMU's user-mode network: outgoing connections through the host, no privileges needed.
    #[default]
    User,
    /// A tap device on this bridge, made by QEMU's own bridge helper: `Bridge("br0")`.
    Bridge(String),
    /// A tap device that exists already: `Tap("tap0")`.
    Tap(String),
    /// Not connected.
    None,
}

/// The card that the guest sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NetworkModel {
    /// `virtio-net-pci`.
    #[default]
    Virtio,
    /// `e1000e`: Windows has a driver for it on its installation medium.
    E1000e,
}
