//! What a desk shares with its guest: a USB disk and the keyboard, also unplugged and plugged in again.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use super::linux_machine;
use super::passthrough::prepare;
use crate::kit::lab::Lab;

const GUEST_BOOT: Duration = Duration::from_secs(240);
const SOON: Duration = Duration::from_secs(60);

/// Keys, as Linux numbers them (linux/input-event-codes.h).
const A: u32 = 30;
const B: u32 = 48;
const C: u32 = 46;
const D: u32 = 32;
const E: u32 = 18;

/// Writes down each key press that the host hears, for as long as it may read the keyboard.
const LISTEN: &str = "while set -- $(dd bs=24 count=1 2>/dev/null | od -A n -j 16 -t u2) && [ \"$3\" ]; do \
                      echo \"KEY $1 $2 $3\"; done </dev/input/by-id/*event-kbd >/run/lab/keys";

/// What is named after a number that the kernel counts up with each plugging.
pub const PLUGGED_ANEW: &[&str] = &["dev /dev/disk/by-diskseq/", "dev /dev/bus/usb/"];

/// Presses a key until it is heard where it is meant to be: QEMU changes sides when it comes to it, and what is typed before
/// goes to the other.
fn press_until(lab: &Lab, key: &str, heard: &str) -> Result<()> {
    let start = Instant::now();
    loop {
        lab.press_keys(key)?;
        if lab.run(heard)?.status == 0 {
            return Ok(());
        }
        ensure!(start.elapsed() < SOON, "{key} was pressed, and `{heard}` did not come true");
    }
}

fn machine() -> String {
    let shared =
        r#"usb: ["46f4:0001", (id: "dead:beef")], input: Auto, hooks: (toggled: [["/usr/local/bin/toggled"]])"#;
    linux_machine("guest.plug guest.keys", shared)
}

#[test]
fn a_desk_is_shared_with_its_guest() -> Result<()> {
    let lab = Lab::variant("usb", "debian13").start()?;
    prepare(&lab)?;
    lab.sh("mkfs.ext4 -q -F /dev/sda && mount /dev/sda /mnt && echo 'a letter' >/mnt/letter && umount /mnt")?;
    // Nobody but root may change what root runs.
    lab.sh("printf '#!/bin/sh\\necho HAS $VFIO_RUN_INPUT >>/run/lab/toggled\\n' >/usr/local/bin/toggled; chmod 755 /usr/local/bin/toggled; : >/run/lab/toggled")?;
    in_turn!(&lab; disk_and_keys_come_and_go, a_launcher_that_takes_over_and_a_death_leave_the_host_its_devices);
    lab.finish()
}

/// Waits until a line has come so many times into a log.
fn count(words: &str, times: u32, log: &str) -> String {
    format!("[ $(grep -c '{words}' /run/lab/{log}) -ge {times} ]")
}

fn plug_disk(lab: &Lab, port: &str) -> Result<()> {
    lab.plug(json!({ "driver": "usb-storage", "id": "disk", "bus": "usb.0", "port": port, "drive": "stick", "serial": "LABSTICK" }))
}

