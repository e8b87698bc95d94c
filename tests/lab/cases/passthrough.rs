//! The program hands devices over and takes them back.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::handover::a_gpu_changes_hands_by_hand;
use crate::kit::host::at;
use crate::kit::job::Job;
use crate::kit::lab::{Lab, releases};
use crate::kit::thorough;

const GUEST_BOOT: Duration = Duration::from_secs(120);
pub(super) const SOON: Duration = Duration::from_secs(60);

/// A guest on the host's only GPU, which paints it.
pub(super) fn machine(more: &str) -> String {
    format!(
        "(guest: Other, accelerator: Kvm, memory: (size: \"64 MiB\"), cpu: (vcpus: 1, features: [\"-xsave\"]),
          kernel: (image: \"/lab/guests/tiny\"), networks: [], serial: File(\"/run/lab/guest.log\"),
          shutdown_timeout: 30, {more})"
    )
}

/// What a desktop on the only GPU is, as far as a handover goes: a unit that holds the screen's node.
pub(super) const DESKTOP: &str = "
cat >/etc/systemd/system/desktop.service <<'END'
[Service]
ExecStart=/bin/sh -c 'exec sleep infinity 7</dev/dri/card0'
END
ln -sf desktop.service /etc/systemd/system/desktop3.service
ln -sf /etc/systemd/system/desktop3.service /etc/systemd/system/display-manager.service
systemctl start desktop.service";

/// A host as [`prepare`] leaves it.
pub(super) fn host(variant: &str, release: &str) -> Result<Lab> {
    let lab = Lab::variant(variant, release).start()?;
    prepare(&lab)?;
    Ok(lab)
}

/// Makes a host one as after a first run: its modules stay.
pub(super) fn prepare(lab: &Lab) -> Result<()> {
    lab.load_kvm()?;
    lab.sh("modprobe vfio-pci; udevadm settle; : >/run/lab/guest.log; chmod 666 /run/lab/guest.log").map(drop)
}

/// The first screen is the host's, which writes on it.
pub(super) fn shows_the_host(lab: &Lab, picture: &str) -> Result<()> {
    lab.sh("printf 'This is the host.\\n' >/dev/tty0")?;
    let shown = lab.screenshot(picture)?;
    ensure!(!shown.is_tiny_guest() && shown.colours() > 1, "the host is not on its screen");
    Ok(())
}

/// Starts the machine and waits for the picture of its guest.
pub(super) fn start<'a>(lab: &'a Lab, file: &str, picture: &str) -> Result<Job<'a>> {
    lab.sh(": >/run/lab/guest.log")?;
    let job = lab.start(&format!("exec /lab/bin/vfio-run -v {file}"))?;
    job.wait_until("grep -q READY /run/lab/guest.log", GUEST_BOOT)?;
    ensure!(lab.screenshot(picture)?.is_tiny_guest(), "the guest's picture is not on the screen");
    Ok(job)
}

#[test]
fn the_only_gpu_changes_hands() -> Result<()> {
    for release in releases() {
        let lab = host("one-gpu", release)?;
        in_turn!(
            &lab;
            a_gpu_changes_hands_by_hand,
            the_only_gpu_goes_to_a_guest_and_comes_back,
            a_guest_that_restarts_gets_the_gpu_again_from_a_new_qemu_and_reset,
        );
        if release == "debian13" || thorough::is_on() {
            lab.sh(DESKTOP)?;
            in_turn!(
                &lab;
                a_desktop_is_stopped_and_starts_again_also_when_the_launcher_is_killed,
                a_program_on_the_desktops_gpu_is_named_and_ended_only_when_asked_for,
            );
        }
        lab.finish()?;
    }
    Ok(())
}

