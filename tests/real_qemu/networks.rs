//! Network cards on a bridge and on tap devices of the host's.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use nix::sys::signal::Signal;

use super::launcher::{Launcher, wait_for};
use super::linux::Linux;
use super::talk::Serial;
use super::world::{World, each_as_root};

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

/// An interface of the test's own, which goes with it.
struct Interface(String);

impl Interface {
    fn new(world: &World, letter: char, made: impl Fn(&str) -> String) -> Self {
        let name = format!("{letter}{}", world.name);
        ip(&made(&name));
        let own = Self(name);
        ip(&format!("link set {} up", own.0));
        own
    }

    fn file(&self, name: &str) -> String {
        read(&self.path().join(name))
    }

    fn path(&self) -> PathBuf {
        Path::new("/sys/class/net").join(&self.0)
    }

    /// The launcher's tap devices that are its ports.
    fn ports(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.path().join("brif")).unwrap().flatten();
        let names = entries.map(|entry| entry.file_name()).filter(|name| name.to_string_lossy().starts_with("vfio-"));
        let mut ports: Vec<_> = names.map(|name| Path::new("/sys/class/net").join(name)).collect();
        ports.sort();
        ports
    }
}

impl Drop for Interface {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["link", "del", &self.0]).output());
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

#[test]
#[ignore = "needs root and a kernel with bridges and tap devices"]
fn a_tap_on_a_bridge_is_there_as_long_as_qemu_whoever_dies() {
    each_as_root(|world| {
        let bridge = Interface::new(world, 'b', |name| format!("link add {name} mtu 1400 type bridge"));
        // A port that stays, whose address the bridge has: of its ports' addresses the lowest.
        let cable = Interface::new(world, 'c', |name| {
            format!("link add {name} mtu 1400 address 02:00:00:00:00:07 type veth peer name d{}", world.name)
        });
        ip(&format!("link set {} master {}", cable.0, bridge.0));
        let address = bridge.file("address");
        assert_eq!(address, cable.file("address"));
        let card = format!("backend: Bridge(\"{}\")", bridge.0);
        let machine = world.machine(&format!(
            "cpu: (vcpus: 2), networks: [({card}, queues: 2), ({card}, model: E1000), (link: Down)]"
        ));
        let mut launcher = world.run(&machine);
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        launcher.tells(" runs (");
        let qemu = world.pid("qemu");
        let status = std::fs::read_to_string(format!("/proc/{qemu}/status")).unwrap();
        assert!(status.contains("\nSeccomp:\t2\n") && !status.contains("\nUid:\t0\t"), "{status}");

        let ports = bridge.ports();
        let [first, second] = ports.as_slice() else { panic!("{ports:?}") };
        for port in &ports {
            assert_eq!(read(&port.join("mtu")), "1400");
            // IFF_UP.
            assert!(read(&port.join("flags")).ends_with('3'), "{}", read(&port.join("flags")));
            // Somebody has it open.
            assert_eq!(read(&port.join("carrier")), "1");
        }
        let open = std::fs::read_dir(format!("/proc/{qemu}/fd")).unwrap().flatten();
        let targets = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        assert_eq!(
            targets.filter(|target| target == Path::new("/dev/net/tun")).count(),
            3,
            "a descriptor for each queue"
        );
        assert_eq!(bridge.file("address"), address);
        assert_eq!(bridge.file("mtu"), "1400");

        launcher.signal(Signal::SIGKILL);
        assert_eq!(launcher.ended().code, None);
        guest.type_in("?").says("HERE");
        assert_eq!(bridge.ports(), ports);
        guest.type_in("q");
        world.guest_has_ended();
        wait_for("the tap devices' end", || bridge.ports().is_empty().then_some(()));
        assert!(!first.exists() && !second.exists());
        world.done(&["recover", &world.name]).with(0);
    });
}

