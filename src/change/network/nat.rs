//! Join the network that the machines of this host share: a bridge with an address, whose packets leave by the host's other
//! interfaces under the host's address (NAT), with DHCP and names by dnsmasq.
//!
//! The first machine makes it, the last one removes it. Who uses it, and what was there before, stands in a folder beside the
//! run directories (`state`), which is written before the host is touched; so any machine's undo can be the last, after any
//! crash. A machine counts for as long as it has a journal.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::dnsmasq::Dnsmasq;
use super::found::Link;
use super::guest::NatGuest;
use super::nft;
use super::shared::{Shared, State};
use crate::change::error::{ChangeError, FileError, NetworkError};
use crate::change::file;
use crate::change::record::{Nothing, Undone};
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::host::Root;
use crate::netlink::{self, Netlink};
use crate::units::Subnet;

/// Join the network that the machines of this host share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nat {
    /// The machine.
    pub machine: String,
    /// The machine's run directory.
    pub run: PathBuf,
    /// The network's addresses; the bridge has the first.
    pub subnet: Subnet,
    /// The interfaces by which packets leave.
    pub uplinks: Vec<String>,
    /// The guest, if ports of the host's lead to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<Box<NatGuest>>,
    /// The program `dnsmasq`.
    pub dnsmasq: PathBuf,
    /// The program `nft`.
    pub nft: PathBuf,
}

impl Nat {
    /// The bridge.
    pub const BRIDGE: &str = "vfio-nat";
    /// The bridge's own address: a bridge without one takes its first port's, and changes it with its ports.
    const ADDRESS: &str = "52:54:00:76:66:6e";
    /// The table of the firewall that all machines share.
    const TABLE: &str = "vfio-run";
}

impl Step for Nat {
    type Before = Nothing;

    fn nature(&self) -> Nature {
        Nature::PREPARES
    }

    /// What was there before stands in the shared folder, since another machine may have changed it.
    fn capture(&self, _: &Root) -> Result<Nothing, ChangeError> {
        Ok(Nothing::Nothing)
    }

    fn apply(&self, root: &Root, _: &Nothing, _: Progress<'_>) -> Result<(), ChangeError> {
        let shared = Shared::lock(root, &self.run)?;
        let found = shared.state()?;
        if let Some(other) = found.as_ref().filter(|state| state.subnet != self.subnet) {
            if shared.has_others(&self.machine) {
                return Err(NetworkError::OtherSubnet { wanted: self.subnet, found: other.subnet }.into());
            }
            // Machines that are gone have left it.
            self.remove(root, &shared, other)?;
        }
        let known = found.filter(|state| state.subnet == self.subnet);
        if known.is_none() && Link::read(root, Self::BRIDGE).is_some() {
            return Err(NetworkError::Taken { name: Self::BRIDGE.to_owned() }.into());
        }
        let mut state = known.unwrap_or_else(|| State { subnet: self.subnet, forwarding: Vec::new() });
        if let Some(guest) = self.guest.as_deref() {
            for (machine, other) in shared.others(&self.machine) {
                other.map_or(Ok(()), |other| guest.beside(&machine, &other))?;
            }
        }
        shared.join(&self.machine, self.guest.as_deref())?;
        // What was there before is kept before anything is made.
        for interface in &self.uplinks {
            if state.forwarding.iter().all(|(known, _)| known != interface)
                && let Ok(old) = file::read(root, &forwarding(interface))
            {
                state.forwarding.push((interface.clone(), old));
            }
        }
        shared.keep(&state)?;
        self.make(root, &shared, &state)
    }

    fn undo(&self, root: &Root, _: &Nothing) -> Result<Undone, ChangeError> {
        if !Shared::exists(root, &self.run) {
            return Ok(Undone::AlreadyBack);
        }
        let shared = Shared::lock(root, &self.run)?;
        // It may have got no further than the folder, or have died while it removed that.
        let (joined, is_last) = (shared.has(&self.machine), !shared.has_others(&self.machine));
        if joined && root.is_real() {
            nft::remove(&self.nft, &self.own_table())?;
        }
        if is_last {
            if let Some(state) = shared.state()? {
                self.remove(root, &shared, &state)?;
            }
            shared.remove()?;
        } else if joined {
            shared.leave(&self.machine)?;
        }
        Ok(if joined { Undone::Restored } else { Undone::AlreadyBack })
    }

    fn lock_files(&self, _: &Nothing) -> Vec<PathBuf> {
        Vec::new()
    }

