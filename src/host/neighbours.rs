//! Whom the host has spoken to on its networks: IPv4 addresses by hardware address.

use std::net::Ipv4Addr;

use super::Root;

/// The kernel's table (proc_net(5): `net/arp`), and how much of it is read.
const TABLE: &str = "/proc/net/arp";
const LIMIT: usize = 1 << 20;

/// The addresses that a card of this hardware address answers to, as far as the host knows. The kernel forgets them after a while.
pub fn addresses(root: &Root, mac: &str) -> Vec<Ipv4Addr> {
    let table = root.text_up_to(TABLE, LIMIT).unwrap_or_default();
    let rows = table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (address, _, flags, its) = (words.next()?, words.next()?, words.next()?, words.next()?);
        // Without `ATF_COM` nobody has answered.
        let answered = u32::from_str_radix(flags.strip_prefix("0x")?, 16).ok()? & 2 != 0;
        (answered && its.eq_ignore_ascii_case(mac)).then_some(address)?.parse().ok()
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_that_has_answered_is_found() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("proc/net")).unwrap();
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                     192.168.177.9    0x1         0x2         52:54:00:aa:BB:01     *        vfio-run0\n\
                     192.168.177.10   0x1         0x0         52:54:00:aa:bb:01     *        vfio-run0\n\
                     nonsense\n\
                     10.0.0.1         0x1         0x2         02:00:00:00:00:01     *        eth0\n";
        std::fs::write(folder.path().join("proc/net/arp"), table).unwrap();
        let root = Root::new(folder.path());
        assert_eq!(addresses(&root, "52:54:00:AA:bb:01"), [Ipv4Addr::new(192, 168, 177, 9)]);
        assert_eq!(addresses(&root, "52:54:00:00:00:00"), [Ipv4Addr::UNSPECIFIED; 0]);
        assert_eq!(addresses(&Root::new(folder.path().join("none")), "52:54:00:00:00:00"), [Ipv4Addr::UNSPECIFIED; 0]);
    }
}
