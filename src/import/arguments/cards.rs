//! Network cards.

use super::option::Members;
use super::state::{Became, State, lost};
use crate::import::account::Verdict;
use crate::import::context::Context;
use crate::machine::{Backend, Network, NetworkModel};
use crate::units::Forward;

/// The model that QEMU's driver is.
pub fn model(driver: &str) -> Option<NetworkModel> {
    Some(match driver {
        "virtio-net-pci" | "virtio-net" | "virtio" => NetworkModel::Virtio,
        "e1000e" => NetworkModel::E1000e,
        "e1000" | "e1000-82545em" | "e1000-82544gc" => NetworkModel::E1000,
        "rtl8139" => NetworkModel::Rtl8139,
        "vmxnet3" => NetworkModel::Vmxnet3,
        _ => return None,
    })
}

/// What a connection says that has a field, or that vfio-run does by itself.
const OF_A_CONNECTION: [&str; 22] = [
    "type",
    "id",
    "name",
    "vlan",
    "hostfwd",
    "smb",
    "smbserver",
    "br",
    "ifname",
    "script",
    "downscript",
    "helper",
    "vhost",
    "vhostforce",
    "queues",
    "sndbuf",
    "poll-us",
    "model",
    "mac",
    "macaddr",
    "addr",
    "vectors",
];

/// The same of a card.
const OF_A_CARD: [&str; 30] = [
    "netdev",
    "vlan",
    "name",
    "model",
    "mac",
    "macaddr",
    "id",
    "bus",
    "addr",
    "multifunction",
    "bootindex",
    "romfile",
    "rombar",
    "mq",
    "vectors",
    "rx_queue_size",
    "tx_queue_size",
    "csum",
    "gso",
    "mrg_rxbuf",
    "packed",
    "event_idx",
    "ioeventfd",
    "page-per-vq",
    "disable-legacy",
    "disable-modern",
    "iommu_platform",
    "ats",
    "tx",
    "x-txburst",
];

/// What a connection says that no field says.
fn lost_of_connection(members: &Members) -> Vec<String> {
    let mut lost = lost(members, &OF_A_CONNECTION);
    lost.retain(|member| !matches!(member.as_str(), "restrict=off" | "restrict=no" | "ipv4=on" | "ipv6=on"));
    lost
}

/// Says that a card is another one than it was.
fn unlike(driver: &str, became: Became) -> Became {
    match driver {
        "e1000-82545em" | "e1000-82544gc" => {
            let words = format!(
                "no field says `{driver}`: the card is `E1000` (82540EM), of which a guest's driver may know nothing. macOS 10.15 and \
                 later have a driver for `model: Vmxnet3`, macOS 11 and later for `model: Virtio`"
            );
            Became(Verdict::NeedsYou, words)
        }
        _ => became,
    }
}

/// `-netdev`: what the card that refers to it is connected to.
pub fn netdev(state: &State, members: &Members) -> Option<Became> {
    let id = members.get("id")?;
    state.used.contains(id).then(Became::taken)?.map(|became| became.without(&lost_of_connection(members)))
}

/// `-device` of a card.
pub fn device(cx: &mut Context, state: &mut State, driver: &str, members: &Members) -> Option<Became> {
    let model = model(driver)?;
    let id = members.get("netdev")?;
    let backend = state.named.get(id)?.clone();
    let mut network = of(state, &backend)?;
    network.model = model;
    network.queues = network.queues.filter(|_| model == NetworkModel::Virtio);
    network.mac = mac(members);
    state.used.insert(id.to_owned());
    let became = add(cx, network, &backend)?.without(&lost(members, &OF_A_CARD));
    Some(unlike(driver, became))
}

/// `-nic`, and `-net nic` with its other half.
pub fn nic(cx: &mut Context, state: &mut State, option: &str, value: &str) -> Option<Became> {
    let members = Members::parse(value)?;
    match (option, members.driver()?) {
        (_, "none") => {
            cx.machine.networks = Some(Vec::new());
            Became::taken()
        }
        ("net", "nic") if members.get("netdev").is_some() => {
            device(cx, state, members.get("model").unwrap_or("e1000"), &members)
        }
        ("net", "nic") => {
            // The halves come in either order.
            match state.half.take().and_then(|half| cx.machine.networks.as_mut()?.get_mut(half)) {
                Some(network) => card(network, &members)?,
                None => state.nic = Some(members.clone()),
            }
            let became = Became::taken()?.without(&lost(&members, &OF_A_CARD));
            Some(unlike(members.get("model").unwrap_or_default(), became))
        }
        _ => {
            let mut network = of(state, &members)?;
            let nic = if option == "net" { state.nic.take() } else { Some(members.clone()) };
            if nic.is_none() {
                state.half = Some(cx.machine.networks.as_ref().map_or(0, Vec::len));
            }
            card(&mut network, &nic.unwrap_or_default())?;
            let became = add(cx, network, &members)?.without(&lost_of_connection(&members));
            Some(unlike(members.get("model").unwrap_or_default(), became))
        }
    }
}

