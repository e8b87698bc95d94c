//! IPv4 networks: `"192.168.77.0/24"`.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use super::{ParseUnitError, as_string};

/// An IPv4 network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet {
    /// Its first address.
    network: Ipv4Addr,
    /// How many bits all its addresses share.
    prefix: u8,
}

impl Subnet {
    /// The network of an address and a number of bits; `None` if there are no such many.
    pub fn of(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        (prefix <= 32).then(|| Self { network: Ipv4Addr::from_bits(address.to_bits() & mask(prefix)), prefix })
    }

    /// The 256 addresses that begin with these numbers.
    pub const fn of_256([a, b, c]: [u8; 3]) -> Self {
        Self { network: Ipv4Addr::new(a, b, c, 0), prefix: 24 }
    }

    /// How many bits all its addresses share.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Its address of this number, or its last one if there are fewer.
    pub fn host(self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() | number.min(!mask(self.prefix)))
    }

    /// Its last address, which stands for all.
    pub fn broadcast(self) -> Ipv4Addr {
        self.host(u32::MAX)
    }

    /// How many addresses it has for hosts.
    pub fn hosts(self) -> u32 {
        (!mask(self.prefix)).saturating_sub(1)
    }

    /// The number of the last address that DHCP gives to anybody; those after it are kept, each for one card.
    pub fn last_given(self) -> u32 {
        self.hosts() / 2
    }

    /// Whether they share an address.
    pub fn overlaps(self, other: Self) -> bool {
        let shared = mask(self.prefix.min(other.prefix));
        self.network.to_bits() & shared == other.network.to_bits() & shared
    }
}

/// The bits of a network.
fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or_default()
}

impl FromStr for Subnet {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.trim().split_once('/');
        let read = parts.and_then(|(address, prefix)| Some((address.parse().ok()?, prefix.parse().ok()?)));
        // What the bits beyond the prefix would mean is not clear.
        let subnet =
            read.and_then(|(address, prefix)| Self::of(address, prefix).filter(|subnet| subnet.network == address));
        subnet.ok_or_else(|| ParseUnitError {
            read: text.to_owned(),
            what: "an IPv4 network",
            allowed: "write its first address and the number of its bits, such as \"192.168.77.0/24\"",
        })
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

as_string!(Subnet, "Subnet", "An IPv4 network, such as \"192.168.77.0/24\"", r"^\s*[0-9]+(\.[0-9]+){3}/[0-9]+\s*$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_whole_and_written_back() {
        for text in ["192.168.77.0/24", "10.0.0.0/8", "0.0.0.0/0", "10.1.2.3/32"] {
            assert_eq!(text.parse::<Subnet>().unwrap().to_string(), text);
        }
        for text in ["192.168.77.1/24", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "::/0", ""] {
            assert!(text.parse::<Subnet>().is_err(), "{text}");
        }
        let subnet: Subnet = "192.168.77.0/24".parse().unwrap();
        assert_eq!((subnet.host(1).to_string(), subnet.hosts()), ("192.168.77.1".to_owned(), 254));
        assert_eq!(subnet.broadcast().to_string(), "192.168.77.255");
    }

    #[test]
    fn networks_overlap_if_one_is_in_the_other() {
        let overlap = |a: &str, b: &str| a.parse::<Subnet>().unwrap().overlaps(b.parse().unwrap());
        assert!(overlap("10.0.0.0/8", "10.1.0.0/16") && overlap("10.1.0.0/16", "10.0.0.0/8"));
        assert!(overlap("0.0.0.0/0", "10.1.0.0/16"));
        assert!(!overlap("10.1.0.0/16", "10.2.0.0/16"));
    }
}
