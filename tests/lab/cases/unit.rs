//! A machine as a systemd unit: `vfio-run unit --install`, and then only systemctl.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::program::{END, MACHINE, START, prepare};
use crate::kit::images::Release;
use crate::kit::lab::{Lab, releases};
use crate::kit::thorough;

const UNIT: &str = "vfio-run-tiny";

#[test]
fn a_machine_as_a_unit() -> Result<()> {
    for release in releases() {
        let lab = Lab::variant("bare", release).start()?;
        prepare(&lab)?;
        let file = lab.install_machine("tiny", MACHINE)?;
        lab.sh(&format!("/lab/bin/vfio-run unit --install {file}"))?;
        lab.sh(&format!("systemd-analyze verify /etc/systemd/system/{UNIT}.service"))?;
        in_turn!(&lab; a_unit_starts_stops_and_leaves_the_host_as_it_was);
        if release == "debian12" || thorough::is_on() {
            in_turn!(
                &lab;
                a_host_out_of_memory_ends_the_guest_and_not_its_launcher,
                a_unit_that_cannot_start_says_why_and_leaves_nothing,
            );
        }
        if release == "debian13" || thorough::is_on() {
            in_turn!(
                &lab;
                a_unit_whose_launcher_is_killed_ends_the_guest_and_gives_the_host_back,
                a_host_that_shuts_down_asks_its_guest_first_and_generates_its_units_when_it_boots,
            );
        }
        lab.finish()?;
    }
    Ok(())
}

/// Another machine for the unit, which has only its file's name.
fn change(lab: &Lab, machine: &str) -> Result<()> {
    lab.install_machine("tiny", machine)?;
    lab.sh(": >/run/lab/guest.log").map(drop)
}

fn start(lab: &Lab) -> Result<()> {
    // Returns only when the launcher has said READY=1.
    lab.run_for(&format!("systemctl start {UNIT} || {{ journalctl -u {UNIT}; false; }}"), START)?.ok().map(drop)
}

fn property(lab: &Lab, name: &str) -> Result<String> {
    lab.sh(&format!("systemctl show -P {name} {UNIT}"))
}

fn a_unit_starts_stops_and_leaves_the_host_as_it_was(lab: &Lab) -> Result<()> {
    let before = lab.snapshot_of_host()?;
    start(lab)?;
    ensure!(property(lab, "StatusText")?.starts_with("running"), "{}", property(lab, "StatusText")?);
    let group = lab.sh("cat /proc/$(pgrep -x qemu-system-x86)/cgroup")?;
    ensure!(group.ends_with(&format!("{UNIT}.service/guest")), "{group}");
    lab.wait_until("grep -q READY /run/lab/guest.log", START)?;
    lab.sh(&format!("systemctl stop {UNIT}"))?;
    ensure!(lab.sh("cat /run/lab/guest.log")?.contains("POWER BUTTON"), "the guest was not asked");
    ensure!(property(lab, "Result")? == "success", "{}", property(lab, "Result")?);
    // The messages have fields that journalctl can be asked for.
    let fields = lab.sh(&format!("journalctl -u {UNIT} -o json F_EVENT=running"))?;
    ensure!(fields.contains("F_MACHINE"), "{fields}");
    let left = before.diff(&lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "left behind:\n{left}");
    Ok(())
}

fn a_unit_whose_launcher_is_killed_ends_the_guest_and_gives_the_host_back(lab: &Lab) -> Result<()> {
    // Half a gibibyte of huge pages would be missed. The disk is in a folder of its owner's, and stays his.
    let machine = MACHINE.replace("memory: (size: \"128 MiB\")", "memory: (size: \"128 MiB\", pages: Huge(\"2 MiB\"))");
    let machine = machine.replace("networks", "disks: [(file: \"/home/tester/disk.raw\")],\n    networks");
    change(lab, &machine)?;
    lab.sh("truncate -s 16M /home/tester/disk.raw && chown tester /home/tester/disk.raw && chmod 600 /home/tester/disk.raw && chmod 700 /home/tester")?;
    let before = lab.snapshot_of_host()?;
    let owner = lab.sh("stat -c %u:%g /home/tester/disk.raw")?;
    start(lab)?;
    ensure!(lab.sh("stat -c %u:%g /home/tester/disk.raw")? == owner, "the disk has another owner");
    lab.sh(&format!("kill -KILL {}", property(lab, "MainPID")?))?;
    lab.wait_until(&format!("! systemctl is-active -q {UNIT} && ! pgrep -x qemu-system-x86"), END)?;
    ensure!(property(lab, "Result")? == "signal", "{}", property(lab, "Result")?);
    // systemd keeps what it set up for a unit that failed until somebody has taken note.
    lab.sh(&format!("systemctl reset-failed {UNIT}"))?;
    // It switches a controller that no unit wants any more off when it comes to it.
    lab.wait_until("! grep -q cpuset /sys/fs/cgroup/cgroup.subtree_control", END)?;
    let left = before.diff(&lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "left behind:\n{left}");
    Ok(())
}

