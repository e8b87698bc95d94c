//! The sockets that programs listen on, and whose they are.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::pci::Holder;
use super::socket::{self, Socket};
use super::{Root, sock_diag};
use crate::units::{Protocol, printable};

/// More sockets than these in one table are not read.
const MAX: usize = 65536;

/// More sockets than these are not asked for their processes.
const MAX_ASKED: usize = 256;

/// A program that listens on a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// The protocol.
    pub protocol: Protocol,
    /// Where; an unspecified address is all of them.
    pub address: SocketAddr,
    /// The user who made the socket.
    pub uid: u32,
    /// The process that holds it, if that was asked and can be seen: root sees all, others see their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
    /// The machine that this process is the QEMU of, as its arguments say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
}

impl Listener {
    /// Of these sockets, with the processes of those that are `asked` for.
    pub(super) fn of(
        root: &Root,
        protocol: Protocol,
        sockets: &[Socket],
        asked: impl Fn(&Socket) -> bool,
    ) -> Vec<Self> {
        let concerned: Vec<Socket> = sockets.iter().filter(|socket| asked(socket)).take(MAX_ASKED).copied().collect();
        let holders = holders(root, &concerned);
        let listener = |socket: &Socket| {
            let pid = holders.get(&socket.inode).copied();
            Self {
                protocol,
                address: socket.address,
                uid: socket.uid,
                holder: pid.map(|pid| Holder::of_process(root, pid)),
                machine: pid.and_then(|pid| machine(root, pid)),
            }
        };
        sockets.iter().map(listener).collect()
    }

    /// Who it is, for a sentence: `the machine win11 (process 7)`, `passt (process 8)`, `a program of user 1000`.
    pub fn who(&self) -> String {
        match (&self.machine, &self.holder) {
            (Some(machine), Some(holder)) => format!("the machine {} (process {})", printable(machine), holder.pid),
            (_, Some(holder)) => holder.to_string(),
            (_, None) => format!("a program of user {}", self.uid),
        }
    }
}

/// The name of the machine in the arguments that this program gives QEMU.
fn machine(root: &Root, pid: i32) -> Option<String> {
    let arguments = root.text_up_to(format!("/proc/{pid}/cmdline"), 4096)?;
    let mut words = arguments.split('\0');
    words.find(|word| *word == "-name")?;
    Some(words.next()?.strip_prefix("guest=")?.split(',').next()?.to_owned())
}

/// All of a protocol.
pub(super) fn sockets(root: &Root, protocol: Protocol) -> Vec<Socket> {
    let can_ask = root.is_real() && sock_diag::is_there(root, protocol);
    let asked = if can_ask { sock_diag::sockets(protocol).ok() } else { None };
    asked.unwrap_or_else(|| in_tables(root, protocol))
}

/// As /proc/net/tcp and its kin have them (proc_pid_net(5)).
fn in_tables(root: &Root, protocol: Protocol) -> Vec<Socket> {
    // `TCP_LISTEN` of the kernel's `include/net/tcp_states.h`; a UDP socket that is bound has the number of `TCP_CLOSE`.
    let (tables, state) = match protocol {
        Protocol::Tcp => (["tcp", "tcp6"], "0A"),
        Protocol::Udp => (["udp", "udp6"], "07"),
    };
    let mut found = Vec::new();
    for table in tables {
        let text = root.text(format!("/proc/net/{table}")).unwrap_or_default();
        found.extend(text.lines().take(MAX).filter_map(|line| socket(line, state)));
    }
    found
}

/// A line such as `0: 0100007F:1F90 00000000:0000 0A …`, if its socket is in this state.
fn socket(line: &str, wanted: &str) -> Option<Socket> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let address = socket::address(fields.next()?)?;
    let state = fields.nth(1)?;
    let (uid, inode) = (fields.nth(3)?.parse().ok()?, fields.nth(1)?.parse().ok()?);
    Socket::new(address, uid, inode).filter(|_| state == wanted)
}

/// The process that holds each of these sockets, by inode: root sees all, others see their own.
fn holders(root: &Root, sockets: &[Socket]) -> BTreeMap<u64, i32> {
    let mut found = BTreeMap::new();
    if sockets.is_empty() {
        return found;
    }
    for pid in root.names("/proc").into_iter().filter_map(|name| name.parse::<i32>().ok()) {
        let descriptors = std::fs::read_dir(root.path(format!("/proc/{pid}/fd"))).into_iter().flatten().flatten();
        for descriptor in descriptors {
            let Ok(target) = std::fs::read_link(descriptor.path()) else { continue };
            let inode = target.to_str().and_then(|name| name.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            if let Some(inode) = inode.filter(|inode| sockets.iter().any(|socket| socket.inode == *inode)) {
                found.entry(inode).or_insert(pid);
            }
        }
        if found.len() == sockets.len() {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn the_kernel_tells_of_a_socket_what_its_tables_have_of_it() {
        let root = Root::new("/");
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        for (protocol, address) in
            [(Protocol::Tcp, tcp.local_addr().unwrap()), (Protocol::Udp, udp.local_addr().unwrap())]
        {
            let ours = |all: Vec<Socket>| all.into_iter().find(|socket| socket.address == address);
            let by_table = ours(in_tables(&root, protocol)).unwrap();
            assert_eq!(ours(sockets(&root, protocol)), Some(by_table));
            let named = Listener::of(&root, protocol, &[by_table], |_| true);
            let holder = named[0].holder.as_ref().map(|holder| holder.pid.unsigned_abs());
            assert_eq!((named[0].address, holder), (address, Some(std::process::id())));
            assert_eq!(Listener::of(&root, protocol, &[by_table], |_| false)[0].holder, None);
        }
    }
}
