//! Networks that need no privileges: passt beside QEMU, joined by a socket pair; or slirp, which is QEMU's own.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::card::{Card, Connected};
use super::ports;
use crate::host::{Passt, UserNetwork};
use crate::machine::{Backend, NetworkModel};
use crate::plan::Severity::{Hard, Soft};
use crate::plan::draft::{self, Draft};
use crate::plan::{Helper, HelperAccount, HelperDescriptor, HelperEnd, Inherited};
use crate::qemu::Role;
use crate::units::Origin;

/// Number of the socket pair's end in passt.
const HELPER_FD: i32 = 3;
/// Where the guest finds a name server of the host's that is for the host alone; link-local, so it is nobody else's.
const NAME_SERVER: &str = "169.254.1.1";
/// What passt needs to have: the socket pair, and that the guest does not reach what the host listens on for itself.
const NEEDED: [&str; 2] = ["--fd", "--no-map-gw"];
/// There since passt tells the guest by DHCP of a name server that it stands for (seen: 2025-05 does, 2023-03 does not).
const TELLS_NAME_SERVER: &str = "--dns-host";

/// Connects the card.
pub(super) fn connect(draft: &mut Draft, card: &Card, origin: &Origin) -> Connected {
    let passt = match card.network.backend {
        Backend::User => decide(draft, card),
        _ => None,
    };
    listen(draft, card, passt.is_some());
    match passt {
        Some(passt) => join(draft, card, &passt, origin),
        None => slirp(draft, card),
    }
}

/// Why passt cannot serve, and what to do about it.
struct Lacks {
    detail: String,
    remedy: &'static str,
}

/// passt, if it serves here; else says why it does not.
fn decide(draft: &mut Draft, card: &Card) -> Option<Passt> {
    let key = card.key("passt");
    // A host that was captured without it: QEMU's own serves everywhere.
    let facts = draft.host.user_network.clone()?;
    match lacks(draft, &facts) {
        Ok(passt) => {
            draft.yes(&key, Soft, format!("{} connects the guest", passt.path.display()));
            Some(passt.clone())
        }
        Err(Lacks { detail, remedy }) => {
            let detail = format!(
                "{detail}; so QEMU connects the guest itself (slirp), which is slower, and lets the guest reach what the host \
                 listens on for itself alone"
            );
            let remedy = format!("{remedy}, or write `backend: Slirp`");
            match draft.machine.networks {
                Some(_) => {
                    draft.no(&key, Soft, detail, &remedy);
                    draft.about(&card.field("backend"));
                }
                // Nobody asked for it, and it works.
                None => {
                    draft.yes(&key, Soft, detail);
                    draft.remedy(&remedy);
                }
            }
            None
        }
    }
}

fn lacks<'f>(draft: &Draft, facts: &'f UserNetwork) -> Result<&'f Passt, Lacks> {
    let lacks = |detail: String, remedy| Err(Lacks { detail, remedy });
    let Some(passt) = &facts.passt else {
        return lacks("passt is not installed".to_owned(), "install it (Debian, Fedora, Arch: package `passt`)");
    };
    let shown = passt.path.display();
    if passt.user_namespaces == Some(false) {
        return lacks(
            format!("{shown} locks itself up in a user namespace, and the kernel lets no user make one"),
            "allow it (`sysctl user.max_user_namespaces`, on Debian also `kernel.unprivileged_userns_clone`)",
        );
    }
    // One that could not be asked may well have them; it says so itself before anything is taken from the host.
    if let Some(missing) = NEEDED.iter().find(|name| !passt.options.is_empty() && !passt.options.contains(**name)) {
        return lacks(format!("{shown} is too old: it has no option {missing}"), "install a newer one");
    }
    if kind(draft).is_none() {
        return lacks(format!("{} cannot be joined with passt", draft.qemu.binary.display()), "use QEMU 7.2 or newer");
    }
    if facts.default_route == Some(false) {
        return lacks(
            "the host has no default route, without which passt does not start".to_owned(),
            "connect the host",
        );
    }
    if only_for_the_host(&facts.name_servers) && !passt.options.contains(TELLS_NAME_SERVER) {
        return lacks(
            format!("{shown} is too old to lead the guest to the name server that only the host itself reaches"),
            "install a newer one",
        );
    }
    Ok(passt)
}

/// Whether all of the host's name servers are on its loopback interface, such as that of systemd-resolved.
fn only_for_the_host(servers: &[IpAddr]) -> bool {
    !servers.is_empty() && servers.iter().all(IpAddr::is_loopback)
}

/// How QEMU is joined with it: by frames over a connected socket, in either of its words for that.
fn kind(draft: &Draft) -> Option<&'static str> {
    ["stream", "socket"].into_iter().find(|kind| draft.qemu.netdevs.contains(*kind))
}

