//! The handover on hosts of other kinds: a GPU with the boot framebuffer, another driver, a real compositor, no systemd.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::passthrough::{host, machine, shows_the_host};
use crate::kit::host::at;
use crate::kit::lab::Lab;

/// The first card with all of its functions.
const CARD: &str = "0000:01:00.*";
/// Two rounds and what QEMU is asked before the first, on a machine that does other work too.
const ROUNDS: Duration = Duration::from_secs(300);

/// Hands the device over and back twice, and finds the host as it was: what is compared is `at_rest` then.
fn rehearse(lab: &Lab, device: &str, at_rest: fn(&Lab) -> Result<()>) -> Result<()> {
    // Without udev only root may use it.
    lab.sh("chmod 666 /dev/kvm")?;
    let file = lab.install_machine("only", &machine(&format!(r#"pci: ["{device}"]"#)))?;
    // Loads what the first handover loads.
    lab.run_for(&format!("/lab/bin/vfio-run rehearse {file}"), ROUNDS)?.ok()?;
    at_rest(lab)?;
    let before = lab.snapshot_of_host()?;
    let rehearsed = lab.run_for(&format!("/lab/bin/vfio-run rehearse -n 2 {file}"), ROUNDS)?;
    ensure!(rehearsed.status == 0 && rehearsed.stdout.contains("2 of 2 rounds"), "{rehearsed}");
    ensure!(rehearsed.stdout.contains(&format!("bind {} to vfio-pci", device.replace('*', "0"))), "{rehearsed}");
    at_rest(lab)?;
    // A session that begins anew has another number.
    let left = before.diff(&lab.snapshot_of_host()?).except(&["run /run/systemd/sessions/"]);
    ensure!(left.is_empty(), "left behind:\n{left}\n{rehearsed}");
    Ok(())
}

#[test]
fn a_gpu_with_the_boot_framebuffer_goes_and_comes_back() -> Result<()> {
    let lab = host("uefi", "debian13")?;
    rehearse(&lab, CARD, |_| Ok(()))?;
    lab.finish()
}

#[test]
fn devices_of_another_kind_go_and_come_back() -> Result<()> {
    let lab = host("virtio-gpu", "debian13")?;
    in_turn!(&lab; a_gpu_with_another_driver, a_device_behind_a_port_without_acs);
    lab.finish()
}

fn a_gpu_with_another_driver(lab: &Lab) -> Result<()> {
    rehearse(lab, CARD, |_| Ok(()))?;
    shows_the_host(lab, "back")
}

/// The group has the port above too, which stays with the host.
fn a_device_behind_a_port_without_acs(lab: &Lab) -> Result<()> {
    let [first, second] = at::BELOW_SWITCH;
    rehearse(lab, first, |_| Ok(()))?;
    ensure!(lab.sh(&format!("basename $(readlink /sys/bus/pci/devices/{second}/driver)"))? == "e1000e");
    Ok(())
}

#[test]
fn a_compositor_is_stopped_and_paints_again() -> Result<()> {
    let paints = |lab: &Lab| {
        // A panel, a pattern and a pointer; a console has only a few colours.
        lab.wait_for_picture("desktop", Duration::from_secs(60), |picture| picture.colours() > 20)?;
        ensure!(lab.sh("systemctl is-active display-manager && fuser -v /dev/dri/card0 2>&1")?.contains("weston"));
        // Its helpers come after its first picture.
        lab.wait_until("pgrep weston-keyboard && pgrep weston-desktop-", Duration::from_secs(60))
    };
    let lab = host("compositor", "debian13")?;
    rehearse(&lab, CARD, paints)?;
    lab.finish()
}

#[test]
fn a_host_without_systemd_gives_its_gpu_and_has_it_back() -> Result<()> {
    let lab = host("plain", "debian12")?;
    rehearse(&lab, CARD, |_| Ok(()))?;
    lab.finish()
}
