use std::net::SocketAddr;

use crate::change::{Change, Macvtap, MacvtapMode, Nat};
use crate::host::{
    FileFact, FileKind, Host, Interface, InterfaceKind, Listener, Network, Route, TunFlags, UserNetwork,
};
use crate::machine::Backend;
use crate::plan::sample::{Shape, host, plan};
use crate::plan::{Inherited, Plan, Verdict};
use crate::units::Protocol;

/// A tap device of one queue, and one of several.
const TAP: u32 = 0x5002;
const QUEUES: u32 = 0x5102;

/// A host of this user with a bridge that is up, one that is down, two tap devices, a tun device, and all device nodes.
fn desk(us: u32) -> Host {
    let mut host = host(Shape::simple(8, 1));
    (host.process.uid, host.process.gid) = (us, us);
    let interface = |index, kind, up| Interface { index, kind, up, address: None, mtu: Some(1500), master: None };
    let tun = |flags, owner| InterfaceKind::Tun { flags: TunFlags(flags), owner, group: None };
    let mut eth0 = interface(2, InterfaceKind::Ethernet, true);
    eth0.master = Some("br0".to_owned());
    let interfaces = [
        ("eth0", eth0),
        ("br0", Interface { mtu: Some(9000), ..interface(3, InterfaceKind::Bridge, true) }),
        ("br-old", interface(4, InterfaceKind::Bridge, false)),
        (
            "eth1",
            Interface { address: Some("52:54:00:00:0e:01".to_owned()), ..interface(9, InterfaceKind::Ethernet, true) },
        ),
        ("tap0", interface(5, tun(TAP, Some(1000)), true)),
        ("tap1", interface(6, tun(QUEUES, None), false)),
        ("tun0", interface(7, tun(0x1001, None), true)),
        ("wlan0", interface(8, InterfaceKind::Wireless, true)),
    ];
    let route =
        |subnet: &str, interface: &str| Route { subnet: subnet.parse().unwrap(), interface: interface.to_owned() };
    let routes = vec![route("0.0.0.0/0", "br0"), route("192.168.177.0/25", "br0")];
    host.network = Some(Network { interfaces: interfaces.map(|(name, it)| (name.to_owned(), it)).into(), routes });
    for program in [Backend::DNSMASQ, Backend::NFT] {
        host.programs.insert(program.to_owned(), format!("/usr/sbin/{program}").into());
    }
    let node = |mode| FileFact { kind: Some(FileKind::Character), gid: 106, mode, ..FileFact::default() };
    host.files.insert(Backend::TUN.into(), node(0o666));
    host.files.insert(Backend::VHOST.into(), node(0o660));
    let helper = FileFact { kind: Some(FileKind::File), mode: 0o4755, ..FileFact::default() };
    host.files.insert(Backend::BRIDGE_HELPERS[0].into(), helper);
    host
}

fn on(host: &Host, network: &str) -> Plan {
    plan(&format!("(guest: Other, memory: (size: \"1 GiB\"), cpu: (vcpus: 2), networks: [({network})])"), host)
}

fn option(plan: &Plan, name: &str, part: &str) -> Option<String> {
    let mut written = plan.command.options.iter().filter(|o| o.name == name).filter_map(|o| o.value.written());
    written.find(|value| value.contains(part))
}

/// The findings that are not as they should be, as `key: detail > remedy`.
fn told(plan: &Plan) -> Vec<String> {
    let wrong = plan.findings.iter().filter(|finding| finding.key.starts_with("net") && finding.ok != Verdict::Yes);
    let told = wrong.map(|f| format!("{}: {} > {}", f.key, f.detail, f.remedy.as_deref().unwrap_or_default()));
    told.collect()
}

