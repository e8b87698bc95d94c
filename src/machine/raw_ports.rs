//! The TCP ports on which words of `extra_args` have QEMU listen, as far as they are in its usual forms: qemu(1), `-chardev`,
//! `-serial`, `-gdb`, `-vnc`, `-spice`, `-netdev user`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::file::Machine;

/// VNC counts its displays from this port.
const VNC_BASE: u16 = 5900;
/// Options whose value is a character device in the old form, `tcp:HOST:PORT,server=on`.
const OLD_FORM: [&str; 7] = ["serial", "parallel", "monitor", "qmp", "qmp-pretty", "debugcon", "gdb"];

impl Machine {
    /// Each with the number of the word in `extra_args` that says so.
    pub fn raw_ports(&self) -> Vec<(usize, SocketAddr)> {
        let words = &self.extra_args;
        let mut found = Vec::new();
        for (index, word) in words.iter().enumerate() {
            let Some(name) = word.strip_prefix('-').map(|name| name.trim_start_matches('-')) else { continue };
            if name == "s" {
                found.push((index, any(1234)));
            } else if let Some(value) = words.get(index + 1) {
                found.extend(of_value(name, value).into_iter().map(|address| (index + 1, address)));
            }
        }
        found
    }
}

fn any(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}

fn of_value(name: &str, value: &str) -> Vec<SocketAddr> {
    let parts: Vec<&str> = value.split(',').collect();
    let first = parts.first().copied().unwrap_or_default();
    let key = |key: &str| parts.iter().find_map(|part| part.strip_prefix(key)?.strip_prefix('='));
    let serves = parts.iter().any(|part| matches!(*part, "server" | "server=on"));
    let port = |key_of_port: &str, key_of_host: &str| address(key(key_of_host).unwrap_or_default(), key(key_of_port)?);
    match name {
        "chardev" if first == "socket" && serves => port("port", "host").into_iter().collect(),
        "vnc" => first
            .rsplit_once(':')
            .and_then(|(host, display)| {
                let display: u16 = display.parse().ok()?;
                address(host, &VNC_BASE.checked_add(display)?.to_string())
            })
            .into_iter()
            .collect(),
        "spice" => [port("port", "addr"), port("tls-port", "addr")].into_iter().flatten().collect(),
        "netdev" | "nic" if first == "user" => {
            let forwards = parts.iter().filter_map(|part| part.strip_prefix("hostfwd=tcp:"));
            let host_side = forwards.filter_map(|forward| forward.split_once('-')?.0.rsplit_once(':'));
            host_side.filter_map(|(host, port)| address(host, port)).collect()
        }
        name if OLD_FORM.contains(&name) && (serves || name == "gdb") => {
            let place = ["tcp:", "telnet:"].iter().find_map(|kind| first.strip_prefix(kind));
            place
                .and_then(|place| place.rsplit_once(':'))
                .and_then(|(host, port)| address(host, port))
                .into_iter()
                .collect()
        }
        _ => Vec::new(),
    }
}

/// `None` for a name other than `localhost`, and for what is no port.
fn address(host: &str, port: &str) -> Option<SocketAddr> {
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match host {
        "" => Some(any(port)),
        "localhost" => Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
        host => Some(SocketAddr::new(host.parse().ok()?, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_qemu_listens_on_is_told_in_its_usual_forms() {
        for (name, value, expected) in [
            ("gdb", "tcp::1234", vec!["0.0.0.0:1234"]),
            ("gdb", "tcp:[::1]:1234", vec!["[::1]:1234"]),
            ("serial", "tcp:127.0.0.1:4555,server=on,wait=off", vec!["127.0.0.1:4555"]),
            ("monitor", "telnet:localhost:4556,server,nowait", vec!["127.0.0.1:4556"]),
            ("serial", "tcp:127.0.0.1:4555", vec![]),
            ("serial", "unix:/tmp/a,server=on", vec![]),
            ("chardev", "socket,id=a,host=::,port=70,server=on", vec!["[::]:70"]),
            ("chardev", "socket,id=a,path=/tmp/a,server=on", vec![]),
            ("vnc", "127.0.0.1:7,password=on", vec!["127.0.0.1:5907"]),
            ("vnc", "unix:/tmp/vnc", vec![]),
            ("spice", "port=5930,tls-port=5931,addr=127.0.0.1", vec!["127.0.0.1:5930", "127.0.0.1:5931"]),
            (
                "netdev",
                "user,id=n,hostfwd=tcp::2222-:22,hostfwd=tcp:127.0.0.1:8080-:80",
                vec!["0.0.0.0:2222", "127.0.0.1:8080"],
            ),
            ("device", "tcp::1234", vec![]),
        ] {
            let found: Vec<_> = of_value(name, value).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "-{name} {value}");
        }
    }

    #[test]
    fn each_is_told_with_its_word() {
        let text = r#"(guest: Other, memory: (size: "1 GiB"), extra_args: ["-s", "-device", "virtio-balloon-pci", "--gdb", "tcp::77"])"#;
        let source = crate::machine::parse(std::path::Path::new("m.ron"), text).unwrap();
        assert_eq!(source.machine.raw_ports(), [(0, any(1234)), (4, any(77))]);
        assert_eq!(source.machine.named().ports, [77, 1234].into());
    }
}
