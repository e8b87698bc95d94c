//! Network cards.

mod check;
mod forward;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Forward, Subnet};

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
    /// The addresses of the network that `Nat` makes: `"192.168.77.0/24"`. Default: the first of 192.168.177.0/24 and those
    /// after it that the host has no route to.
    #[serde(default)]
    pub subnet: Option<Subnet>,
    /// Whether the cable is plugged in when the guest starts. Default `Up`.
    #[serde(default, skip_serializing_if = "Link::is_up")]
    pub link: Link,
    /// Ports of the host that lead to the guest: `["tcp 3389", "8080:80", "udp 127.0.0.1:5000:5001", "6000-6010"]`. TCP
    /// unless it says `udp`; on all addresses of the host unless it names one; the same port in the guest unless one follows.
    /// With `Nat` for others than the host, which reaches the guest at its own address. Default: none.
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
    /// The network of one of the host's cards, without a bridge: `Macvtap(interface: "eth0")`. The host itself and the guest
    /// cannot reach one another by it. Needs root.
    Macvtap(MacvtapPort),
    /// A network that the machines of this host share, with DHCP and names, whose packets leave under the host's address;
    /// libvirt's, if that is up. The first machine makes it, the last one removes it. Needs root, dnsmasq and nft.
    Nat,
    /// Not connected.
    None,
}

/// A macvtap device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MacvtapPort {
    /// The host's network card: `"eth0"`.
    pub interface: String,
    /// How packets pass between guests on the same card. Default `Bridge`.
    #[serde(default)]
    pub mode: MacvtapMode,
}

/// How a macvtap device passes packets on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MacvtapMode {
    /// To guests on the same card directly.
    #[default]
    Bridge,
    /// Always to the switch outside, which must send back what is for another guest of this host.
    Vepa,
    /// Never to guests on the same card.
    Private,
    /// The guest has the card to itself, and its MAC address.
    Passthru,
}

impl Backend {
    /// The program that gives the guests of `Nat` their addresses and names.
    pub const DNSMASQ: &str = "dnsmasq";
    /// The program that sets the rules of `Nat`.
    pub const NFT: &str = "nft";
    /// The kernel's device by which a process makes or opens a tap device.
    pub const TUN: &str = "/dev/net/tun";
    /// The kernel's device that serves the queues of a card without QEMU.
    pub const VHOST: &str = "/dev/vhost-net";
    /// Where distributions keep QEMU's bridge helper.
    pub const BRIDGE_HELPERS: [&str; 3] =
        ["/usr/lib/qemu/qemu-bridge-helper", "/usr/libexec/qemu-bridge-helper", "/usr/lib64/qemu/qemu-bridge-helper"];

    /// Whether a tap device of the host's is at its other end.
    pub fn is_tap(&self) -> bool {
        matches!(self, Self::Bridge(_) | Self::Tap(_) | Self::Macvtap(_) | Self::Nat)
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
    /// Not plugged in: the guest has the card and no network, until `vfio-run link NAME up` plugs it in.
    Down,
}

impl Link {
    fn is_up(&self) -> bool {
        *self == Self::Up
    }
}