/// Adds passt, and QEMU's end.
fn join(draft: &mut Draft, card: &Card, passt: &Passt, origin: &Origin) -> Connected {
    let name = format!("{}-{}", Passt::PROGRAM, card.id);
    let mut argv = vec![draft::text(&passt.path)];
    let fd = HELPER_FD.to_string();
    // It ends with its connection, so nobody must end it.
    argv.extend(["--foreground", "--quiet", "--fd", &fd, "--no-map-gw"].map(str::to_owned));
    let servers = draft.host.user_network.as_ref().map(|facts| facts.name_servers.as_slice()).unwrap_or_default();
    if only_for_the_host(servers) {
        argv.extend(["--dns-forward", NAME_SERVER].map(str::to_owned));
    }
    if card.network.model != NetworkModel::Virtio {
        // It offers 65520, which no emulated card takes.
        argv.extend(["--mtu", "1500"].map(str::to_owned));
    }
    for forward in &card.network.forward {
        let address = forward.address.map_or_else(String::new, |address| format!("{address}/"));
        let range = |first: u16, last: u16| if first == last { first.to_string() } else { format!("{first}-{last}") };
        let (host, guest) = (range(forward.host, forward.host_last()), range(forward.guest, forward.guest_last()));
        argv.extend([format!("--{}-ports", forward.protocol.name()), format!("{address}{host}:{guest}")]);
    }
    draft.helpers.push(Helper {
        name: name.clone(),
        argv,
        inherits: vec![HelperDescriptor { fd: HELPER_FD, what: HelperEnd::Connected }],
        account: HelperAccount::Qemu,
        origin: origin.clone(),
    });
    let fd = draft.inherit(Inherited::Helper(name)).to_string();
    let kind = kind(draft).unwrap_or("stream");
    let mut props = Map::new();
    if kind == "socket" {
        props.insert("fd".to_owned(), fd.into());
    } else {
        props.insert("server".to_owned(), false.into());
        props.insert("addr".to_owned(), json!({ "type": "fd", "str": fd }));
    }
    // The card's own size for packets is that of passt's offer by DHCP, not its `host_mtu`.
    Connected { kind, props, role: Role::Helper, queues: 1, mtu: None }
}

fn slirp(draft: &mut Draft, card: &Card) -> Connected {
    let rules: Vec<Value> = card
        .network
        .forward
        .iter()
        .flat_map(|forward| forward.ports().map(move |ports| (forward, ports)))
        .map(|(forward, (host, guest))| {
            let address = forward.address.map_or_else(String::new, |address| address.to_string());
            json!({ "str": format!("{}:{address}:{host}-:{guest}", forward.protocol.name()) })
        })
        .collect();
    if let Some(at) = card.network.forward.iter().position(|forward| forward.address.is_some_and(|a| a.is_ipv6())) {
        let detail = format!("slirp listens on no address of IPv6: {}", card.network.forward[at]);
        draft.no(&card.key("forward.ipv6"), Hard, detail, "name an address of IPv4, or install `passt`");
        draft.about(&card.field(&format!("forward[{at}]")));
    }
    let mut props = Map::new();
    let mut role = Role::Plain;
    if !rules.is_empty() {
        props.insert("hostfwd".to_owned(), rules.into());
        // The trial would listen on the ports: who meets it there talks to a guest that is none.
        role = Role::Helper;
    }
    Connected { kind: "user", props, role, queues: 1, mtu: None }
}

