//! The guest agent's channel, with a program in a Linux guest that answers as the agent does.

use nix::sys::signal::Signal;

use super::launcher::wait_for;
use super::linux::Linux;
use super::talk::Serial;
use super::world::{World, each};

/// Answers one line after the other on the agent's port, also when the host's side was closed meanwhile. With `/slow` it takes
/// longer to freeze than anybody waits; what it was asked for is in `/asked`.
const AGENT: &str = r#"
port=$(grep -l guest_agent /sys/class/virtio-ports/*/name); port=/dev/$(basename $(dirname $port)); (
exec 3<>$port;
while :; do
    read -r line <&3 || { sleep 0.1; continue; };
    echo "$line" >>/asked;
    case "$line" in
    *guest-sync*) id=${line##*'"id":'}; printf '\377{"return": %s}\n' "${id%%\}*}" ;;
    *guest-info*) echo '{"return": {"version": "8.0", "supported_commands": []}}' ;;
    *guest-get-host-name*) echo '{"return": {"host-name": "tiny"}}' ;;
    *interfaces*) echo '{"return": [{"name": "eth0", "hardware-address": "52:54:00:00:00:01",
        "ip-addresses": [{"ip-address": "10.0.2.15", "prefix": 24}]}]}' ;;
    *guest-get-time*) echo "{\"return\": $(date +%s)000000000}" ;;
    *guest-set-time*) t=${line##*'"time":'}; t=${t%%\}*}; date -s @${t%?????????} >/dev/null; echo '{"return": {}}' ;;
    *freeze-freeze*) while test -e /slow; do sleep 0.1; done; echo '{"return": 2}' ;;
    *freeze-thaw*) echo '{"return": 2}' ;;
    *) echo '{"error": {"class": "CommandNotFound", "desc": "no such command"}}' ;;
    esac >&3;
done ) >/dev/null 2>&1 &"#;

fn with_agent(world: &World) -> Linux {
    let mut guest = Linux::start(world, "give_back_unless: (within: 900, sign: GuestAgent)");
    let name = world.name.as_str();
    // Firmware opens the channel too when somebody connects, which is no sign of life.
    let waits = world.done(&["agent", name, "ping"]).with(1);
    assert!(waits.err.contains("the dead-man switch") && waits.err.contains("vfio-run alive"), "{waits:?}");
    world.done(&["alive", name]).with(0);
    let none = world.done(&["agent", name, "ping"]).with(1);
    assert!(none.err.contains("no agent runs in") && none.err.contains("qemu-guest-agent"), "{none:?}");
    let typed: Vec<&str> = AGENT.lines().map(str::trim).collect();
    guest.ask(&typed.join(" "));
    wait_for("the agent", || (world.done(&["agent", name, "ping"]).code == Some(0)).then_some(()));
    guest
}

#[test]
fn the_agent_is_asked_and_sets_the_clock_after_a_pause() {
    each(|world| {
        let name = world.name.as_str();
        let mut guest = with_agent(world);
        let ask = |verb: &str| world.done(&["agent", name, verb, "--json"]).with(0).json();
        assert_eq!(ask("info")["host_name"], "tiny");
        assert_eq!(ask("addresses")["interfaces"][0]["addresses"][0], "10.0.2.15/24");
        let shown = world.done(&["agent", name, "addresses"]).with(0).out;
        assert!(shown.contains("eth0       52:54:00:00:00:01  10.0.2.15/24\n"), "{shown}");
        let status = world.done(&["status", name, "--json"]).with(0).json();
        assert_eq!(status["addresses"], serde_json::json!(["10.0.2.15"]), "{status:#}");
        let status = world.done(&["status", name]).with(0).out;
        assert!(status.contains("  address  10.0.2.15\n"), "{status}");
        guest.ask("date -s @100000 >/dev/null");
        assert!(ask("time")["behind_seconds"].as_f64().unwrap() > 1e9);
        ask("set-time");
        assert!(ask("time")["behind_seconds"].as_f64().unwrap().abs() < 60.0);

        guest.ask("date -s @100000 >/dev/null");
        world.done(&["pause", name]).with(0);
        let paused = world.done(&["agent", name, "ping"]).with(1);
        assert!(paused.err.contains("is paused, and so is its agent"), "{paused:?}");
        world.done(&["resume", name]).with(0);
        assert!(ask("time")["behind_seconds"].as_f64().unwrap().abs() < 60.0);
        guest.power_off();
    });
}

#[test]
fn file_systems_thaw_whatever_comes_between() {
    each(|world| {
        let name = world.name.as_str();
        let mut guest = with_agent(world);
        assert_eq!(world.done(&["agent", name, "freeze", "--json"]).with(0).json()["frozen"], 2);
        assert_eq!(world.done(&["agent", name, "thaw", "--json"]).with(0).json()["thawed"], 2);
        let thawed = |guest: &mut Linux, number: &str| {
            assert_eq!(guest.ask("grep -c freeze-thaw /asked").trim(), number);
        };
        thawed(&mut guest, "1");
        let copied = world.done(&["agent", name, "freeze", "--json", "--", "cp", "machine.ron", "copy"]).with(0).json();
        assert_eq!((&copied["frozen"], &copied["thawed"], &copied["code"]), (&2.into(), &2.into(), &0.into()));
        assert!(world.path("copy").exists());
        thawed(&mut guest, "2");
        world.done(&["agent", name, "freeze", "--", "false"]).with(1);
        thawed(&mut guest, "3");
        // What cannot be started is known before anything is frozen.
        let none = world.done(&["agent", name, "freeze", "--", "/nonexistent"]).with(1);
        assert!(none.err.contains("nothing is frozen"), "{none:?}");
        thawed(&mut guest, "3");
        // The value is alone on standard output.
        let said = world.done(&["agent", name, "freeze", "--json", "--", "echo", "COPIED"]).with(0);
        assert!(said.json()["code"] == 0 && said.err.contains("COPIED"), "{said:?}");
        thawed(&mut guest, "4");
        // Interrupted while the program runs.
        let backup = world.start(world.command(&["agent", name, "freeze", "--", "sleep", "1000"]));
        wait_for("the freeze", || backup.messages().contains("frozen while").then_some(()));
        backup.signal(Signal::SIGTERM);
        let ended = backup.ended().with(1);
        assert!(ended.err.contains("SIGTERM came while sleep ran"), "{ended:?}");
        thawed(&mut guest, "5");
        // Interrupted while the guest still writes.
        guest.ask("touch /slow");
        let slow = world.start(world.command(&["agent", name, "freeze"]));
        wait_for("the request", || (guest.ask("grep -c freeze-freeze /asked").trim() == "6").then_some(()));
        slow.signal(Signal::SIGINT);
        guest.ask("rm /slow");
        let ended = slow.ended().with(1);
        assert!(ended.err.contains("SIGINT came before") && ended.err.contains("nothing is frozen"), "{ended:?}");
        thawed(&mut guest, "6");
        guest.power_off();
    });
}

#[test]
fn a_machine_without_the_channel_says_which_has_it() {
    each(|world| {
        let launcher = world.run(&world.machine("guest: Other"));
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        let none = world.done(&["agent", &world.name, "ping"]).with(1);
        assert!(none.err.contains("has no channel to a guest agent") && none.err.contains("guest: Linux"), "{none:?}");
        guest.type_in("q");
        launcher.ended().with(0);
    });
}
