//! Ports of the host that lead to the guest.

use std::net::IpAddr;

use super::{Backend, Network};
use crate::machine::problems::Problems;

/// A line of QEMU's or of a filter for each, in the worst case.
const MAX_PORTS: u32 = 1024;

/// Refuses forwards through what has none.
pub(super) fn check_backend(i: usize, network: &Network, problems: &mut Problems) {
    if !network.forward.is_empty() && !matches!(network.backend, Backend::User | Backend::Slirp | Backend::Nat) {
        problems
            .add(format!("networks[{i}].forward"), "a network of this `backend` has no `forward`")
            .allowed("`forward` with `backend: User`, `Slirp` or `Nat`")
            .help("on a bridge or tap the guest has an address of its own, at which others reach all of its ports");
    }
}

/// Refuses addresses of the host at which the shared network leads nobody to the guest: packets to them do not come in by a
/// card.
pub(super) fn check_nat(i: usize, network: &Network, problems: &mut Problems) {
    let forwards = network.forward.iter().enumerate().filter(|_| network.backend == Backend::Nat);
    for (j, forward) in forwards {
        let why = match forward.address {
            Some(IpAddr::V6(_)) => "the shared network of `Nat` has no IPv6",
            Some(IpAddr::V4(address)) if address.is_loopback() => {
                "no port of the host's loopback address leads into the shared network of `Nat`"
            }
            _ => continue,
        };
        problems
            .add(format!("networks[{i}].forward[{j}]"), why)
            .allowed("a port alone, or one of an IPv4 address at which others reach the host")
            .help("the host itself reaches the guest at the guest's own address; or write `backend: User`");
    }
}

/// Refuses ports that lead to two places, and more than are good for anything.
pub(super) fn check_together(networks: &[Network], problems: &mut Problems) {
    let all = || {
        let cards = networks.iter().enumerate();
        cards.flat_map(|(i, network)| network.forward.iter().enumerate().map(move |(j, forward)| ((i, j), forward)))
    };
    let mut ports = 0;
    for (index, ((i, j), forward)) in all().enumerate() {
        let field = format!("networks[{i}].forward[{j}]");
        let before = all().take(index).find_map(|((i, j), other)| {
            let port = other.meets(forward.protocol, forward.address, forward.host, forward.host_last())?;
            Some((port, format!("networks[{i}].forward[{j}]")))
        });
        if let Some((port, first)) = before {
            problems
                .add(&field, format!("port {port} of the host already leads to the guest by `{first}`"))
                .allowed("each port of an address once for TCP and once for UDP");
        }
        ports += u32::from(forward.count);
        if ports > MAX_PORTS && ports - u32::from(forward.count) <= MAX_PORTS {
            problems
                .add(&field, format!("{ports} ports are too many"))
                .allowed(format!("at most {MAX_PORTS}"))
                .help("a guest with this many has its place on a bridge: `backend: Bridge(\"br0\")`");
        }
    }
}