/// Whether the ports of the host can be had.
fn listen(draft: &mut Draft, card: &Card, by_passt: bool) {
    let Some(facts) = draft.host.user_network.clone() else { return };
    let uid = draft.account.as_ref().map_or(draft.host.process.uid, |account| account.uid);
    let lowest = facts.first_port.unwrap_or(0);
    if let Some((at, forward)) =
        card.network.forward.iter().enumerate().find(|(_, forward)| forward.host < lowest && (by_passt || uid != 0))
    {
        let detail = format!("port {} of the host is below {lowest}, where only root may listen", forward.host);
        let remedy = format!(
            "use a port from {lowest} on, or let users listen there: `sysctl net.ipv4.ip_unprivileged_port_start={}`",
            forward.host
        );
        draft.no(&card.key("forward.low"), Hard, detail, &remedy);
        draft.about(&card.field(&format!("forward[{at}]")));
    }
    ports::taken(draft, card, |_| true);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::host::{Host, Listener};
    use crate::plan::sample::{Shape, host, plan};
    use crate::plan::{Plan, Verdict};
    use crate::units::Protocol;

    fn facts() -> UserNetwork {
        let options = NEEDED.into_iter().chain([TELLS_NAME_SERVER]).map(str::to_owned).collect();
        UserNetwork {
            passt: Some(Passt { path: "/usr/bin/passt".into(), options, user_namespaces: Some(true) }),
            name_servers: vec!["192.0.2.53".parse().unwrap()],
            default_route: Some(true),
            first_port: Some(1024),
            listening: vec![],
            of_itself: false,
        }
    }

    fn on(facts: UserNetwork, networks: &str) -> Plan {
        let host = Host { user_network: Some(facts), ..host(Shape::simple(4, 1)) };
        plan(&format!("(guest: Other, memory: (size: \"1 GiB\"), {networks})"), &host)
    }

    fn passt(plan: &Plan) -> Option<String> {
        plan.helpers.iter().find(|helper| helper.name == "passt-net0").map(|helper| helper.argv.join(" "))
    }

    fn netdev(plan: &Plan) -> String {
        let argv = plan.command.argv();
        argv[argv.iter().position(|word| word == "-netdev").unwrap() + 1].clone()
    }

    fn found(plan: &Plan, key: &str) -> Option<Verdict> {
        plan.findings.iter().find(|finding| finding.key == key).map(|finding| finding.ok)
    }

    #[test]
    fn passt_connects_the_guest_by_a_socket_pair_and_keeps_it_from_the_hosts_own_programs() {
        let plan = on(facts(), "networks: [(forward: [\"8080:80\", \"udp 127.0.0.1:5000-5001:6000-6001\"])]");
        let line = "/usr/bin/passt --foreground --quiet --fd 3 --no-map-gw --tcp-ports 8080:80 \
                    --udp-ports 127.0.0.1/5000-5001:6000-6001";
        assert_eq!(passt(&plan).as_deref(), Some(line));
        let fd = plan.descriptors.iter().find(|d| d.what == Inherited::Helper("passt-net0".to_owned())).unwrap().fd;
        let joined = format!(r#"{{"type":"stream","id":"net0","server":false,"addr":{{"type":"fd","str":"{fd}"}}}}"#);
        assert_eq!(netdev(&plan), joined);
        assert_eq!(found(&plan, "net0.passt"), Some(Verdict::Yes));
        let emulated = passt(&on(facts(), "networks: [(model: E1000e)]")).unwrap();
        assert!(emulated.ends_with("--mtu 1500"), "{emulated}");
    }

    #[test]
    fn the_name_server_that_only_the_host_reaches_is_led_to() {
        let local = || UserNetwork { name_servers: vec!["127.0.0.53".parse().unwrap()], ..facts() };
        assert!(passt(&on(local(), "")).unwrap().ends_with("--no-map-gw --dns-forward 169.254.1.1"));
        let mut old = local();
        old.passt.as_mut().unwrap().options.remove(TELLS_NAME_SERVER);
        assert_eq!(passt(&on(old, "")), None);
    }

    #[test]
    fn where_passt_does_not_serve_qemu_does_and_that_is_said() {
        let without = |change: fn(&mut UserNetwork)| {
            let mut facts = facts();
            change(&mut facts);
            facts
        };
        for facts in [
            without(|facts| facts.passt = None),
            without(|facts| facts.passt.as_mut().unwrap().user_namespaces = Some(false)),
            without(|facts| facts.passt.as_mut().unwrap().options = BTreeSet::from(["--fd".to_owned()])),
            without(|facts| facts.default_route = Some(false)),
        ] {
            let plan = on(facts.clone(), "networks: [(forward: [\"127.0.0.1:2222:22\", \"udp 7000-7001\"])]");
            assert_eq!((passt(&plan), found(&plan, "net0.passt")), (None, Some(Verdict::No)), "{facts:?}");
            let rules = r#"[{"str":"tcp:127.0.0.1:2222-:22"},{"str":"udp::7000-:7000"},{"str":"udp::7001-:7001"}]"#;
            assert_eq!(netdev(&plan), format!(r#"{{"type":"user","id":"net0","hostfwd":{rules}}}"#));
            assert!(!plan.findings.iter().any(|finding| finding.blocks()), "{facts:?}");
            assert_eq!(found(&on(facts, ""), "net0.passt"), Some(Verdict::Yes), "not asked for, so no warning");
        }
        let chosen = on(facts(), "networks: [(backend: Slirp)]");
        assert_eq!((netdev(&chosen).as_str(), found(&chosen, "net0.passt")), (r#"{"type":"user","id":"net0"}"#, None));
    }

    #[test]
    fn ports_that_cannot_be_had_are_named_before_anything_is_done() {
        let listener = Listener {
            protocol: Protocol::Tcp,
            address: "127.0.0.1:8080".parse().unwrap(),
            uid: 1000,
            holder: None,
            machine: Some("other".to_owned()),
        };
        let taken = UserNetwork { listening: vec![listener], ..facts() };
        for (facts, forward, key) in [
            (facts(), "tcp 80", Some("net0.forward.low")),
            (facts(), "8080:80", None),
            (taken.clone(), "8079-8081", Some("net0.forward.taken")),
            (taken.clone(), "udp 8080", None),
            (taken, "192.0.2.1:8080:80", None),
            (UserNetwork { passt: None, ..facts() }, "[::1]:8080:80", Some("net0.forward.ipv6")),
        ] {
            let plan = on(facts, &format!("networks: [(forward: [{forward:?}])]"));
            let blocking: Vec<&str> =
                plan.findings.iter().filter(|finding| finding.blocks()).map(|finding| finding.key.as_str()).collect();
            assert_eq!(blocking, key.into_iter().collect::<Vec<_>>(), "{forward}");
        }
    }
}
