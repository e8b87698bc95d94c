//! Debian's guest agent in a Linux guest, and what is said when it refuses something, hangs, ends and comes back.

use std::io::Write as _;
use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::launcher::{Ended, Launcher, wait_for};
use super::linux::Linux;
use super::world::{World, each};

const START: &str = "/sbin/qemu-ga -p /dev/vport*p1 -d -t /run -f /run/qemu-ga.pid 2>/dev/null";
const KILL: &str = "kill -KILL $(pidof qemu-ga) && while pidof qemu-ga; do sleep 0.1; done";

#[test]
fn debians_agent_is_understood_also_when_it_refuses_hangs_or_dies() {
    each(|world| {
        world.file("disk.img", vec![0; 16 << 20]);
        let mut guest = Linux::with_guest_agent(
            world,
            "give_back_unless: (within: 900, sign: GuestAgent), networks: [(backend: Slirp)],
             disks: [(file: \"disk.img\", format: Raw)]",
        );
        guest.ask("mkdir -p /run /tmp && with_ext4 /dev/vda && ip addr add 10.0.2.15/24 dev eth0");
        // It is the sign of life that the dead-man switch waits for.
        starts(world, &mut guest);
        tells(world, &mut guest);
        sets_the_clock(world, &mut guest);
        freezes(world, &mut guest);
        dies_while_all_is_frozen(world, &mut guest);
        guest.power_off();
    });
}

fn starts(world: &World, guest: &mut Linux) {
    guest.ask(START);
    wait_for("the agent", || (asked(world, "ping").code == Some(0)).then_some(()));
}

fn asked(world: &World, verb: &str) -> Ended {
    world.done(&["agent", &world.name, verb, "--json"])
}

fn told(world: &World, verb: &str) -> Value {
    asked(world, verb).with(0).json()
}

/// Fails, and says this.
fn refused(world: &World, verb: &str, words: &str) {
    let refused = asked(world, verb).with(1);
    assert!(refused.err.contains(words), "{words}: {refused:?}");
}

fn tells(world: &World, guest: &mut Linux) {
    let info = told(world, "info");
    assert_eq!(info["kernel"].as_str(), Some(guest.ask("uname -r").trim()), "{info:#}");
    assert!(info["version"].as_str().unwrap().contains('.'), "{info:#}");
    let interfaces = told(world, "addresses")["interfaces"].as_array().unwrap().clone();
    let card = interfaces.iter().find(|interface| interface["name"] == "eth0").unwrap();
    assert_eq!(card["addresses"][0], "10.0.2.15/24", "{card:#}");
    assert_eq!(world.done(&["status", &world.name, "--json"]).with(0).json()["addresses"][0], "10.0.2.15");
    // Somebody went away in the middle of a word.
    let mut channel = UnixStream::connect(world.run_dir().join("qga.sock")).unwrap();
    channel.write_all(b"{\"execute\": \"guest-in").unwrap();
    drop(channel);
    assert_eq!(told(world, "ping")["file_systems"], "thawed");
    // What it answers late is nobody else's answer.
    guest.ask("kill -STOP $(pidof qemu-ga)");
    refused(world, "time", "does not answer");
    guest.ask("kill -CONT $(pidof qemu-ga)");
    assert_eq!(told(world, "info"), info);
}

fn sets_the_clock(world: &World, guest: &mut Linux) {
    let name = world.name.as_str();
    let long_ago = |guest: &mut Linux| guest.ask("date -s @100000 >/dev/null");
    let is_set = || told(world, "time")["behind_seconds"].as_f64().unwrap().abs() < 60.0;
    refused(world, "set-time", "it takes the program /sbin/hwclock");
    world.done(&["pause", name]).with(0);
    let resumed = world.done(&["resume", name]).with(0);
    assert!(resumed.err.contains("/sbin/hwclock"), "{resumed:?}");
    guest.ask(KILL);
    refused(world, "ping", "start the service of that name");
    guest.ask("mkdir -p /sbin && ln -s /bin/busybox /sbin/hwclock");
    starts(world, guest);
    long_ago(guest);
    assert!(!is_set());
    told(world, "set-time");
    assert!(is_set());
    long_ago(guest);
    world.done(&["pause", name]).with(0);
    world.done(&["resume", name]).with(0);
    assert!(is_set());
}

fn freezes(world: &World, guest: &mut Linux) {
    assert_eq!(told(world, "freeze")["frozen"], 1);
    guest.ask("touch /mnt/written &");
    assert_eq!(told(world, "ping")["file_systems"], "frozen");
    let until = format!("are frozen until `vfio-run agent {} thaw`", world.name);
    for verb in ["addresses", "time", "set-time", "freeze"] {
        refused(world, verb, &until);
    }
    let status = world.done(&["status", &world.name, "--json"]).with(0).json();
    assert!(status["remedy"].as_str().unwrap().contains(&until), "{status:#}");
    guest.ask("! test -e /mnt/written");
    assert_eq!(told(world, "thaw")["thawed"], 1);
    guest.ask("while ! test -e /mnt/written; do sleep 0.1; done");
    assert_eq!(told(world, "thaw")["thawed"], 0);
}

fn dies_while_all_is_frozen(world: &World, guest: &mut Linux) {
    told(world, "freeze");
    guest.ask(KILL);
    refused(world, "thaw", "no agent runs in");
    starts(world, guest);
    assert_eq!(told(world, "thaw")["thawed"], 1);

    let backup = || -> Launcher {
        let backup = world.start(world.command(&["agent", &world.name, "freeze", "--", "sleep", "1000"]));
        wait_for("the freeze", || backup.messages().contains("frozen while").then_some(()));
        backup
    };
    let interrupted = backup();
    guest.ask(KILL);
    interrupted.signal(Signal::SIGTERM);
    let ended = interrupted.ended().with(1);
    assert!(ended.err.contains("still frozen") && ended.err.contains("has ended; start it again there"), "{ended:?}");
    starts(world, guest);
    assert_eq!(told(world, "thaw")["thawed"], 1);
    // Its service may have been faster than the program.
    let interrupted = backup();
    guest.ask(KILL);
    guest.ask(START);
    interrupted.signal(Signal::SIGTERM);
    let ended = interrupted.ended().with(1);
    assert!(!ended.err.contains("still frozen"), "{ended:?}");
    assert_eq!(told(world, "thaw")["thawed"], 0);
}