fn the_only_gpu_goes_to_a_guest_and_comes_back(lab: &Lab) -> Result<()> {
    let file = lab.install_machine("only", &machine(r#"pci: [(address: "01:00.*", expect: "1234:1111")]"#))?;
    let before = lab.snapshot_of_host()?;
    let job = start(lab, &file, "guest")?;
    ensure!(lab.sh(&format!("basename $(readlink /sys/bus/pci/devices/{}/driver)", at::GPU))? == "vfio-pci");
    let its = "find /dev -xdev -uid $(awk '/^Uid:/{print $2}' /proc/$(pgrep -x qemu-system-x86)/status)";
    let group = lab.sh(&format!("basename $(readlink /sys/bus/pci/devices/{}/iommu_group)", at::GPU))?;
    ensure!(lab.sh(its)? == format!("/dev/vfio/{group}"), "QEMU's account owns {}", lab.sh(its)?);
    // Its memory was filled before the screen went, with the huge pages that it would have had otherwise.
    let huge = lab.sh("awk '/^ShmemHugePages/ {print $2}' /proc/meminfo")?;
    ensure!(huge.parse::<u64>()? >= 32 << 10, "{huge} KiB of the guest's memory are huge pages");
    // A card that sleeps on its way back to its driver may not wake for it.
    let asleep = format!("cat /sys/bus/pci/devices/{}/power/runtime_suspended_time", at::GPU);
    let (slept, control) = (lab.sh(&asleep)?, format!("/sys/bus/pci/devices/{}/power/control", at::GPU));
    ensure!(lab.sh(&format!("cat {control}"))? == "on", "the card may sleep");
    lab.sh("/lab/bin/vfio-run stop only")?;
    let ended = job.wait(SOON)?;
    ensure!(ended.status == 0, "{ended}");
    ensure!(lab.sh(&asleep)? == slept, "the card slept on its way back: {} ms after {slept} ms", lab.sh(&asleep)?);
    let allowed = lab.sh("cat /sys/kernel/mm/transparent_hugepage/shmem_enabled")?;
    ensure!(allowed.contains("[never]"), "{allowed}");
    shows_the_host(lab, "back")?;
    let left = before.diff(&lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "left behind:\n{left}\n{ended}");
    a_report_has_the_handover(lab)
}

/// The last run's, in which the host's only screen was taken and given back.
fn a_report_has_the_handover(lab: &Lab) -> Result<()> {
    let report: Value = serde_json::from_str(&lab.sh("/lab/bin/vfio-run report only --json")?)?;
    let has = |steps: &Value, words: &str| {
        steps
            .as_array()
            .is_some_and(|steps| steps.iter().any(|s| s["step"].as_str().is_some_and(|s| s.contains(words))))
    };
    for words in ["fill the guest's memory", "trial of QEMU's command line", at::GPU, "QEMU starts and answers"] {
        ensure!(has(&report["start"], words), "no {words} in the start of\n{report:#}");
    }
    ensure!(has(&report["back"], at::GPU), "no {} on the way back of\n{report:#}", at::GPU);
    let ms = |value: &Value| value.as_f64().unwrap_or(-1.0);
    let (from, ran) = (ms(&report["black"]["from_ms"]), ms(&report["guest_ran_ms"]));
    ensure!(from > 0.0 && from < ran && ms(&report["black"]["back_ms"]) > 0.0, "no black time in\n{report:#}");
    let changes = report["changes"].as_array();
    ensure!(
        changes.is_some_and(|all| !all.is_empty() && all.iter().all(|one| one["result"] != "stands")),
        "{report:#}"
    );
    let shown = lab.sh("/lab/bin/vfio-run report only")?;
    ensure!(shown.contains("the screen was black for ") && shown.contains("the screen is black"), "{shown}");
    Ok(())
}

/// The kernel's trace of what vfio does with devices: `opened`, `closed`, `reset`.
const TRACE: &str = "mount -t tracefs tracefs /sys/kernel/tracing && cd /sys/kernel/tracing && \
                     echo 'p:opened vfio_pci_core_enable' >kprobe_events && \
                     echo 'p:closed vfio_pci_core_close_device' >>kprobe_events && \
                     echo 'p:reset pci_reset_bus' >>kprobe_events && echo 1 >events/kprobes/enable";
const END_TRACE: &str = "cd /sys/kernel/tracing && echo 0 >events/kprobes/enable && \
                         sed -n 's/.* \\(opened\\|closed\\|reset\\): .*/\\1/p' trace && echo >kprobe_events && cd / && \
                         umount /sys/kernel/tracing";
const RESTART: &str = "(echo '{\"execute\":\"qmp_capabilities\"}'; echo '{\"execute\":\"system_reset\"}') | \
                       socat -t 2 - UNIX-CONNECT:/run/vfio-run/only/qmp.sock";

fn a_guest_that_restarts_gets_the_gpu_again_from_a_new_qemu_and_reset(lab: &Lab) -> Result<()> {
    let file = lab.install_machine("only", &machine(r#"pci: ["01:00.*"], on_reboot: Relaunch"#))?;
    let before = lab.snapshot_of_host()?;
    let job = start(lab, &file, "restarts-1")?;
    let qemu = lab.sh("pgrep -x qemu-system-x86")?;
    lab.sh(TRACE)?;
    // Its QEMU ends, now and then before socat has hung up.
    lab.run(RESTART)?;
    job.wait_until("[ $(grep -c READY /run/lab/guest.log) -ge 2 ]", GUEST_BOOT)?;
    ensure!(lab.sh("pgrep -x qemu-system-x86")? != qemu, "it is the same QEMU");
    let trace = lab.sh(END_TRACE)?;
    let reset_between = trace.split_once("closed").and_then(|(_, later)| later.split_once("opened"));
    ensure!(reset_between.is_some_and(|(between, _)| between.contains("reset")), "{trace}");
    ensure!(lab.screenshot("restarts-2")?.is_tiny_guest(), "the guest's picture is not on the screen");
    lab.sh("/lab/bin/vfio-run stop only")?;
    let ended = job.wait(SOON)?;
    ensure!(ended.status == 0, "{ended}");
    shows_the_host(lab, "restarts-3-back")?;
    let left = before.diff(&lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "left behind:\n{left}\n{ended}");
    Ok(())
}

fn a_desktop_is_stopped_and_starts_again_also_when_the_launcher_is_killed(lab: &Lab) -> Result<()> {
    let file = lab.install_machine("only", &machine(r#"pci: ["01:00.*"]"#))?;
    let before = lab.snapshot_of_host()?;
    let check = lab.sh(&format!("/lab/bin/vfio-run plan {file}"))?;
    ensure!(check.contains("stop desktop.service"), "{check}");
    shows_the_host(lab, "killed-1-host")?;
    let job = start(lab, &file, "killed-2-guest")?;
    ensure!(lab.run("systemctl is-active desktop.service")?.status != 0, "the desktop still runs");
    lab.kill("vfio-run", "KILL")?;
    job.wait(SOON)?;
    lab.kill("qemu-system-x86", "KILL")?;
    let recovered = lab.run("/lab/bin/vfio-run recover -v")?;
    ensure!(recovered.status == 0, "{recovered}");
    ensure!(lab.sh("systemctl is-active desktop.service")? == "active");
    shows_the_host(lab, "killed-3-back")?;
    let left = before.diff(&lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "left behind:\n{left}\n{recovered}");
    Ok(())
}

fn a_program_on_the_desktops_gpu_is_named_and_ended_only_when_asked_for(lab: &Lab) -> Result<()> {
    lab.sh("(exec setpriv --reuid 1000 --clear-groups sleep 600 7</dev/dri/card0) >/dev/null 2>&1 &")?;
    let file = lab.install_machine("only", &machine(r#"pci: ["01:00.*"]"#))?;
    let before = lab.snapshot_of_host()?;
    // It is in a unit that nothing stops.
    let check = lab.run_for(&format!("/lab/bin/vfio-run check {file}"), GUEST_BOOT)?;
    ensure!(check.status == 3, "{check}");
    let check = check.stdout;
    for words in [
        "desktop.service), which ends with a unit that vfio-run stops; the consoles on fb0",
        "is open in sleep",
        "as tester",
    ] {
        ensure!(check.contains(words), "no {words} in\n{check}");
    }
    let refused = lab.run(&format!("/lab/bin/vfio-run {file}"))?;
    ensure!(refused.status == 3 && refused.stderr.contains("is open in sleep"), "{refused}");
    let left = before.diff(&lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "left behind:\n{left}");

    let ended = lab.install_machine("only", &machine(r#"pci: ["01:00.*"], handover: (holders: End)"#))?;
    shows_the_host(lab, "held-1-host")?;
    let job = start(lab, &ended, "held-2-guest")?;
    ensure!(lab.run("pgrep -x sleep -u tester")?.status != 0, "the program still runs");
    lab.sh("/lab/bin/vfio-run stop only")?;
    let ended = job.wait(SOON)?;
    ensure!(ended.status == 0, "{ended}");
    shows_the_host(lab, "held-3-back")?;
    ensure!(lab.sh("systemctl is-active desktop.service")? == "active");
    let left = before.diff(&lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "left behind:\n{left}\n{ended}");
    Ok(())
}

#[test]
fn what_cannot_be_given_is_refused_by_name() -> Result<()> {
    let lab = Lab::variant("nvme", "debian13").start()?;
    lab.load_kvm()?;
    lab.sh("mkfs.ext4 -q -F /dev/nvme0n1; mount /dev/nvme0n1 /mnt")?;
    let before = lab.snapshot_of_host()?;
    for (entry, words) in [
        (r#""01:00.0""#, "can only be passed through as a whole"),
        (r#"(address: "01:00.*", expect: "10de:2684")"#, "not 10de:2684 as `expect` says"),
        (r#""1f:00.0""#, "no PCI device is at 0000:1f:00.0"),
        (r#""04:00.0""#, "0000:04:00.0 holds the mounted file system /mnt"),
    ] {
        refuses(&lab, entry, words)?;
    }
    let port = lab.sh("basename $(dirname $(readlink -f /sys/bus/pci/devices/0000:01:00.0))")?;
    refuses(&lab, &format!("\"{port}\""), &format!("{port} is a PCI bridge"))?;
    // Who looks before there is a machine file is told the same.
    let devices = lab.sh("/lab/bin/vfio-run devices")?;
    for words in
        ["0000:04:00.0 holds the mounted file system /mnt", "→ unmount it", "one card, `pci: [\"0000:01:00.*\"]`"]
    {
        ensure!(devices.contains(words), "no {words} in\n{devices}");
    }
    let left = before.diff(&lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "the check touched the host:\n{left}");
    a_vfio_that_does_not_work_is_told_before_anything_is_taken(&lab)?;
    asks_vfio(&lab)?;
    lab.finish()
}

/// As with a kernel that was built so: VFIO is there, and the type of IOMMU is not.
fn a_vfio_that_does_not_work_is_told_before_anything_is_taken(lab: &Lab) -> Result<()> {
    let conf = "/etc/modprobe.d/no-vfio.conf";
    lab.sh(": >/run/lab/guest.log; modprobe -r vfio_iommu_type1 vfio 2>&1")?;
    lab.sh(&format!("echo 'install vfio_iommu_type1 /bin/false' >{conf}"))?;
    let file = lab.install_machine("only", &machine(r#"pci: ["01:00.*"]"#))?;
    let before = lab.snapshot_of_host()?;
    let failed = lab.run_for(&format!("/lab/bin/vfio-run -v {file}"), GUEST_BOOT)?;
    lab.sh(&format!("rm {conf}; modprobe -r vfio 2>&1; true"))?;
    ensure!(failed.status == 1 && failed.stderr.contains("cannot use VFIO"), "{failed}");
    ensure!(failed.stderr.contains("the host keeps its devices, and nothing was stopped"), "{failed}");
    // With `-v` each change is told as it is made.
    ensure!(!failed.stderr.contains("bind 0000:"), "{failed}");
    let left = before.diff(&lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "left behind:\n{left}\n{failed}");
    Ok(())
}

/// Of a device that is with vfio-pci already the kernel itself is asked.
fn asks_vfio(lab: &Lab) -> Result<()> {
    lab.sh(&format!(
        ": >/run/lab/guest.log; chmod 666 /run/lab/guest.log; umount /mnt; modprobe vfio-pci; cd /sys/bus/pci/devices/{0}; echo vfio-pci >driver_override; \
         echo {0} >driver/unbind; echo {0} >/sys/bus/pci/drivers_probe",
        at::NVME
    ))?;
    let file = lab.install_machine("given", &machine(r#"pci: ["04:00.0"]"#))?;
    let check = format!("/lab/bin/vfio-run check {file}");
    let given = lab.run(&check)?;
    ensure!(
        given.status == 0 && given.stdout.contains("VFIO accepts the devices already bound to vfio-pci"),
        "{given}"
    );
    let group = lab.sh(&format!("basename $(readlink /sys/bus/pci/devices/{}/iommu_group)", at::NVME))?;
    let refused = lab.run_as_user(&check)?;
    let told = refused.stdout.contains(&format!("cannot open /dev/vfio/{group}: Permission denied"));
    ensure!(
        refused.status == 3 && told && refused.stdout.contains("let udev give the group to your user"),
        "{refused}"
    );
    lab.unplug("nvme")?;
    refuses(lab, r#""04:00.0""#, "no PCI device is at 0000:04:00.0")
}

fn refuses(lab: &Lab, entry: &str, words: &str) -> Result<()> {
    let file = lab.install_machine("bad", &machine(&format!("pci: [{entry}]")))?;
    let refused = lab.run(&format!("/lab/bin/vfio-run check {file}"))?;
    ensure!(refused.status == 3 && refused.stdout.contains(words), "{entry}: {refused}");
    Ok(())
}
