//! Network cards.

use super::option::Members;
use super::state::{Became, State};
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

/// `-netdev`: what the card that refers to it is connected to.
pub fn netdev(state: &State, members: &Members) -> Option<Became> {
    let id = members.get("id")?;
    state.used.contains(id).then(Became::taken).flatten()
}

/// `-device` of a card.
pub fn device(cx: &mut Context, state: &mut State, driver: &str, members: &Members) -> Option<Became> {
    let model = model(driver)?;
    let id = members.get("netdev")?;
    let backend = state.named.get(id)?.clone();
    let mut network = of(state, &backend)?;
    network.model = model;
    network.mac = members.get("mac").map(str::to_owned);
    state.used.insert(id.to_owned());
    add(cx, network, &backend)
}

/// `-nic`, and `-net nic` with its other half.
pub fn nic(cx: &mut Context, state: &mut State, option: &str, value: &str) -> Option<Became> {
    let members = Members::parse(value)?;
    match (option, members.driver()?) {
        (_, "none") => {
            cx.machine.networks = Some(Vec::new());
            Became::taken()
        }
        ("net", "nic") => {
            // The halves come in either order.
            match state.half.take().and_then(|half| cx.machine.networks.as_mut()?.get_mut(half)) {
                Some(network) => card(network, &members)?,
                None => state.nic = Some(members),
            }
            Became::taken()
        }
        _ => {
            let mut network = of(state, &members)?;
            let nic = if option == "net" { state.nic.take() } else { Some(members.clone()) };
            if nic.is_none() {
                state.half = Some(cx.machine.networks.as_ref().map_or(0, Vec::len));
            }
            card(&mut network, &nic.unwrap_or_default())?;
            add(cx, network, &members)
        }
    }
}

/// The model and the address of a card.
fn card(network: &mut Network, nic: &Members) -> Option<()> {
    network.model = nic.get("model").map_or(Some(NetworkModel::E1000), model)?;
    network.mac = nic.get("macaddr").or(nic.get("mac")).map(str::to_owned);
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
            "smb" if value.starts_with('/') => state.shared.push(value.into()),
            _ => {}
        }
    }
    Some(network)
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
