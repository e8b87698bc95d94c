//! The sockets that listen, asked of the kernel over sock_diag(7). It looks at those alone then, while each reader of
//! /proc/net/tcp has it walk through all buckets of its table of connections: milliseconds, the more memory the longer.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use super::Root;
use super::socket::Socket;
use crate::units::Protocol;

/// The kernel's answers come in pieces of at most this many bytes (`netlink_dump()` in `net/netlink/af_netlink.c`).
const PIECE: usize = 32 << 10;
/// More sockets than these are not read.
const MAX: usize = 65536;

/// Whether the kernel can be asked without more: it would load the module for it, which would stay, and who looks at a host
/// leaves it as it is. A kernel that has no modules has this built in, or refuses.
pub(super) fn is_there(root: &Root, protocol: Protocol) -> bool {
    let module = format!("/sys/module/{}_diag", protocol.name());
    root.path(module).exists() || !root.path("/proc/modules").exists()
}

/// All of a protocol.
///
/// # Errors
/// If the kernel has no such interface (`tcp_diag`, `udp_diag`), or its answer cannot be read.
pub(super) fn sockets(protocol: Protocol) -> io::Result<Vec<Socket>> {
    let mut found = Vec::new();
    for (family, any) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
        let (protocol, states) = match protocol {
            Protocol::Tcp => (IPPROTO_TCP, StateFlags::LISTEN),
            // One of UDP that is bound has the state of a connection that is closed.
            Protocol::Udp => (IPPROTO_UDP, StateFlags::CLOSE),
        };
        let extensions = ExtensionFlags::empty();
        ask(InetRequest { family, protocol, extensions, states, socket_id: any }, &mut found)?;
    }
    Ok(found)
}

fn ask(request: InetRequest, found: &mut Vec<Socket>) -> io::Result<()> {
    let protocol = SockProtocol::NetlinkSockDiag;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    let mut head = NetlinkHeader::default();
    head.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(head, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    send(socket.as_raw_fd(), &bytes, MsgFlags::empty())?;
    let mut piece = vec![0; PIECE];
    loop {
        let length = match recv(socket.as_raw_fd(), &mut piece, MsgFlags::empty()) {
            Err(nix::Error::EINTR) => continue,
            other => other?,
        };
        if take(&piece[..length], found)? || found.len() > MAX {
            return Ok(());
        }
    }
}

/// Takes what is in a piece of the answer, and tells whether that was the last one.
fn take(mut piece: &[u8], found: &mut Vec<Socket>) -> io::Result<bool> {
    while !piece.is_empty() {
        let message = NetlinkMessage::<SockDiagMessage>::deserialize(piece).map_err(io::Error::other)?;
        match message.payload {
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(refused) => return Err(refused.to_io()),
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(one)) => {
                let (head, id) = (&one.header, &one.header.socket_id);
                let address = SocketAddr::new(id.source_address, id.source_port);
                found.extend(Socket::new(address, head.uid, head.inode.into()));
            }
            _ => {}
        }
        // Each message is filled up to four bytes.
        let length = usize::try_from(message.header.length).map_err(io::Error::other)?.next_multiple_of(4);
        piece = piece.get(length.max(4)..).unwrap_or_default();
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::sample_tree::tree;

    #[test]
    fn nothing_is_loaded_to_ask() {
        let asked = |files: &[(&str, &str)]| is_there(&Root::new(tree(files).path()), Protocol::Tcp);
        let (modules, udp) = (("proc/modules", "x 1 0\n"), ("sys/module/udp_diag/refcnt", "0\n"));
        assert!(!asked(&[modules]) && !asked(&[modules, udp]));
        assert!(asked(&[]) && asked(&[modules, ("sys/module/tcp_diag/refcnt", "0\n")]));
    }

    #[test]
    fn a_piece_that_is_cut_short_is_an_error_and_no_loop() {
        let mut found = Vec::new();
        assert!(take(&[1, 2, 3], &mut found).is_err());
        // A message of 64 bytes of which 20 came.
        let mut cut = [0; 20];
        cut[0] = 64;
        assert!(take(&cut, &mut found).is_err());
        // NLMSG_DONE.
        let done = [&20u32.to_ne_bytes()[..], &3u16.to_ne_bytes(), &[0; 14]].concat();
        assert!(take(&done, &mut found).unwrap());
        assert!(found.is_empty());
    }
}
