//! A tap device that exists already. The launcher opens it, so QEMU's account needs no right to it.

use super::card::{Card, Connected};
use super::taps;
use crate::host::InterfaceKind;
use crate::plan::Severity::{Hard, Soft};
use crate::plan::draft::{Draft, nearest};
use crate::plan::{Inherited, Tap};

/// The tap device of this name.
pub(super) fn connect(draft: &mut Draft, card: &Card, name: &str) -> Connected {
    let found = check(draft, card, name);
    taps::tun(draft, card);
    let vhost = taps::vhost(draft, card);
    let (mtu, has_queues) = found.unwrap_or_default();
    let queues = if has_queues { taps::queues(card, vhost) } else { 1 };
    if !has_queues && card.network.queues.is_some_and(|queues| queues > 1) && found.is_some() {
        let detail = format!("{name} was made with one queue");
        let remedy = format!("make it with `ip tuntap add {name} mode tap multi_queue …`, or leave `queues` out");
        draft.no(&card.key("queues"), Hard, detail, &remedy);
        draft.about(&card.field("queues"));
    }
    // The kernel wants to be told whether the device has queues, also if we want just one.
    let tap = Tap { name: name.to_owned(), multi_queue: has_queues, port: None };
    taps::connect(draft, queues, vhost, mtu, |_| Inherited::Tap(tap.clone()))
}

/// Whether the device is there and may be opened; its largest packet, and whether it has queues.
fn check(draft: &mut Draft, card: &Card, name: &str) -> Option<(Option<u32>, bool)> {
    let (key, us) = (card.key("tap"), draft.host.process.uid);
    let Some(network) = &draft.host.network else {
        draft.unknown(&key, Hard, format!("vfio-run did not look for {name}"));
        return None;
    };
    let of_user = if us == 0 { String::new() } else { format!(" user {us}") };
    let make = format!("`ip tuntap add {name} mode tap{of_user}`");
    let Some(found) = network.interfaces.get(name).cloned() else {
        let taps = network.interfaces.iter().filter(|(_, tap)| matches!(tap.kind, InterfaceKind::Tun { .. }));
        let remedy = match nearest(name, taps.map(|(name, _)| name.as_str())) {
            Some(near) => format!("did you mean `Tap({near:?})`? Or make it: {make}"),
            None => format!("make it: {make}"),
        };
        draft.no(&key, Hard, format!("there is no network interface {name}"), &remedy);
        draft.about(&card.field("backend"));
        return None;
    };
    let InterfaceKind::Tun { flags, owner, group } = found.kind else {
        let remedy = match found.kind {
            InterfaceKind::Bridge => format!("write `Bridge({name:?})`"),
            _ => format!("make a tap device, {make} with another name, and name that"),
        };
        draft.no(&key, Hard, format!("{name} is a network interface and no tap device"), &remedy);
        draft.about(&card.field("backend"));
        return None;
    };
    let gid = draft.host.process.gid;
    match (flags.is_tap(), owner, group) {
        (false, ..) => {
            let detail = format!("{name} carries IP packets and no Ethernet frames (`mode tun`)");
            draft.no(&key, Hard, detail, &format!("make it anew: `ip link del {name}`, {make}"));
        }
        // `tun_not_capable()` of the kernel's drivers/net/tun.c.
        (_, Some(owner), _) if us != 0 && owner != us => {
            let detail = format!("{name} belongs to user {owner}, so you cannot open it");
            draft.no(&key, Hard, detail, &format!("start as root, or make it anew: `ip link del {name}`, {make}"));
        }
        (_, _, Some(group)) if us != 0 && group != gid => {
            let detail = format!("whether you can open {name} depends on your groups: it belongs to group {group}");
            draft.unknown(&key, Hard, detail);
            return Some((found.mtu, flags.has_queues()));
        }
        _ if !found.up => {
            let detail = format!("{name} is down, so the guest reaches nobody");
            draft.no(&key, Soft, detail, &format!("`ip link set {name} up`"));
        }
        _ => {
            draft.yes(&key, Hard, format!("{name} is a tap device and up"));
            return Some((found.mtu, flags.has_queues()));
        }
    }
    draft.about(&card.field("backend"));
    Some((found.mtu, flags.has_queues()))
}
