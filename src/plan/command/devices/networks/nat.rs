//! The network that the machines of this host share: the bridge is ours, or libvirt's if its network is up.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::card::{Card, Connected};
use super::{bridge, ports, taps};
use crate::change::{Nat, NatGuest};
use crate::host::{InterfaceKind, Network};
use crate::machine::Backend;
use crate::plan::Severity::{Hard, Soft};
use crate::plan::draft::Draft;
use crate::units::{Protocol, Subnet};

/// The bridge of libvirt's default network.
const LIBVIRTS: &str = "virbr0";
/// The bridge of Docker, whose firewall drops what it does not know.
const DOCKERS: &str = "docker0";
/// The networks of 256 addresses that are tried for one that the host does not have: 192.168.N.0/24. Few routers and other
/// programs take theirs from here.
const CANDIDATES: std::ops::RangeInclusive<u8> = 177..=249;

/// What stands in the plan if none is free; the machine does not start then.
const DEFAULT: Subnet = Subnet::of_256([192, 168, 177]);

/// A tap device on the shared network's bridge.
pub(super) fn connect(draft: &mut Draft, card: &Card) -> Connected {
    let key = card.key("nat");
    let joins = draft.host.network.as_ref().and_then(|network| network.interfaces.get(LIBVIRTS));
    let joins = joins.filter(|found| found.kind == InterfaceKind::Bridge && found.up);
    if card.network.subnet.is_none() && card.network.forward.is_empty() && joins.is_some() {
        draft.yes(&key, Hard, format!("libvirt's network is up: the guest joins its bridge {LIBVIRTS}"));
        return bridge::connect(draft, card, LIBVIRTS);
    }
    if draft.host.process.uid != 0 {
        draft.no(&key, Hard, "only root can make a network", "start as root, or write `backend: User`");
        draft.about(&card.field("backend"));
    }
    taps::tun(draft, card);
    let subnet = subnet(draft, card);
    let uplinks = uplinks(draft, card);
    docker(draft, card);
    names(draft, card);
    // What listens for the host alone is not in the way of packets that come in by a card.
    ports::taken(draft, card, |socket| !socket.address.ip().is_loopback());
    let dnsmasq = program(draft, card, Backend::DNSMASQ, "dnsmasq gives the guest its address", "dnsmasq-base");
    let nft = program(draft, card, Backend::NFT, "nft sets the rules by which packets leave", "nftables");
    let forward = card.network.forward.clone();
    let guest = (!forward.is_empty())
        .then(|| Box::new(NatGuest { mac: card.mac.clone(), address: guest_address(&card.mac, subnet), forward }));
    let change =
        Nat { machine: draft.machine.name.clone(), run: draft.paths.run.clone(), subnet, uplinks, guest, dnsmasq, nft };
    draft.change(change, draft.file(&card.field("backend")));
    bridge::port(draft, card, Nat::BRIDGE, None)
}

/// The network's addresses: those of the file, those that it has if another machine made it, or the first that the host has
/// no route to.
fn subnet(draft: &mut Draft, card: &Card) -> Subnet {
    let (key, none) = (card.key("nat.subnet"), Network::default());
    let network = draft.host.network.as_ref().unwrap_or(&none);
    let made = network.routes.iter().find(|route| route.interface == Nat::BRIDGE).map(|route| route.subnet);
    let others = network.routes.iter().filter(|route| route.interface != Nat::BRIDGE && route.subnet.prefix() > 0);
    let others: Vec<_> = others.cloned().collect();
    let taken = |subnet: Subnet| others.iter().find(|route| route.subnet.overlaps(subnet));
    let mut candidates = CANDIDATES.map(|third| Subnet::of_256([192, 168, third]));
    let free = candidates.find(|subnet| taken(*subnet).is_none());
    match (card.network.subnet, made) {
        (Some(written), Some(made)) if written != made => {
            let detail = format!("another machine has made the shared network with {made}, not with {written}");
            draft.no(&key, Hard, detail, "leave `subnet` out, or end that machine first");
            draft.about(&card.field("subnet"));
            written
        }
        (Some(written), _) => {
            if let Some(route) = taken(written) {
                let detail = format!(
                    "the host reaches {} by {}, so the guests cannot have {written}",
                    route.subnet, route.interface
                );
                let remedy = free.map_or_else(
                    || "name another in `subnet`".to_owned(),
                    |free| format!("write `subnet: \"{free}\"`, or leave it out"),
                );
                draft.no(&key, Hard, detail, &remedy);
                draft.about(&card.field("subnet"));
            }
            written
        }
        (None, Some(made)) => {
            draft.yes(&key, Hard, format!("the shared network is there: {made}"));
            made
        }
        (None, None) => {
            let Some(free) = free else {
                let detail = "the host has routes to all networks that could be the guests'";
                draft.no(&key, Hard, detail, "name one in `subnet`, such as \"10.77.0.0/24\"");
                draft.about(&card.field("backend"));
                return DEFAULT;
            };
            draft.yes(&key, Hard, format!("the shared network is made with {free}, to which the host has no route"));
            free
        }
    }
}

