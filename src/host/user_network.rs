//! What a network of the guest's without privileges depends on: passt and what it can do here, the host's name servers and
//! routes, and the ports that are taken. The latter concern the network that machines share, too.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::help::{Help, Told};
use super::listening::Listener;
use super::socket::Socket;
use super::{Root, listening};
use crate::child::{Command, SpawnError};
use crate::units::{Forward, Protocol};

/// How much of /etc/resolv.conf is read.
const RESOLV: usize = 64 * 1024;
/// passt does not run as root; its rights are asked for as this user, whom no file belongs to (`nobody`).
const NOBODY: u32 = 65534;

/// What a network without privileges depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNetwork {
    /// passt, if it is installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passt: Option<Passt>,
    /// The name servers of /etc/resolv.conf.
    pub name_servers: Vec<IpAddr>,
    /// Whether a route leads beyond the host's own networks. `None` if it could not be read.
    pub default_route: Option<bool>,
    /// The lowest port that a user other than root may listen on. `None` if it could not be read.
    pub first_port: Option<u16>,
    /// Who listens on ports of the host, each once; the processes of those that are in a forward's way.
    pub listening: Vec<Listener>,
    /// Whether the machine itself has a journal: it runs, or has left something behind, so it may be its own helper that
    /// listens.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_itself: bool,
}

/// passt as it is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passt {
    /// The program.
    pub path: PathBuf,
    /// Its long options, with their dashes. Empty if it could not be asked.
    pub options: BTreeSet<String>,
    /// Whether a user other than root may make the user namespace that it locks itself up in. `None` if that could not be
    /// asked.
    pub user_namespaces: Option<bool>,
}

impl UserNetwork {
    /// Reads it; `of_itself` as the field, `forwards` are the machine's, `tcp` all sockets of TCP that listen.
    pub(super) fn read(
        root: &Root,
        passt: Option<Passt>,
        of_itself: bool,
        forwards: &[Forward],
        tcp: &[Socket],
    ) -> Self {
        let listening = |protocol: Protocol, sockets: &[Socket]| {
            let met = |socket: &Socket| {
                let (ip, port) = (Some(socket.address.ip()), socket.address.port());
                forwards.iter().any(|forward| forward.meets(protocol, ip, port, port).is_some())
            };
            Listener::of(root, protocol, sockets, met)
        };
        let udp = listening::sockets(root, Protocol::Udp);
        let resolv = root.text_up_to("/etc/resolv.conf", RESOLV).unwrap_or_default();
        Self {
            passt,
            name_servers: name_servers(&resolv),
            default_route: default_route(root),
            first_port: root.parse("/proc/sys/net/ipv4/ip_unprivileged_port_start"),
            listening: [listening(Protocol::Tcp, tcp), listening(Protocol::Udp, &udp)].concat(),
            of_itself,
        }
    }
}

impl Passt {
    /// The program's name.
    pub const PROGRAM: &str = "passt";

    /// Asks the program for its options, in a user namespace such as it will make. If those are kept in the folder `cache`,
    /// only the namespace is tried.
    pub(super) fn ask(root: &Root, path: &Path, cache: Option<&Path>) -> Asked {
        let set = |command: &mut Command| {
            command.env_clear().user_namespace();
            if nix::unistd::geteuid().is_root() {
                command.user(NOBODY, NOBODY, &[]);
            }
        };
        let ask = || match Help::kept(path, cache) {
            Some(options) => {
                let mut command = Command::new(path);
                set(&mut command);
                command.try_setup().map(|()| Told::Kept(options))
            }
            None => Help::ask(path, cache, set).map(Told::Asked),
        };
        Asked { path: path.to_owned(), told: root.is_real().then(ask) }
    }
}

/// A passt that was asked, now or earlier.
pub(super) struct Asked {
    path: PathBuf,
    told: Option<Result<Told, SpawnError>>,
}

impl Asked {
    /// What it answers.
    pub fn answer(self) -> Passt {
        let unknown = Passt { path: self.path, options: BTreeSet::new(), user_namespaces: None };
        let options = match self.told {
            Some(Ok(told)) => told.options(long_options),
            Some(Err(error)) if error.step == SpawnError::NAMESPACE => {
                return Passt { user_namespaces: Some(false), ..unknown };
            }
            Some(Err(_)) | None => None,
        };
        match options {
            Some(options) => Passt { options, user_namespaces: Some(true), ..unknown },
            None => unknown,
        }
    }
}

/// The options in a text such as `  -f, --foreground  Don't run in background`.
fn long_options(help: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_whitespace() || c == ',';
    let first_words =
        help.lines().flat_map(|line| line.trim_start().split(word).filter(|word| !word.is_empty()).take(2));
    first_words.filter(|word| word.len() > 2 && word.starts_with("--")).map(str::to_owned).collect()
}

/// The addresses after `nameserver`; that of an interface (`fe80::1%eth0`) is read without it.
fn name_servers(resolv: &str) -> Vec<IpAddr> {
    let address = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let address = (words.next() == Some("nameserver")).then(|| words.next())??;
        address.split('%').next()?.parse().ok()
    };
    resolv.lines().filter_map(address).collect()
}

