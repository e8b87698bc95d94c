//! Ports of the host that lead to the guest: `"8080:80"`, `"udp 127.0.0.1:5000:5001"`, `"tcp 6000-6010"`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{ParseUnitError, as_string};

/// Ports of the host that lead to ports of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// The protocol.
    pub protocol: Protocol,
    /// The host's address that they are on; `None`: all.
    pub address: Option<IpAddr>,
    /// The first port on the host, not 0.
    pub host: u16,
    /// The first port in the guest, not 0.
    pub guest: u16,
    /// How many ports there are, from these on; at least 1, and none is above 65535.
    pub count: u16,
}

/// The protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Its name in lower case, as QEMU, nftables and this program's files have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl Forward {
    /// The last port on the host.
    pub fn host_last(&self) -> u16 {
        self.host + (self.count - 1)
    }

    /// The last port in the guest.
    pub fn guest_last(&self) -> u16 {
        self.guest + (self.count - 1)
    }

    /// The single ports: that of the host, that of the guest.
    pub fn ports(&self) -> impl Iterator<Item = (u16, u16)> {
        (self.host..=self.host_last()).zip(self.guest..=self.guest_last())
    }

    /// The first port of the host that this port or range meets, on an address that both have.
    pub fn meets(&self, protocol: Protocol, address: Option<IpAddr>, first: u16, last: u16) -> Option<u16> {
        let any = |address: Option<IpAddr>| address.is_none_or(|address| address.is_unspecified());
        let on = any(self.address) || any(address) || self.address == address;
        let (from, to) = (self.host.max(first), self.host_last().min(last));
        (protocol == self.protocol && on && from <= to).then_some(from)
    }
}

/// `80` or `80-90`: the first port and how many.
fn ports(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port =
        |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0 && text.bytes().all(|b| b.is_ascii_digit()));
    let (first, last) = (port(first)?, port(last)?);
    // A range of all ports has 65535, which fits: 0 is none.
    Some((first, last.checked_sub(first)? + 1))
}

/// `[ADDRESS:]REST`; the address of IPv6 in brackets.
fn address(text: &str) -> Option<(Option<IpAddr>, &str)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once("]:")?;
        return Some((Some(IpAddr::V6(address.parse().ok()?)), rest));
    }
    match text.split_once(':') {
        Some((first, rest)) if first.contains('.') => Some((Some(IpAddr::V4(first.parse().ok()?)), rest)),
        _ => Some((None, text)),
    }
}

impl FromStr for Forward {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let text = text.trim();
            let (protocol, rest) = match text.split_once(|c: char| c.is_ascii_whitespace()) {
                Some((name, rest)) if name.eq_ignore_ascii_case("tcp") => (Protocol::Tcp, rest.trim_start()),
                Some((name, rest)) if name.eq_ignore_ascii_case("udp") => (Protocol::Udp, rest.trim_start()),
                Some(_) => return None,
                None => (Protocol::Tcp, text),
            };
            let (address, rest) = address(rest)?;
            let (host, guest) = rest.split_once(':').unwrap_or((rest, rest));
            let ((host, count), (guest, guests)) = (ports(host)?, ports(guest)?);
            (count == guests).then_some(Self { protocol, address, host, guest, count })
        };
        parse().ok_or_else(|| ParseUnitError {
            read: text.to_owned(),
            what: "a port of the host that leads to the guest",
            allowed: "write HOST:GUEST or one port for both, from 1 to 65535, such as \"8080:80\", \"udp 5000-5010\" or \"tcp 127.0.0.1:2222:22\"",
        })
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.protocol.name())?;
        match self.address {
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            Some(address) => write!(f, "{address}:")?,
            None => {}
        }
        let range = |first: u16, last: u16| if first == last { first.to_string() } else { format!("{first}-{last}") };
        write!(f, "{}", range(self.host, self.host_last()))?;
        if self.guest != self.host {
            write!(f, ":{}", range(self.guest, self.guest_last()))?;
        }
        Ok(())
    }
}

as_string!(
    Forward,
    "Forward",
    "Ports of the host that lead to the guest, such as \"8080:80\", \"udp 5000-5010\" or \"tcp 127.0.0.1:2222:22\"",
    r"^\s*((tcp|udp)\s+)?([0-9.]+:|\[[0-9a-fA-F:.]+\]:)?[0-9]{1,5}(-[0-9]{1,5})?(:[0-9]{1,5}(-[0-9]{1,5})?)?\s*$"
);

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(text: &str) -> Forward {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn each_form_is_read_and_written_back() {
        for (text, written) in [
            ("tcp 3389", "tcp 3389"),
            ("8080:80", "tcp 8080:80"),
            (" UDP  5000:5001 ", "udp 5000:5001"),
            ("127.0.0.1:2222:22", "tcp 127.0.0.1:2222:22"),
            ("udp 127.0.0.1:53", "udp 127.0.0.1:53"),
            ("tcp [::1]:2222:22", "tcp [::1]:2222:22"),
            ("6000-6010:7000-7010", "tcp 6000-6010:7000-7010"),
            ("1-65535", "tcp 1-65535"),
        ] {
            let read = forward(text);
            assert_eq!(read.to_string(), written);
            assert_eq!(forward(written), read);
        }
        assert_eq!(forward("6000-6001:7000-7001").ports().collect::<Vec<_>>(), [(6000, 7000), (6001, 7001)]);
    }

    #[test]
    fn what_leads_nowhere_is_refused() {
        for text in [
            "",
            "tcp",
            "0",
            "80:0",
            "65536",
            "sctp 80",
            "80:81:82",
            "80-79",
            "80-90:80-91",
            "+80",
            "a:80",
            "1.2.3:80",
            "::1:80",
            "[::1]80",
            "80:",
            "-",
            "80-",
        ] {
            assert!(text.parse::<Forward>().is_err(), "{text}");
        }
    }

    #[test]
    fn ports_meet_on_an_address_that_both_have() {
        let web = forward("127.0.0.1:8080-8090:80-90");
        let other: IpAddr = "192.0.2.1".parse().unwrap();
        let meets = |protocol, address, first, last| web.meets(protocol, address, first, last);
        assert_eq!(meets(Protocol::Tcp, None, 1, 8081), Some(8080));
        assert_eq!(meets(Protocol::Tcp, web.address, 8085, 8085), Some(8085));
        assert_eq!(meets(Protocol::Tcp, Some("0.0.0.0".parse().unwrap()), 8090, 9000), Some(8090));
        assert_eq!(meets(Protocol::Udp, None, 8080, 8080), None);
        assert_eq!(meets(Protocol::Tcp, Some(other), 8080, 8080), None);
        assert_eq!(meets(Protocol::Tcp, None, 8091, 9000), None);
    }
}