#[test]
#[ignore = "needs root and a kernel with tap devices"]
fn a_tap_device_that_is_there_stays_and_one_that_is_open_is_refused_before_anything_else() {
    each_as_root(|world| {
        let tap = Interface::new(world, 't', |name| format!("tuntap add {name} mode tap multi_queue"));
        let machine = world.machine(&format!("networks: [(backend: Tap(\"{}\"), queues: 2)]", tap.0));
        let mut launcher = world.run(&machine);
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        launcher.tells(" runs (");
        assert_eq!(tap.file("carrier"), "1");
        guest.type_in("q");
        assert_eq!(launcher.ended().code, Some(0));
        assert_eq!(tap.file("carrier"), "0");
        drop(tap);

        let tap = Interface::new(world, 't', |name| format!("tuntap add {name} mode tap"));
        let machine = world.machine(&format!("networks: [(backend: Tap(\"{}\"))]", tap.0));
        let mut launcher = world.run(&machine);
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        launcher.tells(" runs (");
        let text = std::fs::read_to_string(&machine).unwrap().replace(&world.name, &format!("{}b", world.name));
        let other = world.file("other.ron", text.replace(&format!("t{}b", world.name), &tap.0));
        let refused = world.run(&other).ended();
        let words = format!("another program has the tap device {} open", tap.0);
        assert!(refused.err.contains(&words), "{}", refused.err);
        guest.type_in("q");
        assert_eq!(launcher.ended().code, Some(0));
    });
}

#[test]
#[ignore = "needs root and a kernel with macvtap"]
fn a_macvtap_device_is_removed_after_the_guest_and_after_a_crash() {
    each_as_root(|world| {
        // A cable with both ends here.
        let card = Interface::new(world, 'm', |name| format!("link add {name} type veth peer name n{}", world.name));
        let before = interfaces();
        let fields =
            format!("networks: [(backend: Macvtap(interface: \"{}\"), mac: \"52:54:00:0a:0b:0c\", queues: 2)]", card.0);
        let machine = world.machine(&format!("cpu: (vcpus: 2), {fields}"));
        for killed in [false, true] {
            let mut launcher = world.run(&machine);
            let mut guest = Serial::of(world);
            guest.says("HELLO");
            launcher.tells(" runs (");
            let made: Vec<_> = interfaces().into_iter().filter(|name| !before.contains(name)).collect();
            let [made] = made.as_slice() else { panic!("{made:?}") };
            let made = Path::new("/sys/class/net").join(made);
            assert_eq!(read(&made.join("address")), "52:54:00:0a:0b:0c");
            let index = read(&made.join("ifindex"));
            let open = std::fs::read_dir(format!("/proc/{}/fd", world.pid("qemu"))).unwrap().flatten();
            let targets = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
            let node = |target: &PathBuf| target.to_string_lossy().contains(&format!("/dev/tap{index}"));
            let own = |target: &PathBuf| target.to_string_lossy().contains(&format!("/dev/vfio-run-{index}"));
            assert_eq!(targets.filter(|target| node(target) || own(target)).count(), 2);
            if killed {
                launcher.signal(Signal::SIGKILL);
                assert_eq!(launcher.ended().code, None);
                guest.type_in("q");
                world.guest_has_ended();
                assert_ne!(interfaces(), before);
                world.done(&["recover", &world.name]).with(0);
            } else {
                guest.type_in("q");
                assert_eq!(launcher.ended().code, Some(0));
            }
            assert_eq!(interfaces(), before);
        }
    });
}

/// How much the test below has each way of the guest carry.
const SENT: usize = 2 << 20;

/// What `top` has told so far of bytes that went this way.
fn counted(top: &Launcher, kind: &str, id: &str, way: &str) -> f64 {
    let said = top.said();
    let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let of_line = |line: &str| {
        let told: serde_json::Value = serde_json::from_str(line).unwrap();
        let all = told["machines"][0][kind].as_array().cloned().unwrap_or_default();
        let one = all.iter().find(|one| one["id"] == id)?;
        Some(one[way].as_f64()? * told["seconds"].as_f64()?)
    };
    whole.lines().filter_map(of_line).sum()
}

