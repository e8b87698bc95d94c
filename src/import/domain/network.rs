//! Network cards.

use crate::import::account::{ALL, Verdict};
use crate::import::context::Context;
use crate::import::xml::{Node, child, children, parse};
use crate::machine::{Backend, Link, MacvtapMode, MacvtapPort, Network, NetworkModel, PciDevice};

/// The bridge of libvirt's network `default`.
const LIBVIRTS: &str = "virbr0";

/// Reads all cards.
pub fn read(cx: &mut Context, devices: Node) {
    let mut networks = Vec::new();
    for node in children(devices, "interface") {
        if let Some(network) = one(cx, node, &networks) {
            networks.push(network);
        }
    }
    if networks.is_empty() {
        cx.account.remark(Verdict::TakenOver, "the domain has no network card, so the machine has none");
    }
    cx.machine.networks = Some(networks);
}

fn one(cx: &mut Context, node: Node, before: &[Network]) -> Option<Network> {
    let source = child(node, "source");
    let attribute = |name: &str| source.and_then(|source| source.attribute(name));
    let kind = node.attribute("type").unwrap_or_default();
    let mut network = Network::default();
    match (kind, source) {
        ("network", Some(source)) => {
            let name = attribute("network").unwrap_or_default();
            network.backend = of_libvirt(cx, source, name, before);
            cx.left(source, &["portid", "bridge", "dev", "mode"], "a number of libvirt's while the domain ran");
            cx.left(source, &["portgroup"], "the bridge has one kind of port");
        }
        ("bridge", Some(source)) => {
            let name = attribute("bridge").unwrap_or_default();
            network.backend = bridge(name, before);
            let words = match network.backend {
                Backend::Nat => "libvirt's own network if it is up, else one like it that vfio-run makes for the run",
                _ => "vfio-run makes a tap device on the bridge for the run",
            };
            cx.taken(source, &["bridge"], words);
        }
        ("direct", Some(source)) => {
            let mode = match attribute("mode") {
                Some("vepa") | None => MacvtapMode::Vepa,
                Some("private") => MacvtapMode::Private,
                Some("passthrough") => MacvtapMode::Passthru,
                Some(_) => MacvtapMode::Bridge,
            };
            network.backend =
                Backend::Macvtap(MacvtapPort { interface: attribute("dev").unwrap_or_default().to_owned(), mode });
            cx.taken(
                source,
                &["dev", "mode"],
                "the host itself and the guest cannot reach one another by macvtap; a bridge can do that",
            );
        }
        ("user", _) => {
            network.backend = Backend::User;
            if let Some(backend) = child(node, "backend") {
                cx.done(backend, &[ALL], "passt if it is installed, else QEMU's own");
            }
            if let Some(source) = source {
                cx.left(source, &["dev"], "the host's routes say which way the guest's packets go");
            }
            children(node, "ip").for_each(|ip| cx.left(ip, &[ALL], "`User` gives the guest its address"));
            children(node, "portForward").for_each(|ports| forward(cx, ports, &mut network));
        }
        ("ethernet", _) => {
            let Some(name) = child(node, "target").and_then(|target| target.attribute("dev")) else {
                cx.needs(node, &[ALL], "name the tap device: `networks: [(backend: Tap(\"tap0\"))]`");
                return None;
            };
            network.backend = Backend::Tap(name.to_owned());
            if let Some(target) = child(node, "target") {
                cx.take(target, &["dev", "managed"]);
            }
            for script in children(node, "script").chain(children(node, "downscript")) {
                cx.left(
                    script,
                    &["path"],
                    "the tap device must be there when the machine starts; a hook of `before` can make it",
                );
            }
        }
        ("hostdev", Some(source)) => {
            let address = child(source, "address").and_then(super::hostdev::address);
            if let Some(address) = address {
                cx.machine.pci.push(PciDevice::at(address.into()));
                for (name, what) in [("mac", "MAC address"), ("vlan", "VLAN")] {
                    let words = format!(
                        "the host sets a virtual function's {what}: `hooks: (before: [[\"/usr/sbin/ip\", \"link\", \"set\", CARD, \"vf\", \
                         NUMBER, …]])`"
                    );
                    children(node, name).for_each(|below| cx.needs(below, &[ALL], &words));
                }
                cx.taken(node, &[ALL], "the card itself is passed through");
                return None;
            }
            return None;
        }
        _ => {
            cx.needs(node, &[ALL], "`networks` connects a card to `User`, `Nat`, `Bridge(\"br0\")`, `Tap(\"tap0\")` or `Macvtap(interface: \"eth0\")`");
            return None;
        }
    }
    cx.take(node, &["type", "managed", "trustGuestRxFilters"]);
    card(cx, node, &mut network);
    Some(network)
}

/// What a bridge's name stands for. One card of a machine can be on the shared network.
fn bridge(name: &str, before: &[Network]) -> Backend {
    let first = !before.iter().any(|network| network.backend == Backend::Nat);
    if name == LIBVIRTS && first { Backend::Nat } else { Backend::Bridge(name.to_owned()) }
}