    /// The bridge stays if another machine uses it, so it tells nothing.
    fn observe(&self, _: &Root) -> Vec<Observed> {
        Vec::new()
    }
}

impl Nat {
    /// Makes what is not there yet.
    fn make(&self, root: &Root, shared: &Shared, state: &State) -> Result<(), ChangeError> {
        let folder = Link::folder(Self::BRIDGE);
        let failed = FileError::io("make", &folder);
        if !root.is_real() {
            if Link::read(root, Self::BRIDGE).is_none() {
                Link::make_fake(root, Self::BRIDGE, Self::ADDRESS, None)?;
            }
            return Ok(());
        }
        if Link::read(root, Self::BRIDGE).is_none() {
            let address = netlink::mac(Self::ADDRESS).unwrap_or_default();
            let link = netlink::Link::default().name(Self::BRIDGE).address(address).bridge();
            Netlink::open().and_then(|mut kernel| kernel.make(link)).map_err(&failed)?;
        }
        let Some(bridge) = Link::read(root, Self::BRIDGE) else {
            return Err(failed(std::io::ErrorKind::NotFound.into()).into());
        };
        let set = |mut kernel: Netlink| {
            kernel.add_address(bridge.index, self.subnet.host(1), self.subnet.prefix(), self.subnet.broadcast())?;
            kernel.set(bridge.index, netlink::Link::default().up())
        };
        Netlink::open().and_then(set).map_err(&failed)?;
        for interface in state.forwarding.iter().map(|(interface, _)| interface.as_str()).chain([Self::BRIDGE]) {
            file::write(root, &forwarding(interface), "1")?;
        }
        nft::set(&self.nft, Self::TABLE, &self.rules())?;
        nft::set(&self.nft, &self.own_table(), &self.own_rules())?;
        let dnsmasq = Dnsmasq { program: &self.dnsmasq, folder: shared.folder() };
        dnsmasq.keep_address(&self.machine, self.guest.as_ref().map(|guest| (guest.mac.as_str(), guest.address)))?;
        Ok(dnsmasq.start(root, Self::BRIDGE, self.subnet)?)
    }

    /// Removes all that the machines share, and puts back what was there before.
    fn remove(&self, root: &Root, shared: &Shared, state: &State) -> Result<(), ChangeError> {
        if root.is_real() {
            Dnsmasq { program: &self.dnsmasq, folder: shared.folder() }.stop(root)?;
            nft::remove(&self.nft, Self::TABLE)?;
        }
        for (interface, old) in &state.forwarding {
            let path = forwarding(interface);
            // An interface that is gone took its setting with it; what another program has set since is that one's.
            if file::read(root, &path).is_ok_and(|found| found == "1" && found != *old) {
                file::write(root, &path, old)?;
            }
        }
        if let Some(bridge) = Link::read(root, Self::BRIDGE).filter(|bridge| bridge.address == Self::ADDRESS) {
            bridge.remove(root, Self::BRIDGE)?;
        }
        Ok(())
    }

    /// The table of the machine's own rules.
    fn own_table(&self) -> String {
        format!("{}-{}", Self::TABLE, self.machine)
    }

    /// What leaves has the host's address; what comes in from outside comes as an answer, or by a forward. What guests send to
    /// one another does not pass here.
    fn rules(&self) -> String {
        let (bridge, subnet) = (Self::BRIDGE, self.subnet);
        format!(
            "chain postrouting {{ type nat hook postrouting priority srcnat;\n\
             ip saddr {subnet} ip daddr != {subnet} ip daddr != 224.0.0.0/4 masquerade\n}}\n\
             chain forward {{ type filter hook forward priority filter;\n\
             iifname {bridge} ip saddr {subnet} accept\noifname {bridge} ct status dnat accept\n\
             oifname {bridge} ct state established,related accept\niifname {bridge} drop\noifname {bridge} drop\n}}\n"
        )
    }

    /// The forwards, of packets from elsewhere and of the host's own.
    fn own_rules(&self) -> String {
        let Some(guest) = &self.guest else { return String::new() };
        let (address, mut rules) = (guest.address, String::new());
        for chain in ["prerouting", "output"] {
            // The priority has a name (dstnat) in the first of the two only.
            rules.push_str(&format!("chain {chain} {{ type nat hook {chain} priority -100;\n"));
            for forward in &guest.forward {
                let protocol = forward.protocol.name();
                let to = forward
                    .address
                    .filter(|host| !host.is_unspecified())
                    .map_or_else(|| "fib daddr type local".to_owned(), |host| format!("ip daddr {host}"));
                for (host, port) in forward.ports() {
                    rules.push_str(&format!(
                        "ip daddr != 127.0.0.0/8 {to} {protocol} dport {host} dnat to {address}:{port}\n"
                    ));
                }
            }
            rules.push_str("}\n");
        }
        rules
    }
}

