//! What keeps a screen from staying black: the test start before the host is changed, and the dead-man switch afterwards.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::linux_guest;
use super::passthrough::{DESKTOP, SOON, host, machine, start};
use crate::kit::host::at;
use crate::kit::lab::Lab;

/// When the desktop's unit was started, and which links to their drivers the card's functions have: a link that was made
/// again is another.
fn untouched(lab: &Lab) -> Result<String> {
    let links = [at::GPU, at::GPU_SOUND].map(|device| format!("/sys/bus/pci/devices/{device}/driver"));
    lab.sh(&format!(
        "systemctl show -P ActiveEnterTimestampMonotonic desktop.service; stat -c '%i %N' {}",
        links.join(" ")
    ))
}

/// Installs a machine whose QEMU is known already: to ask it takes an emulated host that is busy very long, and this is
/// about what comes after.
fn installed(lab: &Lab, text: &str) -> Result<String> {
    let file = lab.install_machine("only", text)?;
    lab.wait_until(&format!("/lab/bin/vfio-run check {file}"), Duration::from_secs(240))?;
    Ok(file)
}

#[test]
fn a_screen_does_not_stay_black() -> Result<()> {
    let lab = host("one-gpu", "debian13")?;
    lab.sh(DESKTOP)?;
    in_turn!(
        &lab;
        a_command_line_that_qemu_refuses_is_refused_before_anything_is_taken,
        a_guest_that_shows_no_life_loses_the_card_and_the_desktop_comes_back,
    );
    lab.finish()
}

fn a_command_line_that_qemu_refuses_is_refused_before_anything_is_taken(lab: &Lab) -> Result<()> {
    let bad = machine(r#"pci: ["01:00.*"], extra_args: ["-device", "nonsense"]"#);
    let file = installed(lab, &bad)?;
    let (before, state) = (untouched(lab)?, lab.snapshot_of_host()?);
    let plan = lab.sh(&format!("/lab/bin/vfio-run plan {file}"))?;
    ensure!(
        plan.contains("QEMU must accept its command line") && plan.contains("before: stop desktop.service"),
        "{plan}"
    );
    let refused = lab.run(&format!("/lab/bin/vfio-run -v {file}"))?;
    let words = "'nonsense' is not a valid device model name";
    ensure!(refused.status == 1 && refused.stderr.contains(words), "{refused}");
    ensure!(refused.stderr.contains("test start; nothing on the host was changed"), "{refused}");
    ensure!(untouched(lab)? == before, "{refused}");
    let left = state.diff(&lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "left behind:\n{left}\n{refused}");

    // So is a property of the card with a value that QEMU does not take.
    let bad = machine(r#"pci: [(address: "01:00.*", properties: {"x-no-mmap": "perhaps"})]"#);
    let refused = lab.run(&format!("/lab/bin/vfio-run -v {}", lab.install_machine("only", &bad)?))?;
    let words = "Invalid parameter type for 'x-no-mmap'";
    ensure!(refused.status == 1 && refused.stderr.contains(words), "{refused}");
    ensure!(untouched(lab)? == before, "{refused}");

    // The same machine without these gets the card, also when its pages were reserved before the trial.
    let good = machine(r#"pci: [(address: "01:00.*", properties: {"x-no-mmap": false})]"#);
    let good = good.replace("\"64 MiB\"", "\"64 MiB\", pages: Huge(\"2 MiB\")");
    let file = lab.install_machine("only", &good)?;
    let job = start(lab, &file, "guest")?;
    ensure!(untouched(lab)? != before, "this test does not see a handover");
    lab.sh("/lab/bin/vfio-run stop only")?;
    ensure!(job.wait(SOON)?.status == 0);
    Ok(())
}

fn a_guest_that_shows_no_life_loses_the_card_and_the_desktop_comes_back(lab: &Lab) -> Result<()> {
    let file = installed(lab, &machine(r#"pci: ["01:00.*"], give_back_unless: (within: 20)"#))?;
    let state = lab.snapshot_of_host()?;
    let job = start(lab, &file, "guest")?;
    let ended = job.wait(Duration::from_secs(180))?;
    ensure!(ended.status == 4 && ended.stderr.contains("a sign of life did not show within 20 s"), "{ended}");
    ensure!(lab.sh("systemctl is-active desktop.service")? == "active");
    let left = state.diff(&lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "left behind:\n{left}\n{ended}");
    Ok(())
}

#[test]
fn a_guests_signs_of_life_are_seen() -> Result<()> {
    let lab = host("usb", "debian13")?;
    in_turn!(
        &lab;
        a_program_in_the_guest_that_opens_the_agents_channel_is_life,
        a_driver_of_the_guest_at_work_on_its_device_is_life,
    );
    lab.finish()
}

fn linux(more: &str, words: &str) -> String {
    machine(more).replace(r#"(image: "/lab/guests/tiny")"#, &linux_guest(words)).replace("64 MiB", "256 MiB")
}

fn a_program_in_the_guest_that_opens_the_agents_channel_is_life(lab: &Lab) -> Result<()> {
    let file = installed(lab, &linux("give_back_unless: (sign: GuestAgent, within: 200)", "guest.agent"))?;
    lab.sh(": >/run/lab/guest.log; : >/run/lab/said")?;
    let job = lab.start(&format!("exec /lab/bin/vfio-run -v {file} 2>/run/lab/said"))?;
    job.wait_until("grep -q 'shows a sign of life: the guest agent' /run/lab/said", Duration::from_secs(240))?;
    lab.sh("/lab/bin/vfio-run stop --force only")?;
    ensure!(job.wait(SOON)?.status == 4);
    Ok(())
}

fn a_driver_of_the_guest_at_work_on_its_device_is_life(lab: &Lab) -> Result<()> {
    let with_card = linux(r#"pci: ["03:00.*"], give_back_unless: (sign: Driver, within: 90)"#, "");
    let file = installed(lab, &with_card)?;
    lab.sh(": >/run/lab/guest.log; : >/run/lab/said")?;
    let job = lab.start(&format!("exec /lab/bin/vfio-run -v {file} 2>/run/lab/said"))?;
    job.wait_until("grep -q 'shows a sign of life: a driver of the guest' /run/lab/said", Duration::from_secs(240))?;
    job.wait_until("grep -q 'LINUX READY' /run/lab/guest.log", Duration::from_secs(120))?;
    lab.sh("/lab/bin/vfio-run stop only")?;
    ensure!(job.wait(SOON)?.status == 0);
    Ok(())
}
