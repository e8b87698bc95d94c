//! A macvtap device: the guest is in the network of one of the host's interfaces, without a bridge.

use super::card::{Card, Connected};
use super::taps;
use crate::change::{Macvtap, MacvtapMode};
use crate::host::InterfaceKind;
use crate::machine::{Backend, MacvtapMode as Mode, MacvtapPort};
use crate::plan::Inherited;
use crate::plan::Severity::{Hard, Soft};
use crate::plan::draft::{Draft, nearest};

/// A macvtap device on the interface. In the mode `Passthru` the guest has the interface's own MAC address.
pub(super) fn connect(draft: &mut Draft, card: &mut Card, wanted: &MacvtapPort) -> Connected {
    let mtu = check(draft, card, wanted);
    if draft.host.process.uid != 0 {
        let detail = format!("only root can make a macvtap device on {}", wanted.interface);
        draft.no(&card.key("macvtap.root"), Hard, detail, "start as root, or write `backend: User`");
        draft.about(&card.field("backend"));
    }
    let vhost = taps::vhost(draft, card);
    let queues = taps::queues(card, vhost);
    let mode = match wanted.mode {
        Mode::Bridge => MacvtapMode::Bridge,
        Mode::Vepa => MacvtapMode::Vepa,
        Mode::Private => MacvtapMode::Private,
        Mode::Passthru => MacvtapMode::Passthru,
    };
    let name = taps::name(draft, card.index);
    let change = Macvtap { name: name.clone(), parent: wanted.interface.clone(), mode, address: card.mac.clone() };
    draft.change(change, draft.file(&card.field("backend")));
    taps::connect(draft, queues, vhost, mtu, |_| Inherited::Macvtap(name.clone()))
}

/// Whether a device can be made on the interface; its largest packet.
fn check(draft: &mut Draft, card: &mut Card, wanted: &MacvtapPort) -> Option<u32> {
    let (key, name) = (card.key("macvtap"), wanted.interface.as_str());
    let Some(network) = &draft.host.network else {
        draft.unknown(&key, Hard, format!("vfio-run did not look for {name}"));
        return None;
    };
    let usable = |kind| matches!(kind, InterfaceKind::Ethernet | InterfaceKind::Wireless);
    let Some(found) = network.interfaces.get(name).cloned() else {
        let cards = network.interfaces.iter().filter(|(_, interface)| usable(interface.kind));
        let cards: Vec<&str> = cards.map(|(name, _)| name.as_str()).collect();
        let remedy = match nearest(name, cards.iter().copied()) {
            Some(near) => format!("did you mean `Macvtap(interface: {near:?})`?"),
            None if cards.is_empty() => "this host has no network card; write `backend: User`".to_owned(),
            None => format!("name one of this host's cards: {}", cards.join(", ")),
        };
        draft.no(&key, Hard, format!("there is no network interface {name}"), &remedy);
        draft.about(&card.field("backend"));
        return None;
    };
    let refused = match (found.kind, &found.master) {
        (InterfaceKind::Loopback | InterfaceKind::Other, _) => {
            Some((format!("{name} carries no Ethernet frames"), "name a network card".to_owned()))
        }
        (_, Some(master)) => {
            Some((format!("{name} is a port of {master}"), format!("write `backend: Bridge({master:?})`")))
        }
        _ if !found.up => Some((format!("{name} is down"), format!("`ip link set {name} up`"))),
        _ => None,
    };
    match refused {
        Some((detail, remedy)) => {
            draft.no(&key, Hard, format!("no macvtap device can be made on {name}: {detail}"), &remedy);
            draft.about(&card.field("backend"));
        }
        None => draft.yes(&key, Hard, format!("{name} is up")),
    }
    if found.kind == InterfaceKind::Wireless && wanted.mode != Mode::Passthru {
        let detail = format!("most access points take one MAC address from {name}, and refuse that of the guest");
        draft.no(&card.key("macvtap.wireless"), Soft, detail, "write `backend: User`");
        draft.about(&card.field("backend"));
    }
    if wanted.mode == Mode::Passthru
        && let Some(own) = &found.address
    {
        if card.network.mac.as_ref().is_some_and(|mac| !mac.eq_ignore_ascii_case(own)) {
            let detail = format!("in the mode `Passthru` the guest has the address of {name}, {own}");
            draft.no(&card.key("macvtap.mac"), Hard, detail, "leave `mac` out, or choose another mode");
            draft.about(&card.field("mac"));
        }
        card.mac.clone_from(own);
    }
    let networks = draft.machine.networks.as_deref().unwrap_or_default();
    if networks.iter().all(|other| matches!(other.backend, Backend::Macvtap(_) | Backend::None)) {
        let detail = format!("the host and the guest cannot reach one another by {name}, only others can");
        draft.no(
            &card.key("macvtap.host"),
            Soft,
            detail,
            "if they must, add a second card: `networks: […, (backend: User)]`",
        );
        draft.about(&card.field("backend"));
    }
    found.mtu
}
