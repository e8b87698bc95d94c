//! The one client for the kernel's network interfaces: it makes, sets and removes them over rtnetlink(7).
//!
//! Of the crates for netlink only the framing is used: those that type every attribute of every kind of interface are fifty
//! thousand lines, and a runtime, for the few messages here. What is there is read from sysfs (`host::network`).

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use netlink_packet_core::{
    DefaultNla, Emitable as _, NLM_F_ACK, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
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