fn disk_and_keys_come_and_go(lab: &Lab) -> Result<()> {
    let file = lab.install_machine("desk", &machine())?;
    let check = lab.run_for(&format!("/lab/bin/vfio-run check {file}"), GUEST_BOOT)?;
    ensure!(check.status == 0, "{check}");
    let before = lab.snapshot_of_host()?;
    let job = lab.start(&format!("exec /lab/bin/vfio-run -v {file} 2>/run/lab/launcher.log"))?;
    job.wait_until("grep -q 'LINUX READY' /run/lab/guest.log", GUEST_BOOT)?;
    job.wait_until(&count("LETTER sda a letter", 1, "guest.log"), SOON)?;
    lab.sh("grep -q 'USB device dead:beef is not plugged in' /run/lab/launcher.log")?;
    let account = lab.sh("awk '/^(Uid|Seccomp):/{print $2}' /proc/$(pgrep -x qemu-system-x86)/status")?;
    ensure!(account.ends_with("\n2") && !account.starts_with("0\n"), "user and seccomp: {account}");
    ensure!(lab.run("[ -b /dev/sda ]")?.status != 0, "the host still has the disk");
    ensure!(lab.sh("ls /dev/vfio-run/desk")?.is_empty(), "QEMU's nodes stay");

    // The guest has the keyboard, and both Ctrl keys give it back.
    lab.press_keys("a")?;
    job.wait_until(&count(&format!("LINUX KEY {A} 1"), 1, "guest.log"), SOON)?;
    let listens = lab.start(LISTEN)?;
    lab.wait_until("pgrep -x dd", SOON)?;
    lab.press_keys("a ctrl+ctrl_r")?;
    press_until(lab, "e", &format!("grep -q 'KEY 1 {E} 1' /run/lab/keys"))?;
    lab.press_keys("b")?;
    lab.wait_until(&format!("grep -q 'KEY 1 {B} 1' /run/lab/keys"), SOON)?;
    // The program that wants to know hears of it at the first key.
    lab.wait_until(&count("HAS host", 1, "toggled"), SOON)?;
    let heard = lab.sh("cat /run/lab/keys")?;
    ensure!(!heard.contains(&format!("KEY 1 {A} 1")), "the host heard what was typed for the guest: {heard}");
    lab.press_keys("ctrl+ctrl_r")?;
    press_until(lab, "c", &count(&format!("LINUX KEY {C} 1"), 1, "guest.log"))?;
    ensure!(!lab.sh("cat /run/lab/guest.log")?.contains(&format!("LINUX KEY {B} 1")), "the guest heard the host's key");
    lab.wait_until(&count("HAS guest", 1, "toggled"), SOON)?;
    let toggled = lab.sh("cat /run/lab/toggled")?;
    ensure!(toggled == "HAS host\nHAS guest", "{toggled}");

    // The mouse is the host's for a while.
    lab.sh("/lab/bin/vfio-run detach desk $(ls /dev/input/by-id/*event-mouse)")?;
    let again = lab.sh("/lab/bin/vfio-run attach desk $(ls /dev/input/by-id/*event-mouse)")?;
    let refused = lab.run("/lab/bin/vfio-run detach desk $(ls /dev/input/by-id/*event-kbd)")?;
    ensure!(refused.stderr.contains("detach those first"), "{again}{refused}");

    // Unplugged and plugged in again.
    lab.unplug("keyboard")?;
    listens.wait(SOON)?;
    lab.wait_until(&count("Keyboard.* was unplugged", 1, "launcher.log"), SOON)?;
    lab.plug(json!({ "driver": "usb-kbd", "id": "keyboard", "bus": "usb.0", "port": "1" }))?;
    lab.wait_until(&count("the guest has .*Keyboard", 2, "launcher.log"), SOON)?;
    lab.press_keys("d")?;
    job.wait_until(&count(&format!("LINUX KEY {D} 1"), 1, "guest.log"), SOON)?;

    // The disk, in another port.
    lab.unplug("disk")?;
    job.wait_until(&count("LINUX GONE sda", 1, "guest.log"), SOON)?;
    plug_disk(lab, "4")?;
    job.wait_until(&count("ANSWERED sda", 2, "guest.log"), SOON)?;

    lab.sh("/lab/bin/vfio-run stop desk")?;
    let ended = job.wait(SOON)?;
    ensure!(ended.status == 0, "{ended}\n{}", lab.sh("cat /run/lab/launcher.log")?);
    lab.wait_until("head -c 1 /dev/sda >/dev/null", SOON)?;
    let answer = lab.sh("mount /dev/sda /mnt && cat /mnt/answer && umount /mnt")?;
    ensure!(answer == "the guest was here", "{answer}");
    lab.unplug("disk")?;
    plug_disk(lab, "3")?;
    lab.wait_until("head -c 1 /dev/sda >/dev/null && udevadm settle", SOON)?;
    let left = before.diff(&lab.snapshot_of_host()?).except(PLUGGED_ANEW);
    ensure!(left.is_empty(), "left behind:\n{left}");
    Ok(())
}

fn a_launcher_that_takes_over_and_a_death_leave_the_host_its_devices(lab: &Lab) -> Result<()> {
    lab.sh(": >/run/lab/guest.log")?;
    let file = lab.install_machine("desk", &machine())?;
    let before = lab.snapshot_of_host()?;
    let job = lab.start(&format!("exec /lab/bin/vfio-run -v {file} 2>/run/lab/launcher.log"))?;
    job.wait_until(&count("ANSWERED sda", 1, "guest.log"), GUEST_BOOT)?;
    lab.kill("vfio-run", "KILL")?;
    ensure!(job.wait(SOON)?.status == 137);
    lab.unplug("disk")?;
    plug_disk(lab, "3")?;
    lab.wait_until("[ -e /sys/bus/usb/devices/2-3:1.0 ]", SOON)?;
    let adopts = lab.start("exec /lab/bin/vfio-run -v recover --adopt desk 2>/run/lab/launcher.log")?;
    adopts.wait_until(&count("ANSWERED sda", 2, "guest.log"), SOON)?;
    lab.press_keys("a")?;
    adopts.wait_until(&count(&format!("LINUX KEY {A} 1"), 1, "guest.log"), SOON)?;

    lab.kill("vfio-run", "KILL")?;
    ensure!(adopts.wait(SOON)?.status == 137);
    lab.kill("qemu-system-x86", "KILL")?;
    lab.wait_until("! pgrep -x qemu-system-x86", SOON)?;
    ensure!(
        lab.run("[ -e /sys/bus/usb/devices/2-3:1.0/driver ]")?.status != 0,
        "the kernel gave the disk back by itself"
    );
    let recovered = lab.run("/lab/bin/vfio-run recover -v desk")?;
    ensure!(recovered.status == 0, "{recovered}");
    lab.wait_until("head -c 1 /dev/sda >/dev/null && udevadm settle", SOON)?;
    let left = before.diff(&lab.snapshot_of_host()?).except(PLUGGED_ANEW);
    ensure!(left.is_empty(), "left behind:\n{left}\n{recovered}");
    Ok(())
}
