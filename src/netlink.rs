//! The one client for the kernel's network interfaces: it makes, sets and removes them over rtnetlink(7).
//!
//! Of the crates for netlink only the framing is used: those that type every attribute of every kind of interface are fifty
//! thousand lines, and a runtime, for the few messages here. What is there is read from sysfs (`host::network`).

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};

use netlink_packet_core::{
    DefaultNla, Emitable as _, NLA_F_NESTED, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
    NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// More than the kernel's answer to any message of ours, which it quotes.
const ANSWER: usize = 8192;

/// A connection to the kernel.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sent: u32,
}

/// What an interface is made or set to be.
#[derive(Debug, Default)]
pub struct Link {
    flags: u32,
    attributes: Vec<DefaultNla>,
}

impl Link {
    /// Sets its name.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        self.with(libc::IFLA_IFNAME, text(name))
    }

    /// Makes it a bridge.
    #[must_use]
    pub fn bridge(self) -> Self {
        self.kind("bridge", &[])
    }

    /// Makes it a macvtap device on the interface of this number; `mode` is the kernel's number of it (`linux/if_link.h`).
    #[must_use]
    pub fn macvtap(self, parent: u32, mode: u32) -> Self {
        const IFLA_MACVLAN_MODE: u16 = 1;
        let mode = DefaultNla::new(IFLA_MACVLAN_MODE, mode.to_ne_bytes().to_vec());
        self.with(libc::IFLA_LINK, parent.to_ne_bytes().to_vec()).kind("macvtap", &[mode])
    }

    /// Sets its kind, with what that kind takes.
    fn kind(self, kind: &str, data: &[DefaultNla]) -> Self {
        let mut info = vec![DefaultNla::new(libc::IFLA_INFO_KIND, text(kind))];
        if !data.is_empty() {
            info.push(DefaultNla::new(libc::IFLA_INFO_DATA | NLA_F_NESTED, nested(data)));
        }
        self.with(libc::IFLA_LINKINFO | NLA_F_NESTED, nested(&info))
    }

    /// Sets its MAC address.
    #[must_use]
    pub fn address(self, mac: [u8; 6]) -> Self {
        self.with(libc::IFLA_ADDRESS, mac.to_vec())
    }

    /// Sets the largest packet, in bytes.
    #[must_use]
    pub fn mtu(self, mtu: u32) -> Self {
        self.with(libc::IFLA_MTU, mtu.to_ne_bytes().to_vec())
    }

    /// Puts it on the bridge of this number.
    #[must_use]
    pub fn on_bridge(self, index: u32) -> Self {
        self.with(libc::IFLA_MASTER, index.to_ne_bytes().to_vec())
    }

    /// Sets it up.
    #[must_use]
    pub fn up(mut self) -> Self {
        self.flags |= libc::IFF_UP as u32;
        self
    }

    fn with(mut self, kind: u16, value: Vec<u8>) -> Self {
        self.attributes.push(DefaultNla::new(kind, value));
        self
    }
}

impl Netlink {
    /// Connects.
    ///
    /// # Errors
    /// If the kernel gives no such socket.
    pub fn open() -> io::Result<Self> {
        let protocol = SockProtocol::NetlinkRoute;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        Ok(Self { socket, sent: 0 })
    }

