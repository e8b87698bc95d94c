//! A machine as a systemd unit: `vfio-run unit --install`, and then only systemctl.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::program::{END, MACHINE, START, prepare};
use crate::kit::lab::{Lab, releases};

const UNIT: &str = "vfio-run-tiny";

/// A host with the machine as a unit that was started once, so that what it asks of QEMU is known.
fn host_with_unit(release: &str, machine: &str) -> Result<Lab> {
    let lab = Lab::variant("bare", release).start()?;
    prepare(&lab)?;
    let file = lab.install_machine("tiny", machine)?;
    lab.sh(&format!("/lab/bin/vfio-run unit --install {file}"))?;
    lab.sh(&format!("systemd-analyze verify /etc/systemd/system/{UNIT}.service"))?;
    Ok(lab)
}

fn start(lab: &Lab) -> Result<()> {
    // Returns only when the launcher has said READY=1.
    lab.run_for(&format!("systemctl start {UNIT} || {{ journalctl -u {UNIT}; false; }}"), START)?.ok().map(drop)
}

fn property(lab: &Lab, name: &str) -> Result<String> {
    lab.sh(&format!("systemctl show -P {name} {UNIT}"))
}

#[test]
fn a_unit_starts_stops_and_leaves_the_host_as_it_was() -> Result<()> {
    for release in releases() {
        let lab = host_with_unit(release, MACHINE)?;
        let before = lab.snapshot_of_host()?;
        start(&lab)?;
        ensure!(property(&lab, "StatusText")?.starts_with("running"), "{}", property(&lab, "StatusText")?);
        let group = lab.sh("cat /proc/$(pgrep -x qemu-system-x86)/cgroup")?;
        ensure!(group.ends_with(&format!("{UNIT}.service/guest")), "{group}");
        lab.wait_until("grep -q READY /run/lab/guest.log", START)?;
        lab.sh(&format!("systemctl stop {UNIT}"))?;
        ensure!(lab.sh("cat /run/lab/guest.log")?.contains("POWER BUTTON"), "the guest was not asked");
        ensure!(property(&lab, "Result")? == "success", "{}", property(&lab, "Result")?);
        // The messages have fields that journalctl can be asked for.
        let fields = lab.sh(&format!("journalctl -u {UNIT} -o json F_EVENT=running"))?;
        ensure!(fields.contains("F_MACHINE"), "{fields}");
        let left = before.diff(&lab.snapshot_of_host()?);
        ensure!(left.is_empty(), "left behind on {release}:\n{left}");
        lab.finish()?;
    }
    Ok(())
}

#[test]
fn a_unit_whose_launcher_is_killed_ends_the_guest_and_gives_the_host_back() -> Result<()> {
    // Half a gibibyte of huge pages would be missed, and so would a disk that belongs to somebody else.
    let machine = MACHINE.replace("memory: (size: \"128 MiB\")", "memory: (size: \"128 MiB\", pages: Huge(\"2 MiB\"))");
    let machine = machine.replace("networks", "disks: [(file: \"/home/tester/disk.raw\")],\n    networks");
    let lab = host_with_unit("debian13", &machine)?;
    lab.sh("truncate -s 16M /home/tester/disk.raw && chmod 600 /home/tester/disk.raw && chmod 755 /home/tester")?;
    let before = lab.snapshot_of_host()?;
    let owner = lab.sh("stat -c %u:%g /home/tester/disk.raw")?;
    start(&lab)?;
    ensure!(lab.sh("stat -c %u:%g /home/tester/disk.raw")? != owner, "the disk is not QEMU's");
    lab.sh(&format!("kill -KILL {}", property(&lab, "MainPID")?))?;
    lab.wait_until(&format!("! systemctl is-active -q {UNIT} && ! pgrep -x qemu-system-x86"), END)?;
    ensure!(property(&lab, "Result")? == "signal", "{}", property(&lab, "Result")?);
    // systemd keeps what it set up for a unit that failed until somebody has taken note.
    lab.sh(&format!("systemctl reset-failed {UNIT}"))?;
    ensure!(lab.sh("stat -c %u:%g /home/tester/disk.raw")? == owner, "ExecStopPost did not give the disk back");
    let left = before.diff(&lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "left behind:\n{left}");
    lab.finish()
}

#[test]
fn a_unit_that_cannot_start_says_why_and_leaves_nothing() -> Result<()> {
    let machine = MACHINE.replace("networks", "extra_args: [\"-device\", \"nonsense\"],\n    networks");
    let lab = host_with_unit("debian12", &machine)?;
    let before = lab.snapshot_of_host()?;
    ensure!(lab.run_for(&format!("systemctl start {UNIT}"), START)?.status != 0, "it started");
    ensure!(property(&lab, "ExecMainStatus")? == "1", "{}", property(&lab, "ExecMainStatus")?);
    let said = lab.sh(&format!("journalctl -u {UNIT} -o cat"))?;
    ensure!(said.contains("nonsense") && said.contains("/var/log/vfio-run/tiny.log"), "{said}");
    lab.sh(&format!("systemctl reset-failed {UNIT}"))?;
    let left = before.diff(&lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "left behind:\n{left}");
    lab.finish()
}

#[test]
fn a_host_that_shuts_down_asks_its_guest_first() -> Result<()> {
    let machine = MACHINE.replace("/run/lab/guest.log", "/var/lib/lab-guest.log");
    let lab = host_with_unit("debian13", &machine)?;
    lab.sh("touch /var/lib/lab-guest.log")?;
    start(&lab)?;
    lab.wait_until("grep -q READY /var/lib/lab-guest.log", Duration::from_secs(60))?;
    lab.power_off()?;
    lab.restart()?;
    ensure!(lab.sh("cat /var/lib/lab-guest.log")?.contains("POWER BUTTON"), "the guest was not asked");
    lab.finish()
}
