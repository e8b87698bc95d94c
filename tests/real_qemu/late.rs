//! Devices that come and go: given to QEMU over its monitor, as descriptors; absent ones are waited for.

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use vfio_run::qemu::{Qmp, QmpError};

use super::talk::Serial;
use super::world::{World, each, each_as_root};

const LONG: Duration = Duration::from_secs(20);
/// Devices that no host has.
const ABSENT: &str = "usb: [\"dead:beef\", \"99-1\"], input: [(keyboard: \"/dev/input/by-id/none-event-kbd\")]";

/// A guest whose devices are all absent: runs, is taken over, and ends.
fn waits_for_devices(world: &World) {
    let mut launcher = world.run(&world.machine(ABSENT));
    launcher.tells("USB device dead:beef is not plugged in; the guest is given it when it is");
    launcher.tells("what is in USB port 99-1 is not plugged in").tells("none-event-kbd is not plugged in");
    let mut guest = Serial::of(world);
    guest.says("HELLO");
    launcher.tells(" runs (");
    let refused = world.done(&["attach", &world.name, "dead:bee5"]).with(1);
    assert!(refused.err.contains("USB device dead:bee5 is not plugged in"), "{refused:?}");
    let refused = world.done(&["detach", &world.name, "dead:bee5"]).with(1);
    assert!(refused.err.contains("the guest does not have USB device dead:bee5"), "{refused:?}");
    world.done(&["detach", &world.name, "dead:beef"]).with(0);
    launcher.signal(Signal::SIGKILL);
    launcher.ended();
    let mut adopts = world.start(world.command(&["recover", "--adopt", &world.name]));
    adopts.tells(" runs (");
    let refused = world.done(&["detach", &world.name, "dead:beef"]).with(1);
    assert!(refused.err.contains("does not have"), "what was detached stays so: {refused:?}");
    guest.type_in("q");
    adopts.ended().with(0);
}

#[test]
fn a_guest_runs_without_the_devices_that_it_waits_for() {
    each(waits_for_devices);
}

#[test]
#[ignore = "needs root"]
fn root_gives_qemu_a_folder_of_nodes_and_removes_it() {
    each_as_root(|world| {
        waits_for_devices(world);
        assert!(!Path::new("/dev/vfio-run").join(&world.name).exists());
    });
}

#[test]
fn a_machine_without_a_controller_takes_no_usb_device() {
    each(|world| {
        let mut launcher = world.run(&world.machine("guest: Other"));
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        launcher.tells(" runs (");
        let refused = world.done(&["attach", &world.name, "dead:beef"]).with(1);
        assert!(refused.err.contains("has no USB controller; `usb: []` in its file gives it one"), "{refused:?}");
        guest.type_in("q");
        launcher.ended().with(0);
    });
}

#[test]
fn cables_are_unplugged_while_the_guest_runs_and_stay_so_in_a_new_qemu() {
    each(|world| {
        let networks = "networks: [(backend: None)], on_reboot: Relaunch";
        let mut launcher = world.run(&world.machine(networks));
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        launcher.tells(" runs (");
        let down = world.done(&["link", &world.name, "down", "--json"]).with(0).json();
        assert_eq!(down["unplugged"], "net0");
        let linked =
            |records: Vec<serde_json::Value>| records.iter().rev().find_map(|record| record["link"]["up"].as_bool());
        assert_eq!(linked(world.journal()), Some(false));
        let mut monitor = super::talk::Qmp::of(world);
        let plugged = monitor.ask_with("qom-get", json!({ "path": "/machine/peripheral/net0", "property": "type" }));
        assert_eq!(plugged, "virtio-net-pci");
        let qemu = world.pid("qemu");
        guest.type_in("r");
        super::relaunch::other_qemu(world, qemu);
        assert_eq!(linked(world.journal()), Some(false));
        world.done(&["link", &world.name, "up"]).with(0);
        let refused = world.done(&["attach", &world.name, "/dev/input/none"]).with(1);
        assert!(refused.err.contains("/dev/input/none is no event device that is plugged in"), "{refused:?}");
        let refused = world.done(&["detach", &world.name, "/dev/input/by-id/none"]).with(1);
        assert!(refused.err.contains("the guest does not share /dev/input/by-id/none"), "{refused:?}");
        Serial::of_running(world).leave_with("q");
        launcher.ended().with(0);
    });
}

/// What the launcher asks of QEMU for a device, with files that are none: QEMU gets the descriptor, knows each property, and
/// refuses at the device itself.
#[test]
fn qemu_takes_descriptors_and_knows_the_properties_of_late_devices() {
    each(|world| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut command = vfio_run::child::Command::new(world.qemu());
        command.args(["-nodefaults", "-no-user-config", "-S", "-display", "none", "-accel", "tcg"]);
        command.args(["-device", "qemu-xhci,id=usb0,p2=15,p3=15"]);
        command.args(["-chardev", "socket,id=qmp,fd=3", "-mon", "chardev=qmp,mode=control"]).fd(3, theirs.into());
        let mut qemu = command.spawn().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut qmp = Qmp::negotiate(tokio::net::UnixStream::from_std(ours).unwrap(), LONG).await.unwrap();
            let file = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
            let set = qmp.execute_with_fd("add-fd", json!({}), file.as_fd(), Duration::from_secs(10)).await.unwrap()["fdset-id"].clone();
            let usb = json!({
                "driver": "usb-host", "id": "usb-0", "bus": "usb0.0", "port": "2",
                "hostdevice": format!("/dev/fdset/{set}"),
            });
            // libusb is given the descriptor, which is no USB device's.
            let refused = qmp.execute_raw("device_add", usb).await.unwrap_err().to_string();
            assert!(!refused.contains("Permission") && !refused.contains("Property"), "{refused}");
            let sets = qmp.execute_raw("query-fdsets", json!({})).await.unwrap();
            assert_eq!(sets[0]["fdset-id"], set);
            qmp.execute_raw("remove-fd", json!({ "fdset-id": set })).await.unwrap();
            let gone = qmp.execute_raw("device_del", json!({ "id": "usb-0" })).await.unwrap_err();
            assert!(matches!(gone, QmpError::Refused { ref class, .. } if class == "DeviceNotFound"), "{gone}");
            let input = json!({
                "qom-type": "input-linux", "id": "input-0", "evdev": "/dev/null", "grab_all": true, "repeat": true,
                "grab-toggle": "ctrl-scrolllock",
            });
            let refused = qmp.execute_raw("object-add", input).await.unwrap_err().to_string();
            assert!(refused.contains("is not an evdev device"), "{refused}");
            let gone = qmp.execute_raw("object-del", json!({ "id": "input-0" })).await.unwrap_err().to_string();
            assert!(gone.contains("not found"), "{gone}");
        });
        drop(qemu.kill().and_then(|()| qemu.wait()));
    });
}
