//! Disks and a keyboard that a guest has for a while: what is on them is what both wrote.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::linux_machine;
use super::passthrough::prepare;
use crate::kit::host::at;
use crate::kit::lab::Lab;

const GUEST_BOOT: Duration = Duration::from_secs(240);
const SOON: Duration = Duration::from_secs(120);

/// The first is NVMe, the second on the USB controller.
const DISKS: [&str; 2] = ["nvme0n1", "sda"];

fn machine(functions: &str) -> String {
    linux_machine("guest.data guest.keys", &format!("pci: [{functions}]"))
}

/// Presses a key and has the host read it.
fn host_hears_a_key(lab: &Lab) -> Result<()> {
    lab.wait_until("ls /dev/input/by-id/*event-kbd", SOON)?;
    let press = lab.start("timeout 60 head -c 24 /dev/input/by-id/*event-kbd | od -A n -t u2")?;
    lab.wait_until("pgrep -x head", SOON)?;
    lab.press_keys("a")?;
    ensure!(!press.wait(SOON)?.ok()?.is_empty(), "no key press arrived");
    Ok(())
}

#[test]
fn disks_and_a_keyboard_come_back() -> Result<()> {
    let lab = Lab::variant("usb", "debian13").nvme().start()?;
    prepare(&lab)?;
    in_turn!(
        &lab;
        an_nvme_disk_and_a_usb_controller_go_to_a_guest_and_come_back_with_their_data,
        a_disk_that_was_mounted_between_rounds_stays_with_the_host,
    );
    lab.finish()
}

fn an_nvme_disk_and_a_usb_controller_go_to_a_guest_and_come_back_with_their_data(lab: &Lab) -> Result<()> {
    for disk in DISKS {
        lab.sh(&format!(
            "mkfs.ext4 -q -F /dev/{disk} && mount /dev/{disk} /mnt && echo 'a letter on {disk}' >/mnt/letter && \
             head -c 1000000 /dev/urandom >/mnt/noise && sha256sum </mnt/noise >/mnt/sum && umount /mnt"
        ))?;
    }
    host_hears_a_key(lab)?;
    let file = lab.install_machine("data", &machine(r#""04:00.0", "03:00.0""#))?;
    lab.run_for(&format!("/lab/bin/vfio-run check {file}"), GUEST_BOOT)?.ok()?;
    let before = lab.snapshot_of_host()?;

    let job = lab.start(&format!("exec /lab/bin/vfio-run -v {file}"))?;
    for disk in DISKS {
        job.wait_until(&format!("grep -q 'LETTER {disk} a letter on {disk}' /run/lab/guest.log"), GUEST_BOOT)?;
        job.wait_until(&format!("grep -q 'ANSWERED {disk}' /run/lab/guest.log"), SOON)?;
        ensure!(lab.run(&format!("[ -b /dev/{disk} ]"))?.status != 0, "the host still has {disk}");
    }
    ensure!(lab.sh(&format!("basename $(readlink /sys/bus/pci/devices/{}/driver)", at::USB))? == "vfio-pci");
    // Linux calls the key 30 (linux/input-event-codes.h, KEY_A).
    lab.press_keys("a")?;
    job.wait_until("grep -q 'LINUX KEY 30 1' /run/lab/guest.log", SOON)?;
    lab.sh("/lab/bin/vfio-run stop data")?;
    let ended = job.wait(SOON)?;
    ensure!(ended.status == 0, "{ended}");
    ensure!(lab.sh("cat /run/lab/guest.log")?.contains("LINUX POWER BUTTON"), "the guest was not asked");

    for disk in DISKS {
        // A USB disk is found some time after its controller, and has a node some time before it can be read.
        lab.wait_until(&format!("head -c 1 /dev/{disk} >/dev/null"), SOON)?;
        let read = "cat /mnt/letter /mnt/answer && sha256sum </mnt/noise | cmp - /mnt/sum && umount /mnt";
        let letters = lab.sh(&format!("fsck.ext4 -fn /dev/{disk} >&2 && mount /dev/{disk} /mnt && {read}"))?;
        ensure!(letters == format!("a letter on {disk}\nthe guest was here"), "{disk}: {letters}");
    }
    host_hears_a_key(lab)?;
    // The kernel counts each disk that it finds.
    let left = before.diff(&lab.snapshot_of_host()?).except(&["dev /dev/disk/by-diskseq/"]);
    ensure!(left.is_empty(), "left behind:\n{left}\n{ended}");
    Ok(())
}

fn a_disk_that_was_mounted_between_rounds_stays_with_the_host(lab: &Lab) -> Result<()> {
    lab.sh("mkfs.ext4 -q -F /dev/nvme0n1")?;
    let file = lab.install_machine("data", &machine(r#""04:00.0""#))?;
    lab.run_for(&format!("/lab/bin/vfio-run check {file}"), GUEST_BOOT)?.ok()?;
    let before = lab.snapshot_of_host()?;
    // Somebody who mounts it as soon as it is back from a round.
    let mounts = lab.start(
        "while [ -b /dev/nvme0n1 ]; do sleep 0.05; done; until mount /dev/nvme0n1 /mnt; do :; done 2>/dev/null",
    )?;
    let rehearsed = lab.run_for(&format!("/lab/bin/vfio-run rehearse -n 50 {file}"), GUEST_BOOT)?;
    mounts.wait(SOON)?.ok()?;
    ensure!(rehearsed.status == 1 && rehearsed.stderr.contains("nvme0n1"), "{rehearsed}");
    ensure!(lab.sh(&format!("basename $(readlink /sys/bus/pci/devices/{}/driver)", at::NVME))? == "nvme");
    lab.sh("echo 'still mine' >/mnt/letter && sync -f /mnt && umount /mnt && fsck.ext4 -fn /dev/nvme0n1")?;
    let left = before.diff(&lab.snapshot_of_host()?).except(&["dev /dev/disk/by-diskseq/"]);
    ensure!(left.is_empty(), "left behind:\n{left}\n{rehearsed}");
    Ok(())
}
