//! Network cards.

use serde_json::Value;

use crate::machine::{Backend, Network, NetworkModel};
use crate::plan::Severity::{Hard, Soft};
use crate::plan::draft::{Draft, by_default};
use crate::qemu::command::QemuOption;
use crate::qemu::device::Device;

/// What a machine has that says nothing of networks.
const DEFAULT: Network = Network { backend: Backend::User, model: NetworkModel::Virtio, mac: None };

/// `-netdev` and the card of each network.
pub(in crate::plan::command) fn write(draft: &mut Draft) {
    let default = [DEFAULT];
    let networks = draft.machine.networks.as_deref().unwrap_or(&default);
    for (index, network) in networks.iter().enumerate() {
        let id = format!("net{index}");
        let origin = match draft.machine.networks {
            Some(_) => draft.file(&format!("networks[{index}]")),
            None => by_default("a network card with QEMU's user-mode network"),
        };
        let backend = backend(draft, &id, network);
        if let Some(backend) = &backend {
            draft.push(QemuOption::json("-netdev", backend.clone(), origin.clone()));
        }
        let driver = match network.model {
            NetworkModel::Virtio => "virtio-net-pci",
            NetworkModel::E1000e => "e1000e",
        };
        let mac = network.mac.clone().unwrap_or_else(|| mac(draft, index));
        let card = Device::new(driver, &id).with("mac", mac);
        let card = card.with_some("netdev", backend.is_some().then(|| id.clone()));
        // No boot ROM: the network is not booted from, and the ROM's file may not be installed.
        draft.pcie_device(card.with("romfile", ""), origin);
    }
}

/// The `-netdev` object, or `None` for a card that is not connected.
fn backend(draft: &mut Draft, id: &str, network: &Network) -> Option<serde_json::Map<String, Value>> {
    let (kind, props): (&str, Vec<(&str, Value)>) = match &network.backend {
        Backend::None => return None,
        Backend::User => ("user", vec![]),
        Backend::Bridge(bridge) => {
            let detail = format!("vfio-run cannot tell whether QEMU's bridge helper may use {bridge}");
            draft.unknown(
                &format!("{id}.bridge"),
                Soft,
                format!("{detail}: it must be setuid root and /etc/qemu/bridge.conf must hold `allow {bridge}`"),
            );
            ("bridge", vec![("br", bridge.as_str().into())])
        }
        Backend::Tap(tap) => {
            if let Some(account) = &draft.account {
                let uid = account.uid;
                let detail = format!("{tap} must belong to QEMU's account: `ip tuntap add {tap} mode tap user {uid}`");
                draft.unknown(&format!("{id}.tap"), Soft, detail);
            }
            ("tap", vec![("ifname", tap.as_str().into()), ("script", "no".into()), ("downscript", "no".into())])
        }
    };
    if !draft.qemu.netdevs.contains(kind) {
        let detail = format!("{} has no network backend `{kind}`", draft.qemu.binary.display());
        let known: Vec<&str> = draft.qemu.netdevs.iter().map(String::as_str).collect();
        draft.no(&format!("{id}.backend"), Hard, detail, &format!("it has {}", known.join(", ")));
        draft.about(&format!("networks[{}].backend", id.trim_start_matches("net")));
    }
    let mut object = serde_json::Map::new();
    object.insert("type".to_owned(), kind.into());
    object.insert("id".to_owned(), id.into());
    object.extend(props.into_iter().map(|(key, value)| (key.to_owned(), value)));
    Some(object)
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
