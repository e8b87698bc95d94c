//! Whether QEMU can listen on a TCP port. It tries to only when it starts, after the screen was taken.

use std::net::{IpAddr, SocketAddr};

use crate::host::Listener;
use crate::plan::Severity::Hard;
use crate::plan::draft::Draft;

/// Asks the host. `key` starts the findings' names, `field` is what the port stands in, `what` begins their sentences.
pub(in crate::plan) fn free(draft: &mut Draft, key: &str, field: &str, what: &str, wanted: SocketAddr) {
    let Some(tcp) = &draft.host.tcp else {
        return draft.unknown(
            &format!("{key}.free"),
            Hard,
            format!("only the host itself tells whether {wanted} is free"),
        );
    };
    let (ip, port) = (wanted.ip(), wanted.port());
    let family = |address: &IpAddr| address.is_ipv4() == ip.is_ipv4();
    let of_host = tcp.addresses.as_ref().is_none_or(|all| match ip {
        IpAddr::V4(four) if four.is_loopback() => true,
        _ if ip.is_unspecified() => all.iter().any(family),
        _ => all.contains(&ip),
    });
    if !of_host {
        let (detail, remedy) = match ip.is_unspecified() {
            true => (format!("{what} cannot listen on {ip}: this host has no address of that kind"), "write another"),
            false => (
                format!("{what} cannot listen on {ip}: no network interface of this host has it"),
                "write one of those that `ip address` lists, or \"0.0.0.0\" for all, or leave it out",
            ),
        };
        draft.no(&format!("{key}.address"), Hard, detail, remedy);
        return draft.about(field);
    }
    let uid = draft.account.as_ref().map_or(draft.host.process.uid, |account| account.uid);
    if let Some(first) = tcp.first_unprivileged.filter(|first| port < *first && uid != 0) {
        let detail = format!("{what} cannot listen on port {port}: QEMU's user {uid} may only from {first} on");
        draft.no(&format!("{key}.permitted"), Hard, detail, &format!("use a port from {first} on"));
        return draft.about(field);
    }
    let key = format!("{key}.free");
    match tcp.listeners.iter().find(|listener| listener.address.port() == port && overlap(listener.address.ip(), ip)) {
        None => draft.yes(&key, Hard, format!("{what}: nobody listens on {wanted} yet")),
        // As while `check` looks at it, and when a launcher takes it over.
        Some(Listener { machine: Some(machine), uid: holds, .. })
            if *machine == draft.machine.name && *holds == uid =>
        {
            draft.yes(&key, Hard, format!("{what}: this machine's QEMU runs and listens on {wanted}"));
        }
        Some(listener) => {
            let detail =
                format!("{what} cannot listen on {wanted}: {} listens on {}", listener.who(), listener.address);
            draft.no(&key, Hard, detail, "use another port, or end that program");
            draft.about(field);
        }
    }
}

/// Whether who listens on one of the addresses keeps others from listening on the other. Programs that listen on all
/// addresses of IPv6 nearly always have those of IPv4 too.
fn overlap(a: IpAddr, b: IpAddr) -> bool {
    let covers = |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    a == b || covers(a, b) || covers(b, a)
}

#[cfg(test)]
mod tests {
    use crate::host::Tcp;
    use crate::plan::sample::{self, Shape};
    use crate::plan::{Finding, Plan, Verdict};

    fn with(fields: &str, listeners: &[(&str, Option<&str>)]) -> Plan {
        let mut host = sample::host(Shape::simple(4, 1));
        let listeners = listeners.iter().map(|(address, machine)| super::Listener {
            protocol: crate::units::Protocol::Tcp,
            address: address.parse().unwrap(),
            uid: if machine == &Some("test") { 1000 } else { 7 },
            holder: None,
            machine: machine.map(str::to_owned),
        });
        host.tcp = Some(Tcp {
            listeners: listeners.collect(),
            first_unprivileged: Some(1024),
            addresses: Some(["127.0.0.1", "192.0.2.5"].map(|address| address.parse().unwrap()).into()),
        });
        sample::plan(&format!("(guest: Linux, memory: (size: \"1 GiB\"), firmware: Bios, {fields})"), &host)
    }

    fn found<'p>(plan: &'p Plan, key: &str) -> &'p Finding {
        plan.findings.iter().find(|finding| finding.key == key).unwrap_or_else(|| panic!("{key}: {:?}", plan.findings))
    }

    #[test]
    fn a_port_that_is_taken_forbids_the_start() {
        for (held, address, free) in [
            ("127.0.0.1:5900", "127.0.0.1", false),
            ("0.0.0.0:5900", "127.0.0.1", false),
            ("[::]:5900", "127.0.0.1", false),
            ("127.0.0.1:5900", "0.0.0.0", false),
            ("127.0.0.2:5900", "127.0.0.1", true),
            ("127.0.0.1:5901", "127.0.0.1", true),
            ("[::1]:5900", "0.0.0.0", true),
        ] {
            let plan = with(&format!("display: Vnc(port: 5900, address: \"{address}\")"), &[(held, None)]);
            let found = found(&plan, "display.port.free");
            assert_eq!(found.ok == Verdict::Yes, free, "{held} {address}: {found:?}");
            assert_eq!(found.blocks(), !free);
        }
        let other = with("display: Spice(port: 5930)", &[("127.0.0.1:5930", Some("wi\u{1b}n"))]);
        let detail = &found(&other, "display.port.free").detail;
        assert_eq!(
            detail,
            "the SPICE server cannot listen on 127.0.0.1:5930: a program of user 7 listens on 127.0.0.1:5930"
        );
        let own = with("display: Spice(port: 5930)", &[("127.0.0.1:5930", Some("test"))]);
        assert_eq!(found(&own, "display.port.free").ok, Verdict::Yes);
    }

    #[test]
    fn an_address_that_the_host_does_not_have_and_a_port_of_roots_forbid_it_too() {
        for (address, key) in
            [("192.0.2.5", None), ("192.0.2.6", Some(())), ("127.5.5.5", None), ("::", Some(())), ("::1", Some(()))]
        {
            let plan = with(&format!("display: Vnc(port: 5900, address: \"{address}\")"), &[]);
            let refused = plan.findings.iter().any(|finding| finding.key == "display.port.address" && finding.blocks());
            assert_eq!(refused, key.is_some(), "{address}: {:?}", plan.findings);
        }
        let low = with("display: Spice(port: 443)", &[]);
        assert!(found(&low, "display.port.permitted").blocks());
    }

    #[test]
    fn the_ports_of_extra_args_are_looked_at_too() {
        let plan = with(r#"extra_args: ["-s", "-serial", "tcp::4555,server=on"]"#, &[("127.0.0.1:4555", None)]);
        assert_eq!(found(&plan, "extra_args[0].free").ok, Verdict::Yes);
        assert!(found(&plan, "extra_args[2].free").blocks());
    }
}