fn a_host_out_of_memory_ends_the_guest_and_not_its_launcher(lab: &Lab) -> Result<()> {
    let before = lab.snapshot_of_host()?;
    start(lab)?;
    // The kernel does what it does when memory has run out (Documentation/admin-guide/sysrq.rst).
    lab.sh("echo f >/proc/sysrq-trigger")?;
    lab.wait_until(&format!("! systemctl is-active -q {UNIT}"), END)?;
    let killed = lab.sh("dmesg | grep 'Out of memory: Killed process' | tail -n 1")?;
    ensure!(killed.contains("(qemu-system-x86)"), "{killed}");
    // The launcher has ended by itself, and says that its guest was killed.
    ensure!(property(lab, "ExecMainStatus")? == "4", "{}", property(lab, "ExecMainStatus")?);
    lab.sh(&format!("systemctl reset-failed {UNIT}"))?;
    let left = before.diff(&lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "left behind:\n{left}");
    Ok(())
}

fn a_unit_that_cannot_start_says_why_and_leaves_nothing(lab: &Lab) -> Result<()> {
    let machine = MACHINE.replace("networks", "extra_args: [\"-device\", \"nonsense\"],\n    networks");
    change(lab, &machine)?;
    let before = lab.snapshot_of_host()?;
    ensure!(lab.run_for(&format!("systemctl start {UNIT}"), START)?.status != 0, "it started");
    ensure!(property(lab, "ExecMainStatus")? == "1", "{}", property(lab, "ExecMainStatus")?);
    let said = lab.sh(&format!("journalctl -u {UNIT} -o cat"))?;
    ensure!(said.contains("nonsense") && said.contains("/var/log/vfio-run/tiny.log"), "{said}");
    lab.sh(&format!("systemctl reset-failed {UNIT}"))?;
    // It switches a controller that no unit wants any more off when it comes to it.
    lab.wait_until("! grep -q cpuset /sys/fs/cgroup/cgroup.subtree_control", END)?;
    let left = before.diff(&lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "left behind:\n{left}");
    Ok(())
}

fn a_host_that_shuts_down_asks_its_guest_first_and_generates_its_units_when_it_boots(lab: &Lab) -> Result<()> {
    // As the package has it: systemd starts the generator before it has mounted any other file system, or any unit a group.
    lab.write("/etc/vfio-run/booted.ron", &MACHINE.replace("shutdown_timeout: 30", "shutdown_timeout: 300"))?;
    lab.sh(
        "cp /lab/bin/vfio-run /usr/bin/ && /usr/bin/vfio-run unit --template >/etc/systemd/system/vfio-run@.service && \
         mkdir -p /etc/systemd/system-generators && ln -s /usr/bin/vfio-run /etc/systemd/system-generators/vfio-run-generator",
    )?;
    let machine = MACHINE.replace("/run/lab/guest.log", "/var/lib/lab-guest.log");
    change(lab, &machine)?;
    lab.sh("touch /var/lib/lab-guest.log")?;
    start(lab)?;
    lab.wait_until("grep -q READY /var/lib/lab-guest.log", Duration::from_secs(60))?;
    let boot = lab.sh("cat /proc/sys/kernel/random/boot_id")?;
    lab.restart()?;
    ensure!(lab.sh("cat /proc/sys/kernel/random/boot_id")? != boot, "the host was not off");
    ensure!(lab.run("test -x /lab/bin/vfio-run")?.status == 0, "the payload is not there after a boot");
    ensure!(lab.sh("cat /var/lib/lab-guest.log")?.contains("POWER BUTTON"), "the guest was not asked");
    let generated = lab.sh("systemctl show -p DelegateControllers -p TimeoutStopUSec vfio-run@booted.service")?;
    // From Linux 6.7 on the guest's CPUs can become its own there.
    let controllers = if lab.host.release == Release::Debian12 { "pids" } else { "cpuset pids" };
    for line in [format!("DelegateControllers={controllers}"), "TimeoutStopUSec=6min 30s".to_owned()] {
        ensure!(generated.lines().any(|shown| shown == line), "no {line}:\n{generated}");
    }
    Ok(())
}
