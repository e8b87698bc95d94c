//! What of network cards no host could run, and what the host must be asked about for them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Backend, Network, NetworkModel, forward};
use crate::machine::named::Named;
use crate::machine::problems::Problems;
use crate::machine::subject::Subject;

const MAX_NETWORKS: usize = 16;
/// More make no guest faster; each costs a worker of the kernel's.
const MAX_QUEUES: u32 = 8;

impl Subject for Vec<Network> {
    fn check(&self, problems: &mut Problems) {
        cards(self, problems);
    }

    fn name(&self, named: &mut Named) {
        if self.iter().any(|network| network.backend.is_tap()) {
            named.network = true;
            named.files.extend([Backend::TUN, Backend::VHOST].map(PathBuf::from));
        }
        if self.iter().any(|network| network.backend == Backend::Nat) {
            named.programs.extend([Backend::DNSMASQ, Backend::NFT].map(str::to_owned));
        }
        if self.iter().any(|network| matches!(network.backend, Backend::Bridge(_))) {
            named.files.extend(Backend::BRIDGE_HELPERS.map(PathBuf::from));
        }
    }
}

/// Adds what is wrong with the cards.
fn cards(networks: &[Network], problems: &mut Problems) {
    if networks.len() > MAX_NETWORKS {
        problems
            .add(format!("networks[{MAX_NETWORKS}]"), format!("{} network cards are too many", networks.len()))
            .allowed(format!("at most {MAX_NETWORKS}"));
    }
    forward::check_together(networks, problems);
    one_nat(networks, problems);
    let mut macs = BTreeMap::new();
    let mut taps = BTreeMap::new();
    for (i, network) in networks.iter().enumerate() {
        interface(i, &network.backend, problems);
        if let Backend::Tap(name) = &network.backend
            && let Some(first) = taps.insert(name, i)
        {
            let words = format!("{name:?} is already the tap device of `networks[{first}]`");
            problems.add(format!("networks[{i}].backend.Tap"), words);
        }
        queues(i, network, problems);
        forward::check_backend(i, network, problems);
        forward::check_nat(i, network, problems);
        subnet(i, network, problems);
        if let Some(written) = &network.mac {
            let field = format!("networks[{i}].mac");
            match mac(written) {
                Err(why) => {
                    problems
                        .add(field, format!("{written:?} {why}"))
                        .allowed("six pairs of hexadecimal digits, such as \"52:54:00:12:34:56\"");
                }
                Ok(mac) => {
                    if let Some(first) = macs.insert(mac, i) {
                        problems.add(field, format!("{written:?} is already the address of `networks[{first}]`"));
                    }
                }
            }
        }
    }
}

fn interface(i: usize, backend: &Backend, problems: &mut Problems) {
    let (kind, name) = match backend {
        Backend::Bridge(name) => ("Bridge", name),
        Backend::Tap(name) => ("Tap", name),
        Backend::Macvtap(port) => ("Macvtap.interface", &port.interface),
        Backend::User | Backend::Slirp | Backend::Nat | Backend::None => return,
    };
    if !is_interface(name) {
        problems
            .add(format!("networks[{i}].backend.{kind}"), format!("{name:?} cannot be a network interface"))
            .allowed("1 to 15 characters without `/`, `:` and blanks");
    }
}

/// What only the network that the machines share has.
fn subnet(i: usize, network: &Network, problems: &mut Problems) {
    let is_nat = network.backend == Backend::Nat;
    let Some(subnet) = network.subnet else { return };
    let field = format!("networks[{i}].subnet");
    if !is_nat {
        problems
            .add(field, "only the backend `Nat` has a `subnet`")
            .help("write `backend: Nat`, or leave `subnet` out");
    } else if !subnet.host(0).is_private() || !(8..=28).contains(&subnet.prefix()) {
        problems
            .add(field, format!("`subnet` cannot be {subnet}"))
            .allowed("a private network of 16 addresses or more: one in 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16");
    }
}

/// A machine has one card on the network that the machines share.
fn one_nat(networks: &[Network], problems: &mut Problems) {
    let mut nats = networks.iter().enumerate().filter(|(_, network)| network.backend == Backend::Nat);
    if let Some((i, _)) = nats.nth(1) {
        problems
            .add(format!("networks[{i}].backend"), "a machine has one card on the shared network of `Nat`")
            .help("leave one out, or connect it to a bridge: `backend: Bridge(\"br0\")`");
    }
}

fn queues(i: usize, network: &Network, problems: &mut Problems) {
    let Some(queues) = network.queues else { return };
    let field = format!("networks[{i}].queues");
    if !(1..=MAX_QUEUES).contains(&queues) {
        problems.add(field, format!("`queues` cannot be {queues}")).allowed(format!("1 to {MAX_QUEUES}"));
    } else if queues > 1 && (network.model != NetworkModel::Virtio || !network.backend.is_tap()) {
        problems
            .add(field, "a card of this model or backend has no `queues`")
            .help("`queues` is for the model `Virtio` on a tap device, such as that of `backend: Bridge(\"br0\")`");
    }
}

/// The kernel's rule (`dev_valid_name`), and no `%`, which stands for a number that the kernel chooses.
fn is_interface(name: &str) -> bool {
    let bad = |c: char| c == '/' || c == ':' || c == '%' || c.is_whitespace();
    (1..=15).contains(&name.len()) && name != "." && name != ".." && !name.contains(bad)
}

fn mac(text: &str) -> Result<[u8; 6], &'static str> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()));
        *byte = part.and_then(|part| u8::from_str_radix(part, 16).ok()).ok_or("is not a MAC address")?;
    }
    match (parts.next(), mac) {
        (Some(_), _) => Err("is not a MAC address"),
        (None, [0, 0, 0, 0, 0, 0]) => Err("is no card's address"),
        (None, [first, ..]) if first & 1 == 1 => Err("is a multicast address, no card's own: its first byte is odd"),
        _ => Ok(mac),
    }
}