fn of_libvirt(cx: &mut Context, source: Node, name: &str, before: &[Network]) -> Backend {
    if name == "default" {
        cx.taken(
            source,
            &["network"],
            "libvirt's own network if it is up, else one like it that vfio-run makes for the run",
        );
        return bridge(LIBVIRTS, before);
    }
    if let Some(bridge) = source.attribute("bridge").map(str::to_owned).or_else(|| bridge_of(cx, name)) {
        cx.take(source, &["bridge"]);
        cx.taken(
            source,
            &["network"],
            format!("libvirt's network {name:?} has the bridge {bridge}; libvirt must have started it"),
        );
        return Backend::Bridge(bridge);
    }
    if let Some(backend) = by_name(name, before) {
        let words = format!(
            "libvirt's network {name:?} is said by its name; `virsh net-dumpxml {name}` shows whether it is another kind"
        );
        cx.comment(format!("networks[{}]", before.len()), format!("It was libvirt's network {name:?}."));
        cx.taken(source, &["network"], words);
        return backend;
    }
    let words = format!(
        "`virsh net-dumpxml {name}` shows the network's bridge: write `backend: Bridge(\"virbr1\")` with its name, and have libvirt start \
         it; until then the card is not connected"
    );
    cx.needs(source, &["network"], words);
    Backend::None
}

/// What a network of libvirt's is that this host does not know, if its name says it: that of a bridge, as people call the
/// network that leads to one, or NAT's.
fn by_name(name: &str, before: &[Network]) -> Option<Backend> {
    let numbered = |start: &str| name.strip_prefix(start).is_some_and(|rest| rest.parse::<u8>().is_ok());
    if ["br", "virbr", "vmbr", "bridge"].into_iter().any(numbered) {
        return Some(bridge(name, before));
    }
    match name.to_ascii_lowercase().as_str() {
        "bridge" | "bridged" | "host-bridge" | "hostbridge" | "bridged-network" | "bridge-network" | "host-network" => {
            Some(Backend::Bridge("br0".to_owned()))
        }
        "nat" | "nat-network" | "default-nat" => Some(bridge(LIBVIRTS, before)),
        _ => None,
    }
}

/// Ports of the host's that lead to the guest (`portForward`).
fn forward(cx: &mut Context, node: Node, network: &mut Network) {
    let protocol = node.attribute("proto").unwrap_or("tcp");
    let address = match node.attribute("address") {
        Some(address) if address.contains(':') => format!("[{address}]:"),
        Some(address) => format!("{address}:"),
        None => String::new(),
    };
    for range in children(node, "range") {
        let (start, end) = (range.attribute("start").unwrap_or_default(), range.attribute("end"));
        let to = range.attribute("to").unwrap_or(start);
        let last = |first: &str| -> Option<String> {
            let count = end?.parse::<u16>().ok()?.checked_sub(start.parse().ok()?)?;
            Some(format!("{first}-{}", first.parse::<u16>().ok()?.checked_add(count)?))
        };
        let of = |first: &str| last(first).unwrap_or_else(|| first.to_owned());
        let written = format!("{protocol} {address}{}:{}", of(start), of(to));
        if range.attribute("exclude") == Some("yes") {
            cx.needs(range, &[ALL], "write the ports without this one as `forward: [\"8080:80\"]`");
        } else if let Ok(ports) = written.parse() {
            network.forward.push(ports);
            cx.take(range, &[ALL]);
        }
    }
    cx.needs(node, &["dev"], "`forward` opens ports by address, not by network card");
    if !network.forward.is_empty() {
        cx.take(node, &["proto", "address"]);
    }
}

/// The bridge of a network of libvirt's, by its definition on this host.
fn bridge_of(cx: &Context, name: &str) -> Option<String> {
    let root = cx.root.filter(|_| !name.is_empty() && !name.contains('/'))?;
    let text = root.text_up_to(format!("/etc/libvirt/qemu/networks/{name}.xml"), 64 << 10)?;
    let document = parse(&text).ok()?;
    let bridge = child(document.root_element(), "bridge")?.attribute("name")?;
    (1..=15).contains(&bridge.len()).then(|| bridge.to_owned())
}

/// Six pairs of digits, of which the first is even: no group's address.
fn is_mac(text: &str) -> bool {
    let pairs: Vec<Option<u8>> = text
        .split(':')
        .map(|pair| {
            u8::from_str_radix(pair, 16).ok().filter(|_| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit()))
        })
        .collect();
    let all_zero = pairs.iter().all(|pair| *pair == Some(0));
    pairs.len() == 6 && pairs.iter().all(Option::is_some) && !all_zero && pairs[0].is_some_and(|first| first & 1 == 0)
}