/// The interfaces by which packets leave: those of the default routes.
fn uplinks(draft: &mut Draft, card: &Card) -> Vec<String> {
    let Some(network) = &draft.host.network else { return Vec::new() };
    let defaults = network.routes.iter().filter(|route| route.subnet.prefix() == 0);
    let mut uplinks: Vec<String> = defaults.map(|route| route.interface.clone()).collect();
    uplinks.sort();
    uplinks.dedup();
    if uplinks.is_empty() {
        let detail = "the host has no default route, so the guest reaches the host and nobody else";
        draft.no(&card.key("nat.uplink"), Soft, detail, "connect the host before the machine starts");
        draft.about(&card.field("backend"));
    }
    uplinks
}

/// Another firewall may drop what ours lets pass: the packet must pass both.
fn docker(draft: &mut Draft, card: &Card) {
    if draft.host.network.as_ref().is_some_and(|network| network.interfaces.contains_key(DOCKERS)) {
        let detail = "Docker's firewall may drop the guest's packets";
        draft.unknown(&card.key("nat.docker"), Soft, detail);
        let bridge = Nat::BRIDGE;
        draft.remedy(&format!(
            "`iptables -I DOCKER-USER -i {bridge} -j ACCEPT` and `iptables -I DOCKER-USER -o {bridge} -j ACCEPT`"
        ));
    }
}

/// dnsmasq listens on the bridge's address, which is not to be had (seen: its start fails) beside a program that listens on all.
fn names(draft: &mut Draft, card: &Card) {
    const DOMAIN: u16 = 53;
    let Some(facts) = &draft.host.user_network else { return };
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, DOMAIN));
    if facts.listening.iter().any(|other| other.protocol == Protocol::Tcp && other.address == everywhere) {
        let detail =
            "a name server of the host listens on port 53 of all addresses, so dnsmasq cannot listen on the bridge's";
        let remedy =
            "have it listen on addresses of its own (`ss -lntp sport = :53` names it), or write `backend: User`";
        draft.no(&card.key("nat.names"), Hard, detail, remedy);
        draft.about(&card.field("backend"));
    }
}

/// Where a program is.
fn program(draft: &mut Draft, card: &Card, name: &str, what: &str, package: &str) -> PathBuf {
    let key = card.key(&format!("nat.{name}"));
    match draft.host.programs.get(name).cloned() {
        Some(program) => {
            draft.yes(&key, Hard, format!("{name} is {}", program.display()));
            program
        }
        None => {
            let remedy = format!("install it (Debian: package `{package}`), or write `backend: User`");
            draft.no(&key, Hard, format!("{name} is not installed; {what}"), &remedy);
            draft.about(&card.field("backend"));
            PathBuf::from(name)
        }
    }
}

/// The address that DHCP always gives to a card to which ports lead. Those of two machines may be the same; the second one's
/// start says so.
fn guest_address(mac: &str, subnet: Subnet) -> Ipv4Addr {
    let digits = mac.bytes().filter_map(|digit| char::from(digit).to_digit(16));
    let number = digits.fold(0u32, |sum, digit| sum.wrapping_mul(31).wrapping_add(digit));
    let given = subnet.last_given();
    subnet.host(given + 1 + number % subnet.hosts().saturating_sub(given).max(1))
}
