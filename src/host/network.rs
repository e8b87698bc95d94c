//! The host's network interfaces: sysfs-class-net of the kernel's ABI documentation; `tun_flags`, `owner` and `group` are
//! those of `drivers/net/tun.c`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Root;
use crate::units::Subnet;

const FOLDER: &str = "/sys/class/net";
/// More interfaces than these are not looked at.
const MAX: usize = 1024;
/// `IFF_UP` of netdevice(7).
const UP: u32 = 1;

/// The host's network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The interfaces by name.
    pub interfaces: BTreeMap<String, Interface>,
    /// The IPv4 routes of the main table.
    #[serde(default)]
    pub routes: Vec<Route>,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where it leads; the default route leads to all addresses.
    pub subnet: Subnet,
    /// By which interface.
    pub interface: String,
}

/// One network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its number.
    pub index: u32,
    /// What it is.
    pub kind: InterfaceKind,
    /// Whether it was set up (`ip link set … up`); it may have no cable.
    pub up: bool,
    /// Its MAC address, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The largest packet that it sends, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The bridge or bond that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<String>,
}

/// What an interface is, as far as plans ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InterfaceKind {
    /// A bridge.
    Bridge,
    /// A tap or tun device.
    Tun {
        /// How it was made.
        flags: TunFlags,
        /// The user who may open it; `None`: no user is named.
        owner: Option<u32>,
        /// The group that may open it; `None`: no group is named.
        group: Option<u32>,
    },
    /// A wireless card.
    Wireless,
    /// The loopback interface.
    Loopback,
    /// Another Ethernet interface.
    Ethernet,
    /// Anything else: it carries no Ethernet frames.
    Other,
}

/// The flags of a tun device, as `ip tuntap` sets them (`linux/if_tun.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunFlags(pub u32);

impl TunFlags {
    /// Whether it carries Ethernet frames.
    pub fn is_tap(self) -> bool {
        self.0 & 0x2 != 0
    }

    /// Whether it has more than one queue.
    pub fn has_queues(self) -> bool {
        self.0 & 0x100 != 0
    }
}

impl Network {
    /// Reads all interfaces; those that vanish meanwhile are left out.
    pub fn read(root: &Root) -> Self {
        let names = root.names(FOLDER).into_iter().take(MAX);
        let interfaces = names.filter_map(|name| Some((name.clone(), Interface::read(root, &name)?))).collect();
        let routes = root.text("/proc/net/route").unwrap_or_default();
        Self { interfaces, routes: routes.lines().skip(1).take(MAX).filter_map(Route::parse).collect() }
    }
}

impl Route {
    /// A line of `/proc/net/route` (`fib_route_seq_show()` in the kernel's `net/ipv4/fib_trie.c`): interface, destination,
    /// gateway, flags, three counts, mask. Addresses are numbers in hexadecimal, in this machine's order of bytes.
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| u32::from_str_radix(words.get(at)?, 16).ok().map(u32::from_be);
        let prefix = u8::try_from(number(7)?.leading_ones()).ok()?;
        Some(Self { subnet: Subnet::of(number(1)?.into(), prefix)?, interface: (*words.first()?).to_owned() })
    }
}

