//! The network that machines share.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use crate::units::Subnet;

/// The shared network could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Another machine has made it with other addresses.
    #[error(
        "another machine has made the shared network with {found}, not with {wanted}; leave `subnet` out, or end that one"
    )]
    OtherSubnet {
        /// What this machine wants.
        wanted: Subnet,
        /// What is there.
        found: Subnet,
    },
    /// An interface of its name is there that no machine has made.
    #[error("there is a network interface {name} already; `ip link del {name}` removes it")]
    Taken {
        /// The interface.
        name: String,
    },
    /// The address that its card's MAC address leads to is that of another machine's guest.
    #[error(
        "the guest of {machine} has {address} in the shared network, to which this machine's `mac` leads as well; write \
         another `mac`"
    )]
    AddressTaken {
        /// The address.
        address: Ipv4Addr,
        /// The other machine.
        machine: String,
    },
    /// A port of the host's leads to another machine's guest.
    #[error("{protocol} port {port} of the host leads to the guest of {machine}; name another, or end that machine")]
    PortTaken {
        /// `tcp` or `udp`.
        protocol: &'static str,
        /// The port.
        port: u16,
        /// The other machine.
        machine: String,
    },
    /// Another launcher makes or removes it and does not come to an end.
    #[error("another launcher has been making or removing the shared network for a minute")]
    Busy,
    /// A program refused.
    #[error("{}: {why}", program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// What it said.
        why: String,
    },
}
