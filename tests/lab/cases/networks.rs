//! A Linux guest's packets in each kind of network, and what a crash leaves of those that the launcher made.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::linux_machine;
use super::passthrough::{machine, prepare};
use crate::kit::images::Release;
use crate::kit::job::Job;
use crate::kit::lab::Lab;
use crate::kit::thorough;

const GUEST_BOOT: Duration = Duration::from_secs(400);
const SOON: Duration = Duration::from_secs(60);

/// The world outside is a network namespace with three cables into the host: to its default route, to a port of its bridge,
/// and to a card of its own. It gives addresses on the two latter, but is no router there, and knows no way to the guests behind the host's address.
const OUTSIDE: &str = "
set -e
modprobe -a tun vhost_net
ip netns add outside
for name in uplink port cable; do ip link add $name type veth peer name $name-end netns outside; done
ip link add br0 type bridge
ip link set port master br0
ip address add 203.0.113.1/24 dev uplink
for name in uplink port cable br0; do ip link set $name up; done
ip route add default via 203.0.113.2
for pair in uplink:203.0.113.2 port:192.0.2.1 cable:198.51.100.1; do
    ip -n outside address add ${pair#*:}/24 dev ${pair%:*}-end
    ip -n outside link set ${pair%:*}-end up
done
ip -n outside link set lo up
ip -n outside address add 203.0.114.5/32 dev lo
# What comes to the host from outside comes from there, since the guest of passt has the host's own network.
ip -n outside route add 203.0.113.1 dev uplink-end src 203.0.114.5
ip netns exec outside dnsmasq --conf-file=/dev/null --port=0 --interface=port-end --interface=cable-end \\
    --dhcp-range=192.0.2.10,192.0.2.20 --dhcp-range=198.51.100.10,198.51.100.20 --dhcp-leasefile=/dev/null \\
    --dhcp-option=3 --no-ping --pid-file=/run/lab/outside.pid
echo '203.0.114.5 outside.example' >>/etc/hosts
";

/// A card in each kind of network, the order being the guest's: eth0, eth1, … The last is connected by passt, or by QEMU
/// itself if there is no passt that works with it.
const CARDS: &str = r#"[
    (backend: Bridge("br0")),
    (backend: Nat, subnet: "10.77.0.0/24", forward: ["2222:80"]),
    (backend: Macvtap(interface: "cable")),
    (model: E1000e, forward: ["127.0.0.1:8080:80"]),
]"#;

/// What the guest is told to reach by them.
const TOLD: &str = "guest.net guest.reach=eth0:192.0.2.1 guest.reach=eth1:203.0.114.5 guest.reach=eth2:198.51.100.1 \
                    guest.name=outside.example@10.77.0.1";

#[test]
fn a_guest_has_its_place_in_each_network() -> Result<()> {
    for release in thorough::releases() {
        let lab = Lab::variant("one-gpu", release).start()?;
        prepare(&lab)?;
        lab.sh(OUTSIDE)?;
        in_turn!(&lab; packets_pass_both_ways_in_each_network, a_crash_leaves_nothing_once_recovered);
        lab.finish()?;
    }
    Ok(())
}

/// Starts the machine and waits for its guest.
fn start<'a>(lab: &'a Lab, file: &str) -> Result<Job<'a>> {
    lab.sh(": >/run/lab/guest.log")?;
    let job = lab.start(&format!("exec /lab/bin/vfio-run -v {file} 2>/run/lab/launcher.log"))?;
    let ready = job.wait_until("grep -q READY /run/lab/guest.log", GUEST_BOOT);
    match ready {
        Ok(()) => Ok(job),
        Err(error) => Err(error.context(lab.sh("cat /run/lab/launcher.log /run/lab/guest.log")?)),
    }
}

/// The address of a guest without a tap device: the host's own from passt, else QEMU's.
fn without_tap(lab: &Lab) -> &'static str {
    if lab.host.release == Release::Debian13 { "203.0.113.1" } else { "10.0.2.15" }
}

