//! A bridge of the host's. Root's launcher makes a tap device on it; for other users QEMU's bridge helper does, which is
//! started by the launcher, since no setuid program runs inside QEMU's sandbox.

use std::path::{Path, PathBuf};

use super::card::{Card, Connected};
use super::taps;
use crate::host::InterfaceKind;
use crate::machine::Backend;
use crate::plan::Severity::{Hard, Soft};
use crate::plan::draft::{Draft, nearest};
use crate::plan::{Inherited, Tap, TapPort};

/// A tap device on the bridge.
pub(super) fn connect(draft: &mut Draft, card: &Card, bridge: &str) -> Connected {
    let mtu = check(draft, card, bridge);
    taps::tun(draft, card);
    match draft.host.process.uid {
        0 => port(draft, card, bridge, mtu),
        _ => by_helper(draft, card, bridge, mtu),
    }
}

/// A tap device that the launcher makes on the bridge, which may be one that is not there yet.
pub(super) fn port(draft: &mut Draft, card: &Card, bridge: &str, mtu: Option<u32>) -> Connected {
    let vhost = taps::vhost(draft, card);
    let queues = taps::queues(card, vhost);
    let tap = Tap {
        name: taps::name(draft, card.index),
        multi_queue: queues > 1,
        port: Some(TapPort { bridge: bridge.to_owned(), address: address(&card.mac), mtu }),
    };
    taps::connect(draft, queues, vhost, mtu, |_| Inherited::Tap(tap.clone()))
}

/// The tap device's own MAC address: the guest's with the highest first byte. A bridge whose address nobody has set takes the
/// lowest of its ports', and must not take that of a port that goes again.
fn address(mac: &str) -> String {
    format!("fe{}", mac.get(2..).unwrap_or_default())
}

/// Whether the bridge is there and carries packets; its largest packet.
fn check(draft: &mut Draft, card: &Card, bridge: &str) -> Option<u32> {
    let key = card.key("bridge");
    let Some(network) = &draft.host.network else {
        draft.unknown(&key, Hard, format!("vfio-run did not look for {bridge}"));
        return None;
    };
    let bridges = network.interfaces.iter().filter(|(_, interface)| interface.kind == InterfaceKind::Bridge);
    let bridges: Vec<&str> = bridges.map(|(name, _)| name.as_str()).collect();
    match network.interfaces.get(bridge) {
        None => {
            let detail = format!("there is no network interface {bridge}");
            let remedy = match (nearest(bridge, bridges.iter().copied()), bridges.as_slice()) {
                (Some(near), _) => format!("did you mean `Bridge({near:?})`?"),
                (None, []) => format!(
                    "make a bridge (`ip link add {bridge} type bridge`, or your distribution's network settings), or \
                     write `backend: User`"
                ),
                (None, known) => format!("name one of this host's bridges: {}", known.join(", ")),
            };
            draft.no(&key, Hard, detail, &remedy);
        }
        Some(found) if found.kind != InterfaceKind::Bridge => {
            let detail = format!("{bridge} is a network interface and no bridge");
            let remedy = match &found.master {
                Some(master) if bridges.contains(&master.as_str()) => {
                    format!("it is a port of a bridge: write `Bridge({master:?})`")
                }
                _ if found.kind == InterfaceKind::Wireless => {
                    "a wireless card cannot be a port of a bridge: write `backend: User`".to_owned()
                }
                _ => format!("make a bridge with {bridge} as a port, and name that"),
            };
            draft.no(&key, Hard, detail, &remedy);
        }
        Some(found) => {
            let mtu = found.mtu;
            match found.up {
                true => draft.yes(&key, Hard, format!("{bridge} is a bridge and up")),
                false => {
                    let detail = format!("the bridge {bridge} is down, so the guest reaches nobody");
                    draft.no(&key, Soft, detail, &format!("`ip link set {bridge} up`"));
                }
            }
            if !draft.findings.last().is_some_and(|finding| finding.ok == crate::plan::Verdict::Yes) {
                draft.about(&card.field("backend"));
            }
            return mtu;
        }
    }
    draft.about(&card.field("backend"));
    None
}

/// The tap device by QEMU's bridge helper, for those who may not make one. It makes one queue.
fn by_helper(draft: &mut Draft, card: &Card, bridge: &str, mtu: Option<u32>) -> Connected {
    let key = card.key("bridge_helper");
    let found = Backend::BRIDGE_HELPERS.iter().map(Path::new).find_map(|path| {
        let file = draft.host.files.get(path)?;
        file.kind.map(|_| (path.to_owned(), file.uid == 0 && file.mode & 0o4000 != 0))
    });
    let tap = format!("`ip tuntap add tap0 mode tap user {} && ip link set tap0 master {bridge} up`", {
        draft.host.process.uid
    });
    let instead = format!("start as root; or let root make a tap device, {tap}, and write `backend: Tap(\"tap0\")`");
    match &found {
        None => {
            let detail = format!("only root can join a guest to {bridge}, and QEMU's bridge helper is not installed");
            draft.no(&key, Hard, detail, &instead);
            draft.about(&card.field("backend"));
        }
        Some((helper, false)) => {
            let shown = helper.display();
            let detail = format!("only root can join a guest to {bridge}, and {shown} is not setuid root");
            draft.no(&key, Hard, detail, &format!("`chmod u+s {shown}` as root; or {instead}"));
            draft.about(&card.field("backend"));
        }
        Some((helper, true)) => {
            let allows = format!("/etc/qemu/bridge.conf must hold `allow {bridge}`");
            draft.unknown(
                &key,
                Soft,
                format!("whether {} may use {bridge} is its own matter: {allows}", helper.display()),
            );
            draft.remedy(&instead);
        }
    }
    if card.network.queues.is_some_and(|queues| queues > 1) {
        let detail = "QEMU's bridge helper makes a tap device with one queue";
        draft.no(&card.key("queues"), Hard, detail, "start as root, or leave `queues` out");
        draft.about(&card.field("queues"));
    }
    let vhost = taps::vhost(draft, card);
    let program = found.map_or_else(|| PathBuf::from(Backend::BRIDGE_HELPERS[0]), |(path, _)| path);
    let bridge = bridge.to_owned();
    taps::connect(draft, 1, vhost, mtu, |_| Inherited::BridgeHelper {
        program: program.clone(),
        bridge: bridge.clone(),
    })
}