#[test]
fn root_s_guest_has_a_tap_on_the_bridge_with_a_queue_for_each_vcpu_and_its_sandbox() {
    let plan = on(&desk(0), r#"backend: Bridge("br0"), mac: "52:54:00:00:00:07""#);
    assert_eq!(told(&plan), [""; 0]);
    let netdev = option(&plan, "-netdev", "").unwrap();
    assert_eq!(netdev, r#"{"type":"tap","id":"net0","fds":"6:7","vhost":true,"vhostfds":"8:9"}"#);
    let card = option(&plan, "-device", "virtio-net-pci").unwrap();
    assert!(card.contains(r#""netdev":"net0","mq":true,"vectors":6,"host_mtu":9000,"#), "{card}");
    assert!(option(&plan, "-sandbox", "spawn=deny").is_some());
    let taps: Vec<_> = plan.descriptors.iter().filter(|d| matches!(d.what, Inherited::Tap(_))).collect();
    let [first, second] = taps.as_slice() else { panic!("{taps:?}") };
    assert_eq!(first.what, second.what);
    let Inherited::Tap(tap) = &first.what else { panic!("{first:?}") };
    let port = tap.port.as_ref().unwrap();
    assert_eq!((port.bridge.as_str(), port.address.as_str(), port.mtu), ("br0", "fe:54:00:00:00:07", Some(9000)));
    assert!(tap.multi_queue && tap.name.starts_with("vfio-") && tap.name.len() <= 15, "{tap:?}");
}

#[test]
fn only_virtio_cards_have_queues_and_vhost() {
    for (network, netdev) in [
        (r#"backend: Bridge("br0"), model: E1000e"#, r#"{"type":"tap","id":"net0","fd":"6"}"#),
        (r#"backend: Bridge("br0"), queues: 1"#, r#"{"type":"tap","id":"net0","fd":"6","vhost":true,"vhostfd":"7"}"#),
    ] {
        let plan = on(&desk(0), network);
        assert_eq!(option(&plan, "-netdev", "").as_deref(), Some(netdev), "{network}");
        assert!(option(&plan, "-device", r#""mq""#).is_none(), "{network}");
    }
    // Without vhost one thread of QEMU carries all, unless more is asked for.
    let mut host = desk(0);
    host.files.insert(Backend::VHOST.into(), FileFact::default());
    let plan = on(&host, r#"backend: Bridge("br0")"#);
    assert_eq!(option(&plan, "-netdev", "").as_deref(), Some(r#"{"type":"tap","id":"net0","fd":"6"}"#));
    let words = "net0.vhost: there is no /dev/vhost-net: QEMU carries the packets itself, which is slower > load the module: \
                 `modprobe vhost_net`";
    assert_eq!(told(&plan), [words]);
    let plan = on(&host, r#"backend: Bridge("br0"), queues: 3"#);
    assert_eq!(option(&plan, "-netdev", "").as_deref(), Some(r#"{"type":"tap","id":"net0","fds":"6:7:8"}"#));
}

#[test]
fn other_users_have_qemu_s_bridge_helper_started_outside_of_the_sandbox() {
    let plan = on(&desk(1000), r#"backend: Bridge("br0")"#);
    assert!(option(&plan, "-sandbox", "spawn=deny").is_some());
    assert_eq!(option(&plan, "-netdev", "").as_deref(), Some(r#"{"type":"tap","id":"net0","fd":"6"}"#));
    let helper = |d: &&crate::plan::Descriptor| matches!(d.what, Inherited::BridgeHelper { .. });
    assert_eq!(plan.descriptors.iter().filter(helper).count(), 1);
    let said = told(&plan);
    assert!(said[0].contains("/etc/qemu/bridge.conf must hold `allow br0`"), "{said:?}");
    assert!(said[1].contains("whether you can open /dev/vhost-net depends on your groups"), "{said:?}");
    assert!(!plan.findings.iter().any(|finding| finding.blocks()));

    let mut host = desk(1000);
    host.files.get_mut(std::path::Path::new(Backend::BRIDGE_HELPERS[0])).unwrap().mode = 0o755;
    assert!(told(&on(&host, r#"backend: Bridge("br0")"#))[0].contains("is not setuid root > `chmod u+s"));
    host.files.remove(std::path::Path::new(Backend::BRIDGE_HELPERS[0]));
    let said = told(&on(&host, r#"backend: Bridge("br0"), queues: 2"#));
    assert!(
        said[0].contains("QEMU's bridge helper is not installed > start as root; or let root make a tap"),
        "{said:?}"
    );
    assert!(said[1].starts_with("net0.queues: QEMU's bridge helper makes a tap device with one queue"), "{said:?}");
}

#[test]
fn a_bridge_that_is_none_is_told_with_what_to_write() {
    for (written, words) in [
        ("br1", "net0.bridge: there is no network interface br1 > did you mean `Bridge(\"br0\")`?"),
        ("virbr0", "net0.bridge: there is no network interface virbr0 > name one of this host's bridges: br-old, br0"),
        (
            "eth0",
            "net0.bridge: eth0 is a network interface and no bridge > it is a port of a bridge: write `Bridge(\"br0\")`",
        ),
        (
            "wlan0",
            "net0.bridge: wlan0 is a network interface and no bridge > a wireless card cannot be a port of a bridge: write \
             `backend: User`",
        ),
        ("br-old", "net0.bridge: the bridge br-old is down, so the guest reaches nobody > `ip link set br-old up`"),
    ] {
        assert_eq!(told(&on(&desk(0), &format!("backend: Bridge({written:?})"))), [words]);
    }
    let mut host = desk(0);
    host.network = Some(Network::default());
    let said = told(&on(&host, r#"backend: Bridge("br0")"#));
    assert!(said[0].contains("> make a bridge (`ip link add br0 type bridge`"), "{said:?}");
    host.network = None;
    host.files.clear();
    let keys = ["net0.bridge: vfio-run did not look for br0", "net0.tun: vfio-run did not look for /dev/net/tun"];
    let said = told(&on(&host, r#"backend: Bridge("br0")"#));
    assert!(said.iter().zip(keys).all(|(said, key)| said.starts_with(key)), "{said:?}");
}

#[test]
fn a_tap_device_is_opened_with_the_queues_that_it_has() {
    let netdev = |us, network: &str| option(&on(&desk(us), network), "-netdev", "").unwrap();
    assert_eq!(netdev(1000, r#"backend: Tap("tap0")"#), r#"{"type":"tap","id":"net0","fd":"6"}"#);
    let vhost = r#"{"type":"tap","id":"net0","fds":"6:7","vhost":true,"vhostfds":"8:9"}"#;
    assert_eq!(netdev(0, r#"backend: Tap("tap1")"#), vhost);
    // One queue of a device that has several is opened as such.
    let plan = on(&desk(0), r#"backend: Tap("tap1"), model: E1000e"#);
    assert!(plan.descriptors.iter().any(|d| matches!(&d.what, Inherited::Tap(tap) if tap.multi_queue)));
}

#[test]
fn a_tap_device_that_cannot_be_used_is_told() {
    for (us, written, words) in [
        (
            0,
            "tap7",
            "net0.tap: there is no network interface tap7 > did you mean `Tap(\"tap1\")`? Or make it: `ip tuntap add tap7 mode tap`",
        ),
        (0, "br0", "net0.tap: br0 is a network interface and no tap device > write `Bridge(\"br0\")`"),
        (
            0,
            "tun0",
            "net0.tap: tun0 carries IP packets and no Ethernet frames (`mode tun`) > make it anew: `ip link del tun0`, `ip tuntap add tun0 mode tap`",
        ),
        (0, "tap1", "net0.tap: tap1 is down, so the guest reaches nobody > `ip link set tap1 up`"),
        (
            1001,
            "tap0",
            "net0.tap: tap0 belongs to user 1000, so you cannot open it > start as root, or make it anew: `ip link del tap0`, `ip tuntap add tap0 mode tap user 1001`",
        ),
    ] {
        let said = told(&on(&desk(us), &format!("backend: Tap({written:?})")));
        assert_eq!(said.first().map(String::as_str), Some(words));
    }
    let said = told(&on(&desk(0), r#"backend: Tap("tap0"), queues: 2"#));
    assert!(said[0].starts_with("net0.queues: tap0 was made with one queue"), "{said:?}");
    let mut host = desk(0);
    host.files.insert(Backend::TUN.into(), FileFact::default());
    let said = told(&on(&host, r#"backend: Tap("tap0")"#));
    assert_eq!(said, ["net0.tun: there is no /dev/net/tun > load the module: `modprobe tun`"]);
}

#[test]
fn a_card_whose_cable_is_unplugged_is_named_for_the_monitor() {
    let plan = on(&desk(0), "link: Down, model: Rtl8139");
    assert_eq!(plan.unplugged, ["net0"]);
    assert!(option(&plan, "-device", r#""driver":"rtl8139","id":"net0""#).is_some());
}

#[test]
fn a_macvtap_device_is_a_change_and_has_the_guest_s_address() {
    let plan = on(&desk(0), r#"backend: Macvtap(interface: "eth1", mode: Vepa), mac: "52:54:00:00:00:07""#);
    let [change] = plan.changes.as_slice() else { panic!("{:?}", plan.changes) };
    let Change::Macvtap(Macvtap { name, parent, mode, address }) = &change.change else { panic!("{change:?}") };
    assert_eq!((parent.as_str(), *mode, address.as_str()), ("eth1", MacvtapMode::Vepa, "52:54:00:00:00:07"));
    let queues = plan.descriptors.iter().filter(|d| d.what == Inherited::Macvtap(name.clone())).count();
    assert_eq!(queues, 2);
    assert!(option(&plan, "-netdev", r#""fds":"6:7","vhost":true,"vhostfds":"8:9""#).is_some());
    let words = "net0.macvtap.host: the host and the guest cannot reach one another by eth1, only others can > if they must, add \
                 a second card: `networks: […, (backend: User)]`";
    assert_eq!(told(&plan), [words]);

    let plan = on(&desk(0), r#"backend: Macvtap(interface: "eth1", mode: Passthru)"#);
    assert!(option(&plan, "-device", r#""mac":"52:54:00:00:0e:01""#).is_some());
    let written = r#"backend: Macvtap(interface: "eth1", mode: Passthru), mac: "52:54:00:00:00:07""#;
    assert!(told(&on(&desk(0), written))[0].starts_with("net0.macvtap.mac: in the mode `Passthru` the guest has"));
}

#[test]
fn an_interface_that_takes_no_macvtap_device_is_told() {
    for (us, interface, words) in [
        (0, "eth7", "net0.macvtap: there is no network interface eth7 > did you mean `Macvtap(interface: \"eth1\")`?"),
        (
            0,
            "eth0",
            "net0.macvtap: no macvtap device can be made on eth0: eth0 is a port of br0 > write `backend: Bridge(\"br0\")`",
        ),
        (
            0,
            "wlan0",
            "net0.macvtap.wireless: most access points take one MAC address from wlan0, and refuse that of the guest > write `backend: User`",
        ),
        (
            1000,
            "eth1",
            "net0.macvtap.host: the host and the guest cannot reach one another by eth1, only others can > if they must, add a second card: `networks: […, (backend: User)]`",
        ),
    ] {
        let said = told(&on(&desk(us), &format!("backend: Macvtap(interface: {interface:?})")));
        assert_eq!(said.first().map(String::as_str), Some(words));
        assert!(us == 0 || said[1].starts_with("net0.macvtap.root: only root can make a macvtap device"), "{said:?}");
    }
}

/// The change by which a machine joins the shared network.
fn nat(plan: &Plan) -> &Nat {
    let found = plan.changes.iter().find_map(|planned| match &planned.change {
        Change::Nat(nat) => Some(nat),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("{:?}", plan.changes))
}

#[test]
fn the_shared_network_has_addresses_to_which_the_host_has_no_route() {
    let plan = on(&desk(0), "backend: Nat");
    assert_eq!(told(&plan), [""; 0]);
    let joined = nat(&plan);
    assert_eq!(
        (joined.subnet.to_string(), joined.uplinks.as_slice()),
        ("192.168.178.0/24".to_owned(), &["br0".to_owned()][..])
    );
    assert_eq!(joined.guest, None);
    assert!(plan.descriptors.iter().any(|d| {
        matches!(&d.what, Inherited::Tap(tap) if tap.port.as_ref().is_some_and(|port| port.bridge == Nat::BRIDGE))
    }));

    // The next machine takes it as it is.
    let mut host = desk(0);
    let made = Route { subnet: "10.9.0.0/16".parse().unwrap(), interface: Nat::BRIDGE.to_owned() };
    host.network.as_mut().unwrap().routes.push(made);
    assert_eq!(nat(&on(&host, "backend: Nat")).subnet.to_string(), "10.9.0.0/16");
    let said = told(&on(&host, r#"backend: Nat, subnet: "10.8.0.0/16""#));
    assert!(
        said[0].starts_with("net0.nat.subnet: another machine has made the shared network with 10.9.0.0/16"),
        "{said:?}"
    );
    let said = told(&on(&desk(0), r#"backend: Nat, subnet: "192.168.177.0/24""#));
    let words = "net0.nat.subnet: the host reaches 192.168.177.0/25 by br0, so the guests cannot have 192.168.177.0/24 > write \
                 `subnet: \"192.168.178.0/24\"`, or leave it out";
    assert_eq!(said, [words]);
}

#[test]
fn a_card_to_which_ports_lead_keeps_its_address() {
    let plan = on(&desk(0), r#"backend: Nat, forward: ["2222:22"], mac: "52:54:00:00:00:07""#);
    let guest = nat(&plan).guest.as_ref().unwrap();
    assert_eq!((guest.mac.as_str(), guest.forward.len()), ("52:54:00:00:00:07", 1));
    assert!(nat(&plan).subnet.overlaps(crate::units::Subnet::of(guest.address, 32).unwrap()));
}

#[test]
fn what_the_shared_network_lacks_is_told_and_libvirts_is_joined() {
    let mut host = desk(0);
    host.programs.clear();
    host.network.as_mut().unwrap().routes.clear();
    let said = told(&on(&host, "backend: Nat"));
    let keys: Vec<&str> = said.iter().filter_map(|said| said.split(':').next()).collect();
    assert_eq!(keys, ["net0.nat.uplink", "net0.nat.dnsmasq", "net0.nat.nft"]);
    assert!(said[1].ends_with("> install it (Debian: package `dnsmasq-base`), or write `backend: User`"), "{said:?}");
    assert!(
        told(&on(&desk(1000), "backend: Nat"))[0].starts_with("net0.nat: only root can make a network > start as root")
    );
    let mut host = desk(0);
    let bridge = host.network.as_ref().unwrap().interfaces["br0"].clone();
    let interfaces = &mut host.network.as_mut().unwrap().interfaces;
    interfaces.extend([("virbr0".to_owned(), bridge.clone()), ("docker0".to_owned(), bridge)]);
    let plan = on(&host, "backend: Nat");
    assert!(plan.changes.is_empty() && told(&plan).is_empty(), "{:?}", told(&plan));
    // Ports lead only into a network of ours.
    let said = told(&on(&host, r#"backend: Nat, forward: ["80"]"#));
    assert!(said[0].starts_with("net0.nat.docker: Docker's firewall may drop"), "{said:?}");
}

fn listener(address: &str, port: u16) -> Listener {
    let address = SocketAddr::new(address.parse().unwrap(), port);
    Listener { protocol: Protocol::Tcp, address, uid: 7, holder: None, machine: None }
}

#[test]
fn what_listens_in_the_way_of_the_shared_network_is_told() {
    let on_port = |address: &str, port, network: &str| {
        let socket = listener(address, port);
        let facts = UserNetwork { listening: vec![socket], ..UserNetwork::default() };
        told(&on(&Host { user_network: Some(facts), ..desk(0) }, network)).concat()
    };
    let forward = r#"backend: Nat, forward: ["8080:80"]"#;
    let words = "net0.forward.taken: a program of user 7 listens on tcp port 8080 of the host already > name another port, or \
                 end that program (as root, `ss -lnp sport = :8080` names it)";
    assert_eq!(on_port("0.0.0.0", 8080, forward), words);
    let runs = UserNetwork { listening: vec![listener("0.0.0.0", 8080)], of_itself: true, ..UserNetwork::default() };
    assert!(told(&on(&Host { user_network: Some(runs), ..desk(0) }, forward)).is_empty(), "it is the machine's own");
    // Packets from outside do not come to it.
    assert_eq!(on_port("127.0.0.1", 8080, forward), "");
    let said = on_port("0.0.0.0", 53, "backend: Nat");
    assert!(
        said.starts_with("net0.nat.names: a name server of the host listens on port 53 of all addresses"),
        "{said}"
    );
    assert_eq!(on_port("127.0.0.53", 53, "backend: Nat"), "");
}
