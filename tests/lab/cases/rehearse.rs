//! Round after round: the handover without a guest. What a round leaves behind shows after many.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::passthrough::{DESKTOP, host, shows_the_host};
use crate::kit::host::at;
use crate::kit::lab::Lab;
use crate::kit::thorough;

pub(super) const GUEST_BOOT: Duration = Duration::from_secs(180);
pub(super) const SOON: Duration = Duration::from_secs(90);
/// Far more than any number of rounds takes on a machine that is not overloaded.
pub(super) const MANY_ROUNDS: Duration = Duration::from_secs(1200);

pub(super) fn machine(more: &str) -> String {
    format!(
        "(guest: Other, accelerator: Kvm, cpu: (vcpus: 1, features: [\"-xsave\"]), kernel: (image: \"/lab/guests/tiny\"),
          networks: [], serial: File(\"/run/lab/guest.log\"), shutdown_timeout: 60, {more})"
    )
}

#[test]
fn a_rehearsal_leaves_the_host_as_it_was() -> Result<()> {
    let lab = host("one-gpu", "debian13")?;
    in_turn!(
        &lab;
        rounds_with_the_only_gpu_leave_nothing_behind,
        a_rehearsal_that_is_killed_is_recovered_from,
        a_desktop_survives_more_rounds_than_systemd_would_start_it_and_a_leak_is_named,
    );
    lab.finish()
}

fn rounds_with_the_only_gpu_leave_nothing_behind(lab: &Lab) -> Result<()> {
    let more = r#"memory: (size: "32 MiB", pages: Huge("2 MiB")), pci: ["01:00.*"]"#;
    let file = lab.install_machine("only", &machine(more))?;
    // Asks QEMU what it can do, and loads what the first handover loads.
    lab.run_for(&format!("/lab/bin/vfio-run rehearse {file}"), MANY_ROUNDS)?.ok()?;
    let before = lab.snapshot_of_host()?;
    let rounds = thorough::rounds(50, 12);
    let rehearsed = lab.run_for(&format!("/lab/bin/vfio-run rehearse -n {rounds} {file}"), MANY_ROUNDS)?;
    eprintln!("{} after {:.0} s", rehearsed.stdout, rehearsed.took.as_secs_f32());
    ensure!(rehearsed.status == 0 && rehearsed.stdout.contains(&format!("{rounds} of {rounds} rounds")), "{rehearsed}");
    for step in ["have 16 free huge pages", &format!("bind {} to vfio-pci", at::GPU)] {
        ensure!(rehearsed.stdout.contains(step), "{step} was not rehearsed: {rehearsed}");
    }
    ensure!(!rehearsed.stdout.contains("leaked"), "{rehearsed}");
    let left = before.diff(&lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "left behind:\n{left}\n{rehearsed}");
    shows_the_host(lab, "back")
}

fn a_desktop_survives_more_rounds_than_systemd_would_start_it_and_a_leak_is_named(lab: &Lab) -> Result<()> {
    lab.sh(DESKTOP)?;
    let hooks = r#"hooks: (restored: [["/bin/sh", "/run/lab/leak"]])"#;
    let more = format!(r#"memory: (size: "32 MiB"), pci: ["01:00.*"], {hooks}"#);
    let file = lab.install_machine("only", &machine(&more))?;
    let before = lab.snapshot_of_host()?;
    // systemd gives up on a unit that was started five times within ten seconds.
    let rehearsed = lab.run_for(&format!("/lab/bin/vfio-run rehearse -n 6 {file}"), MANY_ROUNDS)?;
    ensure!(rehearsed.status == 0 && rehearsed.stdout.contains("stop desktop.service"), "{rehearsed}");
    ensure!(lab.sh("systemctl is-active desktop.service")? == "active");
    let left = before.diff(&lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "left behind:\n{left}\n{rehearsed}");

    lab.sh(&format!("echo 'echo vfio-pci >/sys/bus/pci/devices/{}/driver_override' >/run/lab/leak", at::GPU_SOUND))?;
    let rehearsed = lab.run_for(&format!("/lab/bin/vfio-run rehearse --hooks {file}"), MANY_ROUNDS)?;
    let named = format!("leaked: round 1 came back with {} driver_override: (null) → vfio-pci", at::GPU_SOUND);
    ensure!(rehearsed.status == 5 && rehearsed.stdout.contains(&named), "{rehearsed}");
    Ok(())
}

fn a_rehearsal_that_is_killed_is_recovered_from(lab: &Lab) -> Result<()> {
    let more = r#"memory: (size: "32 MiB", pages: Huge("2 MiB")), pci: ["01:00.*"]"#;
    let file = lab.install_machine("only", &machine(more))?;
    let before = lab.snapshot_of_host()?;
    let driver = format!("basename $(readlink /sys/bus/pci/devices/{}/driver)", at::GPU);
    let job = lab.start(&format!("exec /lab/bin/vfio-run rehearse -n 50 {file}"))?;
    job.wait_until(&format!("[ $({driver}) = vfio-pci ]"), GUEST_BOOT)?;
    lab.kill("vfio-run", "KILL")?;
    ensure!(job.wait(SOON)?.status == 137);
    lab.run_for("/lab/bin/vfio-run recover only", SOON)?.ok()?;
    ensure!(lab.sh(&driver)? == "bochs-drm");
    let left = before.diff(&lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "left behind:\n{left}");
    Ok(())
}
