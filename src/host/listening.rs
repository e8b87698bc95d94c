//! The sockets that programs listen on, by /proc/net/tcp and its kin (proc_pid_net(5)).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{Root, socket_address};
use crate::units::Protocol;

/// More sockets than these in one table are not read.
const MAX: usize = 65536;

/// A socket of TCP that listens, or one of UDP that is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Socket {
    /// Where; one of IPv6 that is about an address of IPv4 says that address.
    pub address: SocketAddr,
    /// The user who made it.
    pub uid: u32,
    /// What tells it from every other.
    pub inode: u64,
}

/// All of a protocol.
pub(super) fn sockets(root: &Root, protocol: Protocol) -> Vec<Socket> {
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
    let address = socket_address::parse(fields.next()?)?;
    let state = fields.nth(1)?;
    let (uid, inode) = (fields.nth(3)?.parse().ok()?, fields.nth(1)?.parse().ok()?);
    // A program that speaks IPv6 alone may listen on an address of IPv4 in its form.
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    (state == wanted && address.port() != 0).then_some(Socket { address, uid, inode })
}

/// The process that holds each of these sockets, by inode: root sees all, others see their own.
pub(super) fn holders(root: &Root, sockets: &[Socket]) -> BTreeMap<u64, i32> {
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
