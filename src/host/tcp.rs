//! TCP as QEMU meets it: who listens on a port already, which ports are for root alone, and the host's own addresses. Source:
//! ip-sysctl.rst of the kernel's documentation; `fib_trie_seq_show()` in `net/ipv4/fib_trie.c` and
//! `if6_seq_show()` in `net/ipv6/addrconf.c`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::Root;
use super::listening::Listener;
use super::socket::Socket;
use crate::units::Protocol;

/// What is known of TCP on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tcp {
    /// Who listens on the ports that were asked for.
    pub listeners: Vec<Listener>,
    /// The first port that others than root may listen on.
    pub first_unprivileged: Option<u16>,
    /// The host's own addresses; `None`: they are unknown, or programs may listen on any.
    pub addresses: Option<BTreeSet<IpAddr>>,
}

impl Tcp {
    /// Reads what concerns these ports; `sockets` are all that listen.
    pub(super) fn read(root: &Root, ports: &BTreeSet<u16>, sockets: &[Socket]) -> Self {
        let concerned = sockets.iter().filter(|socket| ports.contains(&socket.address.port()));
        let concerned: Vec<Socket> = concerned.copied().collect();
        Self {
            listeners: Listener::of(root, Protocol::Tcp, &concerned, |_| true),
            first_unprivileged: root.parse("/proc/sys/net/ipv4/ip_unprivileged_port_start"),
            addresses: addresses(root),
        }
    }
}

/// The host's own addresses.
fn addresses(root: &Root) -> Option<BTreeSet<IpAddr>> {
    let any = ["ipv4", "ipv6"].iter().any(|family| {
        root.text_up_to(format!("/proc/sys/net/{family}/ip_nonlocal_bind"), 16).is_some_and(|word| word != "0")
    });
    let trie = root.text("/proc/net/fib_trie").filter(|_| !any)?;
    let mut found = BTreeSet::new();
    let mut last = None;
    for line in trie.lines().map(str::trim) {
        match line.strip_prefix("|-- ") {
            Some(address) => last = address.parse::<Ipv4Addr>().ok(),
            None if line == "/32 host LOCAL" => found.extend(last.map(IpAddr::V4)),
            None => {}
        }
    }
    let six = root.text("/proc/net/if_inet6").unwrap_or_default();
    let six = six.lines().filter_map(|line| u128::from_str_radix(line.split_ascii_whitespace().next()?, 16).ok());
    found.extend(six.map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))));
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::listening::sockets;
    use crate::host::sample_tree::tree;

    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let folder = tree(files);
        let root = Root::new(folder.path());
        (folder, root)
    }

    fn row(local: &str, state: &str, uid: u32, inode: u64) -> String {
        format!(
            "   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  {uid}        0 {inode} 1 0 100 0\n"
        )
    }

    #[test]
    fn who_listens_on_a_port_is_told_with_the_machine_that_it_is() {
        let four = [HEAD, &row("0100007F:170C", "0A", 1000, 71), &row("0100007F:170C", "01", 1000, 72)].concat();
        let six = [
            HEAD,
            &row("00000000000000000000000000000000:170D", "0A", 0, 73),
            &row("0000000000000000FFFF00000100007F:170C", "0A", 7, 74),
            &row("00000000000000000000000001000000:0016", "0A", 0, 75),
        ];
        let (folder, root) = host(&[
            ("proc/net/tcp", &four),
            ("proc/net/tcp6", &six.concat()),
            ("proc/9/cmdline", "/usr/bin/qemu-system-x86_64\0-name\0guest=win11,debug-threads=on\0-S\0"),
            ("proc/9/comm", "qemu-system-x86"),
            ("proc/sys/net/ipv4/ip_unprivileged_port_start", "1024\n"),
        ]);
        std::fs::create_dir_all(folder.path().join("proc/9/fd")).unwrap();
        std::os::unix::fs::symlink("socket:[71]", folder.path().join("proc/9/fd/5")).unwrap();
        let tcp = Tcp::read(&root, &[5900, 5901].into(), &sockets(&root, Protocol::Tcp));
        let found: Vec<_> = tcp.listeners.iter().map(|one| (one.address.to_string(), one.uid)).collect();
        let expected = [("127.0.0.1:5900", 1000), ("[::]:5901", 0), ("127.0.0.1:5900", 7)];
        assert_eq!(found, expected.map(|(address, uid)| (address.to_owned(), uid)));
        assert_eq!(tcp.listeners[0].machine.as_deref(), Some("win11"));
        assert_eq!(
            tcp.listeners[0].holder.as_ref().map(|holder| (holder.pid, &*holder.comm)),
            Some((9, "qemu-system-x86"))
        );
        assert_eq!((tcp.listeners[1].holder.as_ref(), tcp.first_unprivileged), (None, Some(1024)));
    }

    #[test]
    fn the_hosts_addresses_are_known_unless_any_may_be_used() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     +-- 192.0.2.0/24 2 0 2\n        \
                    |-- 192.0.2.5\n           /32 host LOCAL\n        |-- 192.0.2.255\n           /32 link BROADCAST\n";
        let six = "00000000000000000000000000000001 01 80 10 80       lo\n";
        let files = [("proc/net/fib_trie", trie), ("proc/net/if_inet6", six)];
        let (_folder, root) = host(&files);
        let expected: BTreeSet<IpAddr> = ["192.0.2.5", "::1"].map(|address| address.parse().unwrap()).into();
        assert_eq!(addresses(&root), Some(expected));
        let any = [files[0], ("proc/sys/net/ipv4/ip_nonlocal_bind", "1\n")];
        let (_folder, root) = host(&any);
        assert_eq!(addresses(&root), None);
        let (_folder, root) = host(&[("proc/net/tcp", "junk\n   0: 7F:x 0 0A\n   1: 00")]);
        assert_eq!(Tcp::read(&root, &[5900].into(), &sockets(&root, Protocol::Tcp)), Tcp::default());
    }
}
