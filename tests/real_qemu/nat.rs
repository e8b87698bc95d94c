//! The network that machines share. The program runs in a network namespace that stands for the host; another one is the
//! world outside, which knows no way back to the guests' addresses; and since the guest of these tests has no network of its
//! own, a third one stands for it, on the same bridge and with the same MAC address.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::launcher::{Launcher, wait_for};
use super::talk::Serial;
use super::world::{World, each_as_root};

const MAC: &str = "52:54:00:0a:0b:0d";

/// The tests that make the network, of which a host has one, one after the other.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|e| e.into_inner())
}

/// The namespaces, which go with it.
pub struct Spaces {
    /// The name of the one that stands for the host.
    pub host: String,
    outside: String,
    guest: String,
}

impl Spaces {
    /// Makes them, and an uplink `up0` of the host's.
    pub fn new(world: &World) -> Self {
        let [host, outside, guest] = ["host", "outside", "guest"].map(|what| format!("{}-{what}", world.name));
        let spaces = Self { host, outside, guest };
        for space in [&spaces.host, &spaces.outside, &spaces.guest] {
            ip(&format!("netns add {space}"));
            ip(&format!("-n {space} link set lo up"));
        }
        ip(&format!("-n {} link add up0 type veth peer name up1 netns {}", spaces.host, spaces.outside));
        for (space, link, number) in [(&spaces.host, "up0", 1), (&spaces.outside, "up1", 2)] {
            ip(&format!("-n {space} address add 203.0.113.{number}/24 dev {link}"));
            ip(&format!("-n {space} link set {link} up"));
        }
        ip(&format!("-n {} route add default via 203.0.113.2", spaces.host));
        spaces
    }

    /// Puts the guest's stand-in on the bridge and has it ask for an address by DHCP; that address.
    fn plug_in(&self, world: &World) -> String {
        ip(&format!("-n {} link add port0 type veth peer name eth0 netns {}", self.host, self.guest));
        ip(&format!("-n {} link set port0 master vfio-nat up", self.host));
        ip(&format!("-n {} link set eth0 address {MAC} up", self.guest));
        let script = world.file(
            "dhcp",
            "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\nip address add $ip/$mask dev $interface\nip route add default via $router\n\
             echo $ip $dns\n",
        );
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let script = script.to_str().unwrap();
        let asked = wait_for("an address", || {
            let asked =
                within(&self.guest, &["busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "5", "-s", script]);
            asked.status.success().then_some(asked)
        });
        String::from_utf8(asked.stdout).unwrap().lines().last().unwrap().to_owned()
    }

    fn run(&self, world: &World, machine: &Path) -> Launcher {
        let host = ["ip", "netns", "exec", &self.host];
        world.start(world.wrapped(&host, &["run", machine.to_str().unwrap()]))
    }

    /// The interfaces, the firewall's tables and whether packets are passed on: what the program may have changed.
    pub fn state(&self) -> String {
        let links = within(&self.host, &["ip", "-o", "link", "show"]);
        let tables = within(&self.host, &["nft", "list", "tables"]);
        let forwarding = within(&self.host, &["cat", "/proc/sys/net/ipv4/conf/up0/forwarding"]);
        let text = |output: Output| String::from_utf8(output.stdout).unwrap();
        // What was plugged in goes with the bridge's end at the latest.
        let links: Vec<String> = text(links).lines().map(|line| line.split(':').nth(1).unwrap().to_owned()).collect();
        format!("{links:?} {} {}", text(tables), text(forwarding))
    }
}

impl Drop for Spaces {
    fn drop(&mut self) {
        for space in [&self.host, &self.outside, &self.guest] {
            drop(Command::new("ip").args(["netns", "del", space]).output());
        }
    }
}

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

fn within(space: &str, command: &[&str]) -> Output {
    Command::new("ip").args(["netns", "exec", space]).args(command).output().unwrap()
}

/// The dnsmasq of the shared network, wherever it runs.
fn dnsmasq() -> bool {
    Path::new("/run/vfio-run/.nat/dnsmasq.pid").exists()
}

fn reaches(space: &str, address: &str) -> bool {
    within(space, &["busybox", "ping", "-c", "1", "-w", "5", address]).status.success()
}

#[test]
#[ignore = "needs root, dnsmasq, nft, and a kernel with bridges and network namespaces"]
fn machines_share_a_network_with_addresses_names_and_forwards_until_the_last_has_ended() {
    let _alone = alone();
    each_as_root(|world| {
        let spaces = Spaces::new(world);
        let before = spaces.state();
        let card =
            format!("backend: Nat, subnet: \"10.77.0.0/24\", mac: \"{MAC}\", forward: [\"2222:22\"], model: E1000");
        let machine = world.machine(&format!("networks: [({card})]"));
        let mut first = spaces.run(world, &machine);
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        first.tells(" runs (");

        let leased = spaces.plug_in(world);
        let (address, names) = leased.split_once(' ').unwrap();
        assert!(address.starts_with("10.77.0.") && names == "10.77.0.1", "{leased}");
        assert!(reaches(&spaces.guest, "10.77.0.1"), "the host");
        assert!(reaches(&spaces.guest, "203.0.113.2"), "the world outside, by the host's address");
        assert!(!reaches(&spaces.outside, address));
        let listen = ["ip", "netns", "exec", &spaces.guest, "busybox", "nc", "-l", "-p", "22", "-e", "echo", "welcome"];
        let mut server = Command::new(listen[0]).args(&listen[1..]).spawn().unwrap();
        let answer = wait_for("the forward", || {
            let asked = within(&spaces.outside, &["busybox", "nc", "-w", "5", "203.0.113.1", "2222"]);
            Some(asked.stdout).filter(|answer| !answer.is_empty())
        });
        assert_eq!(answer, b"welcome\n");
        server.wait().unwrap();

        // The second machine stays when the first one ends, and its launcher is killed.
        let name = format!("{}b", world.name);
        let text = std::fs::read_to_string(&machine).unwrap().replace(&world.name, &name);
        let other = text
            .replace(&format!("mac: \"{MAC}\", forward: [\"2222:22\"], "), "")
            .replace("serial: Socket", "serial: None");
        let other = world.file("other.ron", other);
        let mut second = spaces.run(world, &other);
        second.tells(" runs (");
        guest.type_in("q");
        assert_eq!(first.ended().code, Some(0));
        assert!(dnsmasq() && reaches(&spaces.guest, "203.0.113.2"));
        second.signal(Signal::SIGKILL);
        assert_eq!(second.ended().code, None);
        let journal = std::fs::read_to_string(format!("/run/vfio-run/{name}/journal")).unwrap();
        let records = journal.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let qemu = records.filter_map(|record| record["started"]["pid"].as_i64()).next_back().unwrap();
        kill(Pid::from_raw(i32::try_from(qemu).unwrap()), Signal::SIGKILL).unwrap();
        let recover =
            || world.start(world.wrapped(&["ip", "netns", "exec", &spaces.host], &["recover", &name])).ended();
        wait_for("the recovery", || (recover().code == Some(0)).then_some(()));
        assert!(!dnsmasq() && !PathBuf::from("/run/vfio-run/.nat").exists());
        ip(&format!("-n {} link del port0", spaces.host));
        assert_eq!(spaces.state(), before);
    });
}
