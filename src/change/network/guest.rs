//! A guest of the shared network to which ports of the host's lead.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::change::error::NetworkError;
use crate::units::Forward;

/// A guest to which ports of the host's lead, so its address must stay the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatGuest {
    /// The MAC address of its card.
    pub mac: String,
    /// The IP address that DHCP gives it.
    pub address: Ipv4Addr,
    /// The ports.
    pub forward: Vec<Forward>,
}

impl NatGuest {
    /// Refuses an address or a port that another machine's guest has.
    pub(super) fn beside(&self, machine: &str, other: &Self) -> Result<(), NetworkError> {
        let machine = machine.to_owned();
        if other.address == self.address {
            return Err(NetworkError::AddressTaken { address: self.address, machine });
        }
        let meets = |forward: &Forward| {
            let others = other.forward.iter();
            let port = others
                .filter_map(|other| other.meets(forward.protocol, forward.address, forward.host, forward.host_last()));
            Some((forward.protocol, port.min()?))
        };
        match self.forward.iter().find_map(meets) {
            Some((protocol, port)) => Err(NetworkError::PortTaken { protocol: protocol.name(), port, machine }),
            None => Ok(()),
        }
    }
}