fn card(cx: &mut Context, node: Node, network: &mut Network) {
    if let Some(mac) = child(node, "mac") {
        let address = mac.attribute("address").unwrap_or_default();
        if is_mac(address) {
            network.mac = Some(address.to_owned());
            cx.take(mac, &["address"]);
        } else {
            cx.improved(
                mac,
                &["address"],
                "this is no card's MAC address, so the card has one that follows from the machine's UUID",
            );
        }
        cx.left(mac, &["type", "check"], "VMware's rules do not hold here");
    }
    if let Some(model) = child(node, "model") {
        let kind = model.attribute("type").unwrap_or_default();
        let known = match kind {
            "virtio" | "virtio-net-pci" | "virtio-non-transitional" | "virtio-transitional" => {
                Some(NetworkModel::Virtio)
            }
            "e1000e" => Some(NetworkModel::E1000e),
            "e1000" | "e1000-82540em" | "e1000-82544gc" | "e1000-82545em" => Some(NetworkModel::E1000),
            "rtl8139" => Some(NetworkModel::Rtl8139),
            "vmxnet3" => Some(NetworkModel::Vmxnet3),
            _ => None,
        };
        match known {
            Some(known @ (NetworkModel::Rtl8139 | NetworkModel::E1000)) => {
                network.model = known;
                let words = format!("{kind} is a slow card; with virtio's driver in the guest, leave `model` out");
                cx.taken(model, &["type"], words);
            }
            Some(known) => {
                network.model = known;
                cx.take(model, &["type"]);
            }
            None => cx.needs(
                model,
                &["type"],
                "the cards are `Virtio`, `E1000e`, `E1000`, `Rtl8139` and `Vmxnet3`; the guest gets `Virtio`",
            ),
        }
    } else {
        network.model = NetworkModel::Rtl8139;
        cx.account.remark(
            Verdict::TakenOver,
            "a card without `model` is an rtl8139, which is slow; with virtio's driver in the guest, leave `model` out",
        );
    }
    driver(cx, node, network);
    if let Some(link) = child(node, "link") {
        if link.attribute("state") == Some("down") {
            network.link = Link::Down;
        }
        cx.take(link, &["state"]);
    }
    if let Some(target) = child(node, "target") {
        cx.left(target, &["dev", "managed"], "the tap device has a name for the run");
    }
    if let Some(boot) = child(node, "boot") {
        cx.left(boot, &[ALL], "no machine boots from the network here");
    }
    if let Some(rom) = child(node, "rom") {
        cx.left(rom, &[ALL], "no machine boots from the network here");
    }
    for (name, words) in [
        ("coalesce", "the kernel's own ways of serving a card"),
        ("tune", "the kernel's own ways of serving a card"),
        ("acpi", "the guest finds its devices by itself"),
        ("teaming", "the guest joins its cards by itself"),
        ("guest", "names in the guest are the guest's"),
    ] {
        children(node, name).for_each(|below| cx.left(below, &[ALL], words));
    }
    children(node, "backend").for_each(|below| cx.done(below, &[ALL], "vhost-net serves a card on a tap device"));
    for mtu in children(node, "mtu").filter(|mtu| mtu.attribute("size") == Some("1500")) {
        cx.done(mtu, &["size"], "the guest's card has 1500");
    }
    for port in children(node, "port").filter(|port| port.attribute("isolated") != Some("yes")) {
        cx.done(port, &[ALL], "the guest reaches the others on its bridge");
    }
    for (name, words) in [
        (
            "port",
            "the guest reaches the others on its bridge; `bridge link set dev TAP isolated on` in a hook of `running` keeps it from them",
        ),
        ("bandwidth", "the network has no limits here; `tc` in a hook of `running` sets some"),
        ("filterref", "libvirt's filters do not hold here; write rules of your own for the bridge (nftables)"),
        ("vlan", "give the bridge the VLAN, or make a tap device in it: `backend: Tap(\"tap0\")`"),
        ("virtualport", "the bridge is the kernel's; for Open vSwitch make a tap device: `backend: Tap(\"tap0\")`"),
        ("mtu", "set the bridge's MTU; the guest's card has 1500"),
        ("ip", "`User` gives the guest its address"),
        ("portForward", "write the ports as `forward: [\"8080:80\"]`"),
    ] {
        children(node, name).for_each(|below| cx.needs(below, &[ALL], words));
    }
}

fn driver(cx: &mut Context, node: Node, network: &mut Network) {
    let Some(driver) = child(node, "driver") else { return };
    cx.done(driver, &["name"], "vhost-net serves a card on a tap device");
    if let Some(queues) = driver.attribute("queues").and_then(|queues| queues.parse::<u32>().ok()) {
        if network.backend.is_tap() && network.model == NetworkModel::Virtio && (1..=8).contains(&queues) {
            network.queues = Some(queues);
            cx.take(driver, &["queues"]);
        } else {
            cx.left(driver, &["queues"], "as many queues as vCPUs, at most 4, if the card can have several");
        }
    }
    cx.done(driver, &[ALL], "virtio as QEMU has it");
}