impl Interface {
    fn read(root: &Root, name: &str) -> Option<Self> {
        let at = |file: &str| format!("{FOLDER}/{name}/{file}");
        let flags = root.text_up_to(at("flags"), 64)?;
        let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16).ok()?;
        let address = root.text_up_to(at("address"), 64).filter(|address| !address.is_empty());
        Some(Self {
            index: root.parse(at("ifindex"))?,
            kind: Self::kind(root, &at),
            up: flags & UP != 0,
            address,
            mtu: root.parse(at("mtu")),
            master: root.link(at("master")),
        })
    }

    fn kind(root: &Root, at: &dyn Fn(&str) -> String) -> InterfaceKind {
        let is_there = |file: &str| root.path(at(file)).exists();
        if let Some(flags) = root.text_up_to(at("tun_flags"), 64) {
            let flags = TunFlags(u32::from_str_radix(flags.trim_start_matches("0x"), 16).unwrap_or_default());
            // -1 stands for nobody.
            let id = |file: &str| root.parse::<i64>(at(file)).and_then(|id| u32::try_from(id).ok());
            return InterfaceKind::Tun { flags, owner: id("owner"), group: id("group") };
        }
        match root.parse::<u32>(at("type")) {
            _ if is_there("bridge") => InterfaceKind::Bridge,
            _ if is_there("wireless") || is_there("phy80211") => InterfaceKind::Wireless,
            // ARPHRD_ETHER, ARPHRD_LOOPBACK of `linux/if_arp.h`.
            Some(1) => InterfaceKind::Ethernet,
            Some(772) => InterfaceKind::Loopback,
            _ => InterfaceKind::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_told_apart_by_what_sysfs_has_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let put = |name: &str, files: &[(&str, &str)]| {
            for (file, text) in files {
                let path = root.path(format!("{FOLDER}/{name}/{file}"));
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
        };
        put(
            "lo",
            &[("flags", "0x9"), ("ifindex", "1"), ("type", "772"), ("address", "00:00:00:00:00:00"), ("mtu", "65536")],
        );
        put("br0", &[("flags", "0x1003"), ("ifindex", "3"), ("type", "1"), ("bridge/stp_state", "0"), ("mtu", "9000")]);
        put("eth0", &[("flags", "0x1002"), ("ifindex", "2"), ("type", "1"), ("address", "52:54:00:00:00:01\n")]);
        put("wlan0", &[("flags", "0x1003"), ("ifindex", "4"), ("type", "1"), ("wireless/status", "")]);
        let tun = [("flags", "0x1002"), ("ifindex", "5"), ("type", "1"), ("tun_flags", "0x5102"), ("owner", "1000")];
        put("tap0", &tun);
        put("tap0", &[("group", "-1")]);
        put("torn", &[("flags", "?"), ("ifindex", "9")]);
        std::os::unix::fs::symlink("../br0", root.path(format!("{FOLDER}/eth0/master"))).unwrap();

        let routes = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
                      eth0 00000000 0102000A 0003 0 0 0 00000000 0 0 0\nbr0 0000A8C0 00000000 0001 0 0 0 0000FFFF 0 0 0\ntorn";
        std::fs::create_dir_all(root.path("/proc/net")).unwrap();
        std::fs::write(root.path("/proc/net/route"), routes).unwrap();

        let network = Network::read(&root);
        let routes: Vec<_> = network.routes.iter().map(|r| format!("{} {}", r.interface, r.subnet)).collect();
        assert_eq!(routes, ["eth0 0.0.0.0/0", "br0 192.168.0.0/16"]);
        let of = |name: &str| &network.interfaces[name];
        assert_eq!(network.interfaces.len(), 5);
        let kinds = ["lo", "br0", "eth0", "wlan0"].map(|name| of(name).kind);
        use InterfaceKind::{Bridge, Ethernet, Loopback, Wireless};
        assert_eq!(kinds, [Loopback, Bridge, Ethernet, Wireless]);
        assert!(of("br0").up && !of("eth0").up && of("br0").mtu == Some(9000));
        assert_eq!(
            (of("eth0").master.as_deref(), of("eth0").address.as_deref()),
            (Some("br0"), Some("52:54:00:00:00:01"))
        );
        let InterfaceKind::Tun { flags, owner, group } = of("tap0").kind else { panic!("{:?}", of("tap0")) };
        assert!(flags.is_tap() && flags.has_queues());
        assert_eq!((owner, group), (Some(1000), None));
        let text = serde_json::to_string(&network).unwrap();
        assert_eq!(serde_json::from_str::<Network>(&text).unwrap(), network);
    }
}
