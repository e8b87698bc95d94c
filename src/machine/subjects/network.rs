//! Network cards.

mod check;
mod forward;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Forward;
/// One network card.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// How many queues a `Virtio` card has on a tap device, 1 to 8. Default: as many as vCPUs, at most 4, if the kernel's
    /// vhost-net serves them.
    #[serde(default)]
    pub queues: Option<u32>,
    /// Whether the cable is plugged in when the guest starts. Default `Up`.
    #[serde(default, skip_serializing_if = "Link::is_up")]
    pub link: Link,
    /// Ports of the host that lead to the guest: `["tcp 3389", "8080:80", "udp 127.0.0.1:5000:5001", "6000-6010"]`. TCP
    /// unless it says `udp`; on all addresses of the host unless it names one; the same port in the guest unless one follows.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forward: Vec<Forward>,
}

/// What a network card is connected to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Backend {
    /// Connections through the host, which need no privileges: by the program passt if it is installed and works, else as
    /// `Slirp`. With passt the guest has the host's own addresses, and does not reach the programs of the host.
    #[default]
    User,
    /// The same inside QEMU: slower, with addresses of its own (10.0.2.15), and the guest reaches all that the host listens
    /// on, also what is for the host alone, at 10.0.2.2.
    Slirp,
    /// A bridge of the host's: `Bridge("br0")`. As root vfio-run makes a tap device on it, which goes with the guest; for
    /// other users QEMU's bridge helper does.
    Bridge(String),
    /// A tap device that exists already: `Tap("tap0")`.
    Tap(String),
    /// Not connected.
    None,
}

impl Backend {
    /// The kernel's device by which a process makes or opens a tap device.
    pub const TUN: &str = "/dev/net/tun";
    /// The kernel's device that serves the queues of a card without QEMU.
    pub const VHOST: &str = "/dev/vhost-net";
    /// Where distributions keep QEMU's bridge helper.
    pub const BRIDGE_HELPERS: [&str; 3] =
        ["/usr/lib/qemu/qemu-bridge-helper", "/usr/libexec/qemu-bridge-helper", "/usr/lib64/qemu/qemu-bridge-helper"];

    /// Whether a tap device of the host's is at its other end.
    pub fn is_tap(&self) -> bool {
        matches!(self, Self::Bridge(_) | Self::Tap(_))
    }
}

/// The card that the guest sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NetworkModel {
    /// `virtio-net-pci`: the fastest; Windows needs its driver (NetKVM).
    #[default]
    Virtio,
    /// `e1000e`: Windows has a driver for it on its installation medium.
    E1000e,
    /// `e1000`: an older card, for guests that do not know `E1000e`, such as macOS before 11.
    E1000,
    /// `rtl8139`: a slow card that very old guests know.
    Rtl8139,
    /// `vmxnet3`: VMware's card, for guests that were moved from there.
    Vmxnet3,
}

/// Whether a card's cable is plugged in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Link {
    /// Plugged in.
    #[default]
    Up,
    /// Not plugged in: the guest has the card and no network, until `set_link` of QMP plugs it in.
    Down,
}

impl Link {
    fn is_up(&self) -> bool {
        *self == Self::Up
    }
}