/// The address of a card, as it was written.
fn mac(members: &Members) -> Option<String> {
    members.get("mac").or(members.get("macaddr")).map(str::to_owned)
}

/// The model and the address of a card.
fn card(network: &mut Network, nic: &Members) -> Option<()> {
    network.model = nic.get("model").map_or(Some(NetworkModel::E1000), model)?;
    network.queues = network.queues.filter(|_| network.model == NetworkModel::Virtio);
    network.mac = mac(nic);
    Some(())
}

fn add(cx: &mut Context, network: Network, backend: &Members) -> Option<Became> {
    let networks = cx.machine.networks.get_or_insert_default();
    let unnamed = matches!(network.backend, Backend::Bridge(_)) && backend.get("br").is_none();
    let field = format!("networks[{}]", networks.len());
    networks.push(network);
    if unnamed && backend.get("type").or(backend.driver()) == Some("tap") {
        cx.comment(field, "A script of QEMU's put a tap device on a bridge; br0 is the usual name of one.");
        return Became::improved(
            "QEMU's script for its tap device is not run: vfio-run makes one on the bridge, which is br0 unless the file says another",
        );
    }
    Became::taken()
}

fn of(state: &mut State, members: &Members) -> Option<Network> {
    let backend = match members.get("type").or(members.driver())? {
        "user" => Backend::User,
        "bridge" => Backend::Bridge(members.get("br").unwrap_or("br0").to_owned()),
        "tap" => match (members.get("ifname"), members.get("br")) {
            (Some(name), _) => Backend::Tap(name.to_owned()),
            (None, Some(bridge)) => Backend::Bridge(bridge.to_owned()),
            (None, None) => Backend::Bridge("br0".to_owned()),
        },
        _ => return None,
    };
    let mut network = Network { backend, ..Network::default() };
    for (key, value) in members.rest() {
        match key {
            "hostfwd" => network.forward.push(forward(value)?),
            // Its own share, by SMB.
            "smb" => state.shared.push(value.into()),
            "queues" if network.backend.is_tap() => {
                network.queues = value.parse().ok().filter(|queues| (1..=8).contains(queues));
            }
            _ => {}
        }
    }
    Some(network)
}

/// `-redir`, as QEMU had it before 3.1: `tcp:2222::22`.
pub fn redirection(state: &mut State, value: &str) -> Option<Became> {
    let mut parts = value.split(':');
    let (protocol, host, _, guest) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let protocol = if protocol.is_empty() { "tcp" } else { protocol };
    state.forward.push(format!("{protocol} {host}:{guest}").parse().ok()?);
    Became::improved("QEMU no longer has this option; the port is forwarded by `forward` of the network")
}

/// What is known of the cards when all options are read.
pub fn finish(cx: &mut Context, state: &mut State) {
    let kept = cx.machine.extra_args.iter().any(|word| matches!(word.as_str(), "-netdev" | "-nic" | "-net"));
    if state.script && cx.machine.networks.is_none() && (kept || state.bare) {
        cx.machine.networks = Some(Vec::new());
    }
    if state.forward.is_empty() {
        return;
    }
    let networks = cx.machine.networks.get_or_insert_with(|| vec![Network::default()]);
    match networks.iter_mut().find(|network| network.backend == Backend::User) {
        Some(network) => network.forward.append(&mut state.forward),
        None => cx.account.remark(
            Verdict::NeedsYou,
            "ports are forwarded by a network of the kind `User`, and the machine has none: `networks: [(forward: [\"tcp 2222:22\"])]`",
        ),
    }
}

/// `tcp:127.0.0.1:5555-:3389`, as QEMU writes a forwarded port.
fn forward(value: &str) -> Option<Forward> {
    let (protocol, rest) = value.split_once(':')?;
    let (host, guest) = rest.split_once('-')?;
    let guest = guest.rsplit(':').next()?;
    let host = host.trim_start_matches(':');
    let protocol = if protocol.is_empty() { "tcp" } else { protocol };
    format!("{protocol} {host}:{guest}").parse().ok()
}
