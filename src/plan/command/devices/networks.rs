//! Network cards, and what is at their other ends: one file a backend.

mod bridge;
mod card;
mod macvtap;
mod nat;
mod ports;
mod tap;
mod taps;
mod user;

use serde_json::Map;

use card::{Card, Connected};

use crate::machine::{Backend, Link, Network, NetworkModel};
use crate::plan::Severity::Hard;
use crate::plan::draft::{Draft, by_default};
use crate::qemu::command::QemuOption;
use crate::qemu::device::Device;
use crate::units::Origin;

/// The largest packet of an ordinary Ethernet, which every card assumes.
const ORDINARY_MTU: u32 = 1500;

/// `-netdev` and the card of each network. `vcpus`: how many vCPUs there are.
pub(in crate::plan::command) fn write(draft: &mut Draft, vcpus: usize) {
    let default = [Network::default()];
    let networks = draft.machine.networks.as_deref().unwrap_or(&default);
    for (index, network) in networks.iter().enumerate() {
        let origin = match draft.machine.networks {
            Some(_) => draft.file(&format!("networks[{index}]")),
            None => by_default("a network card with QEMU's user-mode network"),
        };
        let mac = network.mac.clone().unwrap_or_else(|| mac(draft, index));
        // No machine has more vCPUs than fit.
        let vcpus = u32::try_from(vcpus).unwrap_or(u32::MAX);
        let mut card = Card { index, id: format!("net{index}"), network, mac, vcpus };
        let connected = match &network.backend {
            Backend::None => None,
            Backend::User | Backend::Slirp => Some(user::connect(draft, &card, &origin)),
            Backend::Macvtap(port) => Some(macvtap::connect(draft, &mut card, port)),
            Backend::Nat => Some(nat::connect(draft, &card)),
            Backend::Bridge(bridge) => Some(bridge::connect(draft, &card, bridge)),
            Backend::Tap(name) => Some(tap::connect(draft, &card, name)),
        };
        if let Some(connected) = &connected {
            netdev(draft, &card, connected, origin.clone());
        }
        device(draft, card, connected.as_ref(), origin);
    }
}

/// The `-netdev` option, after a check that the binary has its type.
fn netdev(draft: &mut Draft, card: &Card, connected: &Connected, origin: Origin) {
    if !draft.qemu.netdevs.contains(connected.kind) {
        let detail = format!("{} has no network backend `{}`", draft.qemu.binary.display(), connected.kind);
        let known: Vec<&str> = draft.qemu.netdevs.iter().map(String::as_str).collect();
        let remedy = match known.as_slice() {
            [] => "name another QEMU in `qemu`".to_owned(),
            known => format!("it has {}", known.join(", ")),
        };
        draft.no(&card.key("backend"), Hard, detail, &remedy);
        draft.about(&card.field("backend"));
    }
    let mut object = Map::new();
    object.insert("type".to_owned(), connected.kind.into());
    object.insert("id".to_owned(), card.id.clone().into());
    object.extend(connected.props.clone());
    draft.push(QemuOption::json("-netdev", object, origin).with_role(connected.role.clone()));
}

fn device(draft: &mut Draft, card: Card, connected: Option<&Connected>, origin: Origin) {
    let driver = match card.network.model {
        NetworkModel::Virtio => "virtio-net-pci",
        NetworkModel::E1000e => "e1000e",
        NetworkModel::E1000 => "e1000",
        NetworkModel::Rtl8139 => "rtl8139",
        NetworkModel::Vmxnet3 => "vmxnet3",
    };
    let mut device = Device::new(driver, &card.id).with("mac", card.mac);
    device = device.with_some("netdev", connected.map(|_| card.id.clone()));
    if card.network.model == NetworkModel::Virtio {
        let queues = connected.map_or(1, |connected| connected.queues);
        if queues > 1 {
            // An interrupt for each direction of each queue, one for the control queue, one for its configuration.
            device = device.with("mq", true).with("vectors", 2 * queues + 2);
        }
        let mtu = connected.and_then(|connected| connected.mtu).filter(|mtu| *mtu != ORDINARY_MTU);
        device = device.with_some("host_mtu", mtu);
    }
    if card.network.link == Link::Down {
        draft.unplugged.push(card.id);
    }
    // No boot ROM: the network is not booted from, and the ROM's file may not be installed.
    draft.pcie_device(device.with("romfile", ""), origin);
}

/// A MAC address that stays the same for this machine's card: QEMU's prefix, then the machine's UUID, which is a hash or
/// random, then the card's position.
fn mac(draft: &Draft, index: usize) -> String {
    let uuid = draft.machine.uuid();
    let bytes = uuid.as_bytes();
    // The last bytes of a UUID of any version are its own; the position makes the cards of a machine differ.
    let last = bytes[15].wrapping_add(index as u8);
    format!("52:54:00:{:02x}:{:02x}:{last:02x}", bytes[13], bytes[14])
}

#[cfg(test)]
mod tests;