/// The file that says whether packets that come in by this interface may go on.
fn forwarding(interface: &str) -> PathBuf {
    Path::new("/proc/sys/net/ipv4/conf").join(interface).join("forwarding")
}

impl fmt::Display for Nat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "join the shared network {} ({}), or make it", self.subnet, Self::BRIDGE)?;
        match &self.guest {
            Some(guest) => write!(f, "; the guest has {} there", guest.address),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::unattended;

    /// A machine's place in the network; its journal is there, as it is when a change is made.
    fn machine(root: &Root, name: &str, forward: &str) -> Nat {
        let run = PathBuf::from("/run/vfio-run").join(name);
        std::fs::create_dir_all(root.path(&run)).unwrap();
        std::fs::write(root.path(run.join("journal")), "").unwrap();
        let last = u8::try_from(name.len()).unwrap();
        let guest = NatGuest {
            mac: format!("52:54:00:00:00:0{last}"),
            address: [10, 0, 0, last].into(),
            forward: vec![forward.parse().unwrap()],
        };
        Nat {
            machine: name.to_owned(),
            run,
            subnet: "10.0.0.0/24".parse().unwrap(),
            uplinks: Vec::new(),
            guest: Some(Box::new(guest)),
            dnsmasq: "/usr/sbin/dnsmasq".into(),
            nft: "/usr/sbin/nft".into(),
        }
    }

    fn join(root: &Root, nat: &Nat) -> Result<(), String> {
        nat.apply(root, &Nothing::Nothing, &unattended).map_err(|error| error.to_string())
    }

    #[test]
    fn an_address_or_a_port_that_another_machine_has_is_refused_until_that_one_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let first = machine(&root, "first", "8080:80");
        join(&root, &first).unwrap();
        // A machine is not in its own way.
        join(&root, &first).unwrap();
        let port = machine(&root, "second", "8000-9000");
        let words = "tcp port 8080 of the host leads to the guest of first; name another, or end that machine";
        assert_eq!(join(&root, &port).unwrap_err(), words);
        let address = machine(&root, "third", "22");
        let words = "the guest of first has 10.0.0.5 in the shared network, to which this machine's `mac` leads as well; write \
                     another `mac`";
        assert_eq!(join(&root, &address).unwrap_err(), words);
        // What was refused has joined nothing, so its undo takes nothing from the other.
        assert_eq!(port.undo(&root, &Nothing::Nothing).unwrap(), Undone::AlreadyBack);
        assert!(Link::read(&root, Nat::BRIDGE).is_some());
        assert_eq!(first.undo(&root, &Nothing::Nothing).unwrap(), Undone::Restored);
        assert!(Link::read(&root, Nat::BRIDGE).is_none());
        join(&root, &port).unwrap();
        // A machine without a journal is none any more.
        std::fs::remove_file(root.path(port.run.join("journal"))).unwrap();
        join(&root, &first).unwrap();
    }

    #[test]
    fn an_undo_that_was_cut_short_anywhere_leaves_no_folder() {
        for gone in [&["users"][..], &["state"], &["hosts"], &["users", "hosts"], &["users", "hosts", "state", "lock"]]
        {
            let folder = tempfile::tempdir().unwrap();
            let root = Root::new(folder.path());
            let first = machine(&root, "first", "22");
            join(&root, &first).unwrap();
            let shared = root.path("/run/vfio-run/.nat");
            for name in gone {
                let path = shared.join(name);
                if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
            }
            first.undo(&root, &Nothing::Nothing).unwrap();
            assert!(!shared.exists(), "without {gone:?}");
            assert!(gone.contains(&"state") || Link::read(&root, Nat::BRIDGE).is_none(), "without {gone:?}");
        }
    }

    #[test]
    fn ports_lead_to_the_guest_from_the_addresses_that_they_name() {
        let folder = tempfile::tempdir().unwrap();
        let rules = |forward: &str| machine(&Root::new(folder.path()), "first", forward).own_rules();
        assert!(rules("0.0.0.0:8080:80").contains(" fib daddr type local tcp dport 8080 dnat to 10.0.0.5:80\n"));
        assert!(rules("udp 192.0.2.1:53").contains(" ip daddr 192.0.2.1 udp dport 53 dnat to 10.0.0.5:53\n"));
    }
}