fn packets_pass_both_ways_in_each_network(lab: &Lab) -> Result<()> {
    let file = lab.install_machine("wired", &linux_machine(TOLD, &format!("networks: {CARDS}")))?;
    let before = lab.snapshot_of_host()?;
    let job = start(lab, &file)?;
    let account = lab.sh("awk '/^(Uid|Seccomp):/{print $2}' /proc/$(pgrep -x qemu-system-x86)/status")?;
    ensure!(account.ends_with("\n2") && !account.starts_with("0\n"), "user and seccomp: {account}");
    // The kernel serves the three cards on tap devices: QEMU has its device open for each, and it has a thread for each.
    let vhost = lab.sh(
        "qemu=$(pgrep -x qemu-system-x86); ls -l /proc/$qemu/fd | grep -c /dev/vhost-net; ps -eLo comm | grep -cx vhost-$qemu",
    )?;
    ensure!(vhost == "3\n3", "cards that the kernel serves, and its threads for them: {vhost}");

    // Outwards.
    let said = lab.sh("grep 'LINUX N[EO]\\|LINUX REACHES\\|LINUX NAME' /run/lab/guest.log")?.replace('\r', "");
    let address = |card: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(&format!("LINUX NET {card} ")));
        line.and_then(|line| line.split(' ').next()).unwrap_or_default().to_owned()
    };
    for (card, network) in
        [("eth0", "192.0.2."), ("eth1", "10.77.0."), ("eth2", "198.51.100."), ("eth3", without_tap(lab))]
    {
        ensure!(address(card).starts_with(network), "{card}:\n{said}");
    }
    for reached in ["eth0:192.0.2.1", "eth1:203.0.114.5", "eth2:198.51.100.1"] {
        ensure!(said.contains(&format!("LINUX REACHES {reached}\n")), "{reached}:\n{said}");
    }
    let name = said.lines().find(|line| line.starts_with("LINUX NAME")).unwrap_or_default();
    ensure!(name.contains("203.0.114.5"), "the name server of the shared network: {said}");

    // Inwards: to the guest's own address by bridge and macvtap, by a port of the host's through the others.
    let outside = "ip netns exec outside busybox nc -w 20";
    for (words, what) in [
        (format!("{outside} {} 80", address("eth0")), "the bridge"),
        (format!("{outside} {} 80", address("eth2")), "macvtap"),
        (format!("{outside} 203.0.113.1 2222"), "the shared network's forward"),
        (format!("busybox nc -w 20 {} 80", address("eth1")), "the host's place in the shared network"),
        ("busybox nc -w 20 127.0.0.1 8080".to_owned(), "the forward of the card without a tap device"),
    ] {
        let answer = lab.run(&words)?;
        ensure!(answer.stdout.contains("the guest is here"), "by {what}: {answer}");
    }

    lab.sh("/lab/bin/vfio-run stop wired")?;
    let ended = job.wait(SOON)?;
    ensure!(ended.status == 0, "{ended}\n{}", lab.sh("cat /run/lab/launcher.log")?);
    let left = before.diff(&lab.snapshot_of_host()?).except(&["module "]);
    ensure!(left.is_empty(), "left behind:\n{left}");
    Ok(())
}

fn a_crash_leaves_nothing_once_recovered(lab: &Lab) -> Result<()> {
    let text = machine("").replace("networks: []", &format!("networks: {CARDS}"));
    let file = lab.install_machine("wired", &text)?;
    let before = lab.snapshot_of_host()?;
    let job = start(lab, &file)?;
    lab.kill("vfio-run", "KILL")?;
    ensure!(job.wait(SOON)?.status == 137);
    lab.kill("qemu-system-x86", "KILL")?;
    lab.wait_until("! pgrep -x qemu-system-x86", SOON)?;
    let left = before.diff(&lab.snapshot_of_host()?);
    for what in ["network vfio-nat", "firewall", "sysctl net/ipv4/conf/uplink/forwarding", "process dnsmasq"] {
        ensure!(left.0.iter().any(|change| change.name == what), "{what} went by itself:\n{left}");
    }
    let recovered = lab.run("/lab/bin/vfio-run recover -v wired")?;
    ensure!(recovered.status == 0, "{recovered}");
    let left = before.diff(&lab.snapshot_of_host()?).except(&["module "]);
    ensure!(left.is_empty(), "left behind:\n{left}\n{recovered}");
    Ok(())
}