/// Whether there is a default route that is in use, by /proc/net/route or ipv6_route (proc_pid_net(5)).
fn default_route(root: &Root) -> Option<bool> {
    const UP: u32 = 1;
    let (v4, v6) = (root.text("/proc/net/route"), root.text("/proc/net/ipv6_route"));
    if v4.is_none() && v6.is_none() {
        return None;
    }
    let up =
        |flags: Option<&&str>| flags.and_then(|flags| u32::from_str_radix(flags, 16).ok()).is_some_and(|f| f & UP != 0);
    let zero = |text: Option<&&str>| text.is_some_and(|text| text.bytes().all(|byte| byte == b'0'));
    // Interface, destination, gateway, flags, …, mask at the eighth place.
    let by_v4 = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        zero(words.get(1)) && zero(words.get(7)) && up(words.get(3))
    };
    // Destination and its length, source and its length, next hop, metric, counters, flags, interface. The kernel has a
    // route of its own on `lo` for what has none.
    let by_v6 = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        zero(words.first()) && zero(words.get(1)) && up(words.get(8)) && words.get(9).is_some_and(|name| *name != "lo")
    };
    Some(v4.unwrap_or_default().lines().any(by_v4) || v6.unwrap_or_default().lines().any(by_v6))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::sample_tree::tree;

    #[test]
    fn the_options_of_both_releases_are_read() {
        let help = "Usage: passt [OPTION]...\n\n  -d, --debug\t\tBe verbose\n      --trace\t\tsays --more\n  --no-map-gw\t\tDon't\n\
                    \t  -F, --fd FD\t\tUse --x\nFailed to send 31 bytes to syslog\n";
        let options: Vec<String> = long_options(help).into_iter().collect();
        assert_eq!(options, ["--debug", "--fd", "--no-map-gw", "--trace"]);
    }

    #[test]
    fn routes_name_servers_and_ports_are_read_and_nonsense_is_not() {
        let host = tree(&[
            (
                "etc/resolv.conf",
                "# nameserver 1.1.1.1\nsearch x\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\nnameserver x\n",
            ),
            (
                "proc/net/route",
                "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\teth0\n\
                 eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n",
            ),
            ("proc/sys/net/ipv4/ip_unprivileged_port_start", "1024\n"),
            (
                "proc/net/tcp",
                "  sl  local_address rem_address   st\n   0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 0 0 71 1\n\
                 1: 0100007F:1F91 0100007F:1F90 01 0:0 0:0 0 0 0 72 1\njunk\n",
            ),
            ("proc/9/comm", "unbound"),
            ("proc/net/udp6", "  sl\n  0: 00000000000000000000000001000000:0035 0:0 07 0:0 0:0 0 0 0 73 2\n"),
        ]);
        std::fs::create_dir_all(host.path().join("proc/9/fd")).unwrap();
        std::os::unix::fs::symlink("socket:[73]", host.path().join("proc/9/fd/5")).unwrap();
        let root = Root::new(host.path());
        let forwards = ["udp 53".parse().unwrap()];
        let read = UserNetwork::read(&root, None, false, &forwards, &listening::sockets(&root, Protocol::Tcp));
        let addresses: Vec<IpAddr> = ["127.0.0.53", "fe80::1"].map(|text| text.parse().unwrap()).to_vec();
        assert_eq!((read.name_servers, read.default_route, read.first_port), (addresses, Some(true), Some(1024)));
        let found: Vec<_> = read.listening.iter().map(|one| (one.protocol, one.address.to_string())).collect();
        let expected = [(Protocol::Tcp, "127.0.0.1:8080"), (Protocol::Udp, "[::1]:53")];
        assert_eq!(found, expected.map(|(protocol, address)| (protocol, address.to_owned())));
        let pids: Vec<_> = read.listening.iter().map(|one| one.holder.as_ref().map(|holder| holder.pid)).collect();
        assert_eq!(pids, [None, Some(9)], "only of what is in a forward's way");
    }

    #[test]
    fn only_a_default_route_that_is_up_leads_on() {
        let routed = |v4: &str, v6: &str| {
            default_route(&Root::new(tree(&[("proc/net/route", v4), ("proc/net/ipv6_route", v6)]).path()))
        };
        let zero = "0".repeat(32);
        assert_eq!(routed("eth0 00000000 0 0002 0 0 0 00000000", ""), Some(false));
        assert_eq!(routed("eth0 0002A8C0 0 0001 0 0 0 00FFFFFF", ""), Some(false));
        assert_eq!(routed("", &format!("{zero} 00 {zero} 00 fe80 400 1 0 00450003 eth0")), Some(true));
        assert_eq!(routed("", &format!("{zero} 00 {zero} 00 {zero} ffffffff 1 0 00200200 lo")), Some(false));
        let nothing = tempfile::tempdir().unwrap();
        assert_eq!(default_route(&Root::new(nothing.path())), None);
    }

    #[test]
    fn a_program_is_asked_in_a_user_namespace() {
        let cache = tempfile::tempdir().unwrap();
        let ask = |path| Passt::ask(&Root::new("/"), Path::new(path), Some(&cache.path().join("kept"))).answer();
        let asked = ask("/bin/ls");
        assert!(asked.user_namespaces == Some(false) || asked.options.contains("--all"), "{asked:?}");
        assert_eq!(ask("/bin/ls"), asked, "from what is kept, but for the namespace");
        // Where there is no namespace, as in a chroot, nothing else is tried.
        assert!(asked.user_namespaces == Some(false) || ask("/no/passt").user_namespaces.is_none());
    }
}