/// Waits until `top` has counted it, and fails if it counts much more.
fn is_counted(top: &Launcher, kind: &str, id: &str, way: &str) {
    // A rate is over the time between two looks at this machine, which differs from `seconds` by some milliseconds.
    let least = SENT as f64 * 0.95;
    wait_for(&format!("{way} of {id}"), || (counted(top, kind, id, way) > least).then_some(()));
    assert!(counted(top, kind, id, way) < least * 1.5, "{way} of {id}: {}", counted(top, kind, id, way));
}

/// Listens there; whoever connects is served so.
fn serve(
    address: &str,
    serves: impl FnOnce(std::net::TcpStream) + Send + 'static,
) -> (SocketAddr, thread::JoinHandle<()>) {
    let listener = TcpListener::bind((address, 0)).unwrap();
    (listener.local_addr().unwrap(), thread::spawn(move || serves(listener.accept().unwrap().0)))
}

#[test]
#[ignore = "needs root and a kernel with bridges, tap and macvtap devices"]
fn top_counts_each_byte_of_cards_and_disks_in_the_guests_direction() {
    each_as_root(|world| {
        let bridge = Interface::new(world, 'b', |name| format!("link add {name} type bridge"));
        let cable = Interface::new(world, 'c', |name| format!("link add {name} type veth peer name d{}", world.name));
        let cards = [("net0", "eth0", bridge.0.clone()), ("net1", "eth1", format!("d{}", world.name))];
        let net = |card: usize| format!("10.{}.{}", 200 + card, std::process::id() % 250);
        for (i, (_, _, interface)) in cards.iter().enumerate() {
            ip(&format!("addr add {}.1/24 dev {interface}", net(i)));
            ip(&format!("link set {interface} up"));
        }
        world.file("disk.img", vec![0; SENT]);
        let mut guest = Linux::start(
            world,
            &format!(
                "networks: [(backend: Bridge(\"{}\")), (backend: Macvtap(interface: \"{}\"))],
                 disks: [(file: \"disk.img\", format: Raw)]",
                bridge.0, cable.0
            ),
        );
        let top = world.start(world.command(&["top", &world.name, "--json", "--interval", "0.2"]));
        wait_for("a look", || (top.said().lines().count() > 1).then_some(()));
        for (i, (id, card, _)) in cards.iter().enumerate() {
            guest.ask(&format!("ip link set {card} up && ip addr add {}.2/24 dev {card}", net(i)));
            let host = format!("{}.1", net(i));
            let (at, all) = serve(&host, |mut stream| stream.read_exact(&mut vec![0; SENT]).unwrap());
            guest.ask(&format!("dd if=/dev/zero bs=64k count={} 2>/dev/null | nc {host} {}", SENT >> 16, at.port()));
            all.join().unwrap();
            is_counted(&top, "networks", id, "sent_bytes");
            assert!(counted(&top, "networks", id, "received_bytes") < SENT as f64 / 4.0);
            let (at, all) = serve(&host, |mut stream| stream.write_all(&vec![0; SENT]).unwrap());
            let received = guest.ask(&format!("nc {host} {} </dev/null | wc -c", at.port()));
            all.join().unwrap();
            assert_eq!(received.trim(), SENT.to_string());
            is_counted(&top, "networks", id, "received_bytes");
            is_counted(&top, "networks", id, "sent_bytes");
        }
        let dd = |way: &str| format!("dd {way} bs=64k count={} 2>/dev/null", SENT >> 16);
        guest.ask(&dd("if=/dev/zero of=/dev/vda conv=fsync"));
        is_counted(&top, "disks", "disk0", "written_bytes");
        guest.ask("echo 3 >/proc/sys/vm/drop_caches");
        guest.ask(&dd("if=/dev/vda of=/dev/null"));
        is_counted(&top, "disks", "disk0", "read_bytes");
        top.signal(Signal::SIGTERM);
        top.ended().with(0);
        guest.power_off();
    });
}

fn interfaces() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/class/net").unwrap().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    // Those of other tests come and go.
    names.retain(|name| !name.contains("test-") || name.starts_with(['m', 'n']));
    names
}
