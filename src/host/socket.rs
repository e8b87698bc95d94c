//! A socket that a program listens on, and its address as the kernel prints it in /proc/net/tcp and its kin (proc_pid_net(5)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

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

impl Socket {
    /// `None` if it has no port. A program that speaks IPv6 alone may listen on an address of IPv4 in its form.
    pub fn new(address: SocketAddr, uid: u32, inode: u64) -> Option<Self> {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        (address.port() != 0).then_some(Self { address, uid, inode })
    }
}

/// Reads `0100007F:1F90`. The address is made of 32-bit words, each a number of this processor's; an address of IPv4 that is
/// written as one of IPv6 stays so.
pub(super) fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (index, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(index * 8)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}
