//! A second card: guests use it, round after round, and a session that had it open goes on without it.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::passthrough::host;
use super::rehearse::{GUEST_BOOT, MANY_ROUNDS, SOON, machine};
use super::session::desktop;
use crate::kit::host::at;
use crate::kit::lab::Lab;
use crate::kit::thorough;

#[test]
fn the_second_gpu_goes_and_the_session_stays() -> Result<()> {
    let lab = host("two-gpus", "debian13")?;
    in_turn!(&lab; guests_in_a_row_have_it_and_the_host_has_it_back, a_session_does_without_it);
    lab.finish()
}

fn guests_in_a_row_have_it_and_the_host_has_it_back(lab: &Lab) -> Result<()> {
    let gpu = at::SECOND_GPU;
    let file = lab.install_machine("second", &machine(r#"memory: (size: "32 MiB"), pci: ["02:00.*"]"#))?;
    lab.run_for(&format!("/lab/bin/vfio-run check {file}"), GUEST_BOOT)?.ok()?;
    let before = lab.snapshot_of_host()?;
    let rounds = thorough::rounds(50, 6);
    let rehearsed = lab.run_for(&format!("/lab/bin/vfio-run rehearse -n {rounds} {file}"), MANY_ROUNDS)?;
    ensure!(rehearsed.status == 0 && rehearsed.stdout.contains(&format!("{rounds} of {rounds} rounds")), "{rehearsed}");
    let driver = format!("basename $(readlink /sys/bus/pci/devices/{gpu}/driver)");
    let host_driver = lab.sh(&driver)?;
    for round in 1..=thorough::rounds(10, 3) {
        let since = Instant::now();
        lab.sh(": >/run/lab/guest.log")?;
        let job = lab.start(&format!("exec /lab/bin/vfio-run {file}"))?;
        job.wait_until("grep -q READY /run/lab/guest.log", GUEST_BOOT)?;
        ensure!(lab.second_screenshot("guest")?.is_tiny_guest(), "round {round}: the guest's picture is not there");
        ensure!(lab.sh(&driver)? == "vfio-pci");
        lab.sh("/lab/bin/vfio-run stop second")?;
        job.wait(SOON)?.ok()?;
        ensure!(lab.sh(&driver)? == host_driver, "round {round}: the host has not its driver back");
        eprintln!("round {round} took {:.1} s", since.elapsed().as_secs_f32());
    }
    lab.sh("udevadm settle")?;
    let left = before.diff(&lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "left behind:\n{left}");
    Ok(())
}

/// Does with the second card what compositors do: opens it, and listens to udev about its coming and going.
const COMPOSITOR: &str = r#"
exec 6</dev/dri/card0
card=$(basename /sys/bus/pci/devices/0000:02:00.0/drm/card*)
exec 7<"/dev/dri/$card"
{
  exec 6<&- 7<&-
  stdbuf -oL udevadm monitor --udev --subsystem-match=drm | while read -r _ _ action path _; do
    case "$action $path" in
      "remove "*0000:02:00.0/drm/card?) echo gone >>/run/lab/heard ;;
      "add "*0000:02:00.0/drm/card?) echo here >>/run/lab/heard ;;
    esac
  done
} &
while sleep 0.1; do
  case "$(tail -n 1 /run/lab/heard 2>/dev/null)" in
    gone) exec 7<&- ;;
    here) exec 7<"/dev/dri/$(basename /sys/bus/pci/devices/0000:02:00.0/drm/card*)" ;;
  esac
done
"#;

fn a_session_does_without_it(lab: &Lab) -> Result<()> {
    desktop(lab, COMPOSITOR)?;
    let holds = format!("fuser /dev/dri/$(basename /sys/bus/pci/devices/{}/drm/card*)", at::SECOND_GPU);
    lab.wait_until(&holds, SOON)?;
    let file = lab.install_machine("second", &machine(r#"memory: (size: "32 MiB"), pci: ["02:00.*"]"#))?;
    let plan = lab.sh(&format!("/lab/bin/vfio-run plan {file}"))?;
    ensure!(plan.contains("have compositors close") && !plan.contains("stop desktop.service"), "{plan}");
    let desktop = lab.sh("systemctl show -P MainPID desktop.service")?;
    lab.sh(": >/run/lab/guest.log")?;
    let job = lab.start(&format!("exec /lab/bin/vfio-run -v {file}"))?;
    job.wait_until("grep -q READY /run/lab/guest.log", GUEST_BOOT)?;
    ensure!(lab.sh("systemctl show -P MainPID desktop.service")? == desktop, "the desktop was stopped");
    lab.sh("/lab/bin/vfio-run stop second")?;
    ensure!(job.wait(SOON)?.status == 0);
    // It is told that the card is back, and takes it again.
    lab.wait_until(&holds, SOON)?;
    ensure!(lab.sh("systemctl show -P MainPID desktop.service")? == desktop);
    Ok(())
}
