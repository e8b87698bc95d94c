//! Network cards.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::machine::problems::Problems;
use crate::machine::subject::Subject;

const MAX_NETWORKS: usize = 16;

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

impl Subject for Vec<Network> {
    fn check(&self, problems: &mut Problems) {
        if self.len() > MAX_NETWORKS {
            problems
                .add(format!("networks[{MAX_NETWORKS}]"), format!("{} network cards are too many", self.len()))
                .allowed(format!("at most {MAX_NETWORKS}"));
        }
        let mut seen = BTreeMap::new();
        for (i, network) in self.iter().enumerate() {
            if let Backend::Bridge(name) | Backend::Tap(name) = &network.backend {
                let kind = if matches!(network.backend, Backend::Tap(_)) { "Tap" } else { "Bridge" };
                if !is_interface(name) {
                    problems
                        .add(format!("networks[{i}].backend.{kind}"), format!("{name:?} cannot be a network interface"))
                        .allowed("1 to 15 characters without `/`, `:` and blanks");
                }
            }
            if let Some(written) = &network.mac {
                let field = format!("networks[{i}].mac");
                match mac(written) {
                    Err(why) => {
                        problems
                            .add(field, format!("{written:?} {why}"))
                            .allowed("six pairs of hexadecimal digits, such as \"52:54:00:12:34:56\"");
                    }
                    Ok(mac) => {
                        if let Some(first) = seen.insert(mac, i) {
                            problems.add(field, format!("{written:?} is already the address of `networks[{first}]`"));
                        }
                    }
                }
            }
        }
    }
}

/// The kernel's rule (`dev_valid_name`).
fn is_interface(name: &str) -> bool {
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace();
    (1..=15).contains(&name.len()) && name != "." && name != ".." && !name.contains(bad)
}

fn mac(text: &str) -> Result<[u8; 6], &'static str> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()));
        *byte = part.and_then(|part| u8::from_str_radix(part, 16).ok()).ok_or("is not a MAC address")?;
    }
    match (parts.next(), mac) {
        (Some(_), _) => Err("is not a MAC address"),
        (None, [0, 0, 0, 0, 0, 0]) => Err("is no card's address"),
        (None, [first, ..]) if first & 1 == 1 => Err("is a multicast address, no card's own: its first byte is odd"),
        _ => Ok(mac),
    }
}
