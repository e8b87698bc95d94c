//! What QEMU inherits from its launcher: the holds, which stand as long as QEMU runs, and the node of the guest's vsock.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::linux_guest;
use super::passthrough::{host, machine};
use crate::kit::lab::Lab;

const GUEST_BOOT: Duration = Duration::from_secs(240);
const SOON: Duration = Duration::from_secs(120);

/// Prints the strictest limit of all programs, in microseconds.
const LATENCY: &str = "od -A n -t d4 -N 4 /dev/cpu_dma_latency | tr -d ' '";
/// Prints logind's inhibitors in a line.
const INHIBITORS: &str = "busctl call org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager \
                          ListInhibitors";

/// A machine with both holds, which tells when its devices are taken.
const HELD: &str = "host: (cpu_latency_us: 20, no_sleep: true), hooks: (ready: [[\"/bin/touch\", \"/run/lab/taken\"]])";

#[test]
fn what_qemu_inherits_from_its_launcher() -> Result<()> {
    let lab = host("one-gpu", "debian13")?;
    in_turn!(&lab; holds_end_with_qemu_and_not_with_the_launcher, host_and_guest_talk_by_vsock);
    lab.finish()
}

fn both_hold(lab: &Lab, when: &str) -> Result<()> {
    let latency = lab.sh(LATENCY)?;
    ensure!(latency == "20", "{when} the CPUs may take {latency} µs to wake");
    let inhibitors = lab.sh(INHIBITORS)?;
    let ours = r#""sleep" "vfio-run" "the virtual machine held runs" "block" 0 "#;
    ensure!(inhibitors.contains(ours), "{when} logind lists {inhibitors}");
    Ok(())
}

fn holds_end_with_qemu_and_not_with_the_launcher(lab: &Lab) -> Result<()> {
    let file = lab.install_machine("held", &machine(HELD))?;
    // Asks QEMU what it can do, which all runs find in the cache.
    lab.run_for(&format!("/lab/bin/vfio-run check {file}"), GUEST_BOOT)?.ok()?;
    let (latency, inhibitors) = (lab.sh(LATENCY)?, lab.sh(INHIBITORS)?);
    ensure!(latency != "20" && !inhibitors.contains("vfio-run"), "{latency} {inhibitors}");
    let before = lab.snapshot_of_host()?;
    // A hold that is refused costs nobody the screen.
    let no_bus = "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/lab/none";
    let refused = lab.run_for(&format!("{no_bus} /lab/bin/vfio-run -v {file}"), GUEST_BOOT)?;
    ensure!(refused.status == 1 && refused.stderr.contains("the system bus cannot be reached"), "{refused}");
    ensure!(lab.run("test -e /run/lab/taken")?.status != 0, "the devices were taken: {refused}");
    let job = lab.start(&format!("exec /lab/bin/vfio-run -v {file}"))?;
    job.wait_until("grep -q READY /run/lab/guest.log", GUEST_BOOT)?;
    both_hold(lab, "while the guest runs")?;
    lab.kill("vfio-run", "KILL")?;
    ensure!(job.wait(SOON)?.status == 137);
    both_hold(lab, "without a launcher")?;
    lab.kill("qemu-system-x86", "KILL")?;
    // logind reads a moment later that nobody has the descriptor any more.
    lab.wait_until(&format!("[ \"$({LATENCY})\" = {latency} ] && [ \"$({INHIBITORS})\" = '{inhibitors}' ]"), SOON)?;
    let recovered = lab.run("/lab/bin/vfio-run recover -v held")?;
    ensure!(recovered.status == 0, "{recovered}");
    let left = before.diff(&lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "left behind:\n{left}\n{recovered}");
    Ok(())
}

fn host_and_guest_talk_by_vsock(lab: &Lab) -> Result<()> {
    lab.sh("cd /run/lab; : >guest.log; touch second.log; chmod 666 second.log; modprobe vhost_vsock; udevadm settle")?;
    let before = lab.snapshot_of_host()?;
    let tiny = machine("vsock: Cid(42)");
    let linux =
        tiny.replace(r#"(image: "/lab/guests/tiny")"#, &linux_guest("guest.vsock")).replace("64 MiB", "256 MiB");
    let first = lab.install_machine("first", &linux)?;
    let job = lab.start(&format!("exec /lab/bin/vfio-run -v {first}"))?;
    job.wait_until("grep -q 'LINUX LISTENS BY VSOCK' /run/lab/guest.log", GUEST_BOOT)?;

    // The launcher opened the node, so QEMU keeps its own account and its sandbox.
    let process = lab.sh("awk '/^(Uid|Seccomp):/{print $2}' /proc/$(pgrep -x qemu-system-x86)/status")?;
    let (user, seccomp) = process.split_once('\n').context("no user and no seccomp")?;
    ensure!(user != "0" && seccomp == "2", "user {user}, seccomp {seccomp}");
    lab.sh("find /proc/$(pgrep -x qemu-system-x86)/fd -lname /dev/vhost-vsock | grep -q .")?;

    let answer = lab.sh("echo from the host | socat -t 30 - VSOCK-CONNECT:42:1024")?;
    ensure!(answer == "from the guest", "{answer}");
    lab.wait_until("grep -q 'LINUX HEARD from the host' /run/lab/guest.log", SOON)?;

    let second = lab.install_machine("second", &tiny.replace("guest.log", "second.log"))?;
    let refused = lab.run(&format!("/lab/bin/vfio-run {second}"))?;
    ensure!(refused.status == 1 && refused.stderr.contains(r#""guest-cid":42"#), "{refused}");

    lab.sh("/lab/bin/vfio-run stop first")?;
    job.wait(SOON)?.ok()?;
    let left = before.diff(&lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "left behind:\n{left}");
    Ok(())
}