    /// Makes an interface, whose name none may have.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn make(&mut self, link: Link) -> io::Result<()> {
        self.ask(libc::RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, header(0, link.flags), link.attributes)
    }

    /// Removes the interface of this number.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn remove(&mut self, index: u32) -> io::Result<()> {
        self.ask(libc::RTM_DELLINK, 0, header(index, 0), Vec::new())
    }

    /// Gives an interface an address, if it does not have it.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn add_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8, broadcast: Ipv4Addr) -> io::Result<()> {
        // `struct ifaddrmsg`: family, bits of the network, flags, scope (global), number of the interface.
        let fixed = [&[libc::AF_INET as u8, prefix, 0, 0][..], &index.to_ne_bytes()].concat();
        let attribute = |kind, address: Ipv4Addr| DefaultNla::new(kind, address.octets().to_vec());
        let attributes = vec![
            attribute(libc::IFA_LOCAL, address),
            attribute(libc::IFA_ADDRESS, address),
            attribute(libc::IFA_BROADCAST, broadcast),
        ];
        self.ask(libc::RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, fixed, attributes)
    }

    /// Sets an interface.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn set(&mut self, index: u32, link: Link) -> io::Result<()> {
        self.ask(libc::RTM_NEWLINK, 0, header(index, link.flags), link.attributes)
    }

    /// Sends a message and waits for the kernel's answer, which it gives before the send returns.
    fn ask(&mut self, kind: u16, flags: u16, fixed: Vec<u8>, attributes: Vec<DefaultNla>) -> io::Result<()> {
        self.sent += 1;
        let mut head = NetlinkHeader::default();
        head.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        head.sequence_number = self.sent;
        let mut message = NetlinkMessage::new(head, NetlinkPayload::from(Request { kind, fixed, attributes }));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        send(self.socket.as_raw_fd(), &bytes, MsgFlags::empty())?;
        let mut answer = vec![0; ANSWER];
        loop {
            let length = match recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty()) {
                Err(nix::Error::EINTR) => continue,
                other => other?,
            };
            let answer = NetlinkMessage::<Request>::deserialize(&answer[..length]).map_err(io::Error::other)?;
            if answer.header.sequence_number != self.sent {
                continue;
            }
            return match answer.payload {
                NetlinkPayload::Error(answer) if answer.code.is_none() => Ok(()),
                NetlinkPayload::Error(refused) => Err(refused.to_io()),
                _ => Err(io::Error::other("the kernel's answer is none to what was asked")),
            };
        }
    }
}

/// A message: its kind, the structure that it begins with, its attributes.
struct Request {
    kind: u16,
    fixed: Vec<u8>,
    attributes: Vec<DefaultNla>,
}

impl From<Request> for NetlinkPayload<Request> {
    fn from(request: Request) -> Self {
        Self::InnerMessage(request)
    }
}

impl NetlinkSerializable for Request {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.fixed.len() + self.attributes.as_slice().buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let (fixed, rest) = buffer.split_at_mut(self.fixed.len());
        fixed.copy_from_slice(&self.fixed);
        self.attributes.as_slice().emit(rest);
    }
}

impl NetlinkDeserializable for Request {
    type Error = io::Error;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> io::Result<Self> {
        Ok(Self { kind: header.message_type, fixed: payload.to_vec(), attributes: Vec::new() })
    }
}

/// `struct ifinfomsg`: family, padding, type, number, flags, and which of the flags are meant.
fn header(index: u32, flags: u32) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend([index, flags, flags].iter().flat_map(|number| number.to_ne_bytes()));
    bytes
}

/// A text as the kernel takes it, with a NUL at its end.
fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// Attributes as another's value.
fn nested(attributes: &[DefaultNla]) -> Vec<u8> {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    bytes
}

/// A MAC address as its bytes; `None` if the text is none.
pub fn mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text.split(':').map(|pair| u8::from_str_radix(pair, 16).ok()).collect();
    <[u8; 6]>::try_from(bytes?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_six_bytes() {
        assert_eq!(mac("fe:54:00:00:0a:ff"), Some([0xfe, 0x54, 0, 0, 0x0a, 0xff]));
        assert!(mac("fe:54").is_none() && mac("fe:54:00:00:0a:fg").is_none());
    }

    #[test]
    fn attributes_are_nested_as_the_kernel_reads_them() {
        // linux/if_link.h: IFLA_LINKINFO is 18, IFLA_INFO_KIND 1, IFLA_INFO_DATA 2; each is filled up to four bytes.
        let link = Link::default().macvtap(7, 4);
        let info = link.attributes.last().unwrap();
        let mut bytes = vec![0; info.buffer_len()];
        info.emit(&mut bytes);
        let expected: Vec<u8> =
            [&[28, 0, 18, 0x80][..], &[12, 0, 1, 0], b"macvtap\0", &[12, 0, 2, 0x80], &[8, 0, 1, 0, 4, 0, 0, 0]]
                .concat();
        assert_eq!(bytes, expected);
    }
}
