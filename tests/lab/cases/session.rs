//! Sessions and the program: the one that it is started from and ends, programs of users that outlive it, and what is told
//! of a start that failed.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::passthrough::{host, machine};
use crate::kit::lab::Lab;
use crate::kit::thorough;

const GUEST_BOOT: Duration = Duration::from_secs(180);
const SOON: Duration = Duration::from_secs(120);

/// A desktop that holds a card's node.
pub(super) fn desktop(lab: &Lab, command: &str) -> Result<()> {
    lab.write("/usr/local/bin/desktop", &format!("#!/bin/bash\n{command}"))?;
    lab.sh("chmod 755 /usr/local/bin/desktop
cat >/etc/systemd/system/desktop.service <<'END'
[Service]
ExecStart=/usr/local/bin/desktop
END
ln -sf desktop.service /etc/systemd/system/desktop3.service
ln -sf /etc/systemd/system/desktop3.service /etc/systemd/system/display-manager.service
systemctl start desktop.service")
        .map(drop)
}

const HOLD: &str = "exec sleep infinity 7</dev/dri/card0";

/// What a session is to the program: a scope of this name, which ends with the display manager.
const IN_SESSION: &str =
    "systemd-run --quiet --collect --scope --unit=session-c9.scope -p BindsTo=desktop.service -p After=desktop.service";

#[test]
fn a_session_ends_and_its_guest_does_not() -> Result<()> {
    for release in thorough::releases() {
        let lab = host("one-gpu", release)?;
        desktop(&lab, HOLD)?;
        in_turn!(
            &lab;
            a_guest_outlives_the_session_that_it_was_started_from,
            why_a_start_failed_is_shown_first_until_one_succeeds,
            a_unit_waits_for_a_display_manager_that_is_about_to_start,
        );
        lab.finish()?;
    }
    Ok(())
}

fn a_guest_outlives_the_session_that_it_was_started_from(lab: &Lab) -> Result<()> {
    let file = lab.install_machine("only", &machine(r#"pci: ["01:00.*"]"#))?;
    let before = lab.snapshot_of_host()?;
    let plan = lab.sh(&format!("{IN_SESSION} /lab/bin/vfio-run plan {file}"))?;
    ensure!(plan.contains("into vfio-run-only.service") && plan.contains("vfio-run-only.service/guest"), "{plan}");
    rehearsed_outside(lab, &file)?;
    // The session has something else in it, which shows that it has ended.
    let job = lab.start(&format!("{IN_SESSION} /bin/bash -c 'sleep 500 & /lab/bin/vfio-run {file}; exit $?'"))?;
    // Whether the one that was typed in lives to see the guest run depends on who is quicker.
    let ended = job.wait(GUEST_BOOT)?;
    lab.wait_until("grep -q READY /run/lab/guest.log", GUEST_BOOT)?;
    ensure!(ended.stderr.contains("journalctl -fu vfio-run-only"), "{ended}");
    ensure!(lab.run("systemctl is-active session-c9.scope desktop.service")?.status != 0, "the session still runs");
    let group = lab.sh("cat /proc/$(pgrep -x qemu-system-x86)/cgroup")?;
    ensure!(group.ends_with("/system.slice/vfio-run-only.service/guest"), "{group}");
    ensure!(lab.sh("/lab/bin/vfio-run status only")?.contains("running"));
    lab.sh("/lab/bin/vfio-run stop only")?;
    lab.wait_until("! systemctl is-active -q vfio-run-only.service", SOON)?;
    ensure!(lab.sh("systemctl is-active desktop.service")? == "active");
    let left = before.diff(&lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "left behind:\n{left}\n{ended}");
    Ok(())
}

/// A rehearsal outlives the session too, and what it came to is in the unit's journal.
fn rehearsed_outside(lab: &Lab, file: &str) -> Result<()> {
    let job = lab.start(&format!("{IN_SESSION} /bin/bash -c 'sleep 500 & /lab/bin/vfio-run rehearse -n 2 {file}'"))?;
    let ended = job.wait(GUEST_BOOT)?;
    ensure!(ended.stderr.contains("journalctl -fu vfio-run-only:rehearsal"), "{ended}");
    let unit = "vfio-run-only:rehearsal.service";
    lab.wait_until(&format!("journalctl -u {unit} | grep -q 'the host is as it was'"), GUEST_BOOT)?;
    lab.wait_until(&format!("[ \"$(systemctl show -P ActiveState {unit})\" = inactive ]"), SOON)?;
    ensure!(lab.run("systemctl is-active session-c9.scope")?.status != 0, "the session still runs");
    let report = lab.sh(&format!("journalctl -o cat -u {unit}"))?;
    ensure!(report.contains("2 of 2 rounds") && report.contains("stop desktop.service"), "{report}");
    ensure!(!report.contains("Failed with result"), "{report}");
    ensure!(lab.sh("systemctl is-active desktop.service")? == "active");
    Ok(())
}

fn why_a_start_failed_is_shown_first_until_one_succeeds(lab: &Lab) -> Result<()> {
    // Nobody stops this one, which is in no unit, so the start fails when the screen is gone.
    lab.sh("(echo $BASHPID >/sys/fs/cgroup/cgroup.procs; exec sleep 600 7</dev/dri/card0) >/dev/null 2>&1 &")?;
    let file = lab.install_machine("only", &machine(r#"pci: ["01:00.*"]"#))?;
    // From a session, whose program repeats what the unit said; here it outlives the display manager.
    let session = "systemd-run --quiet --collect --scope --unit=session-c9.scope";
    let failed = lab.run_for(&format!("{session} /lab/bin/vfio-run {file}"), GUEST_BOOT)?;
    ensure!(failed.status == 1 && failed.stderr.contains("in use: sleep"), "{failed}");
    ensure!(lab.sh("systemctl is-active desktop.service")? == "active");
    let year = lab.sh("date +%Y-%m-%d")?;
    for command in ["status".to_owned(), format!("check {file}")] {
        let shown = lab.run(&format!("/lab/bin/vfio-run {command}"))?;
        let first = format!("the last start of only, {year} ");
        ensure!(shown.stdout.starts_with(&first) && shown.stdout.contains("in use: sleep"), "{shown}");
    }
    let json = lab.sh("/lab/bin/vfio-run status --json")?;
    let json: serde_json::Value = serde_json::from_str(&json)?;
    ensure!(json[0]["state"] == "failed" && json[0]["last_failure"]["stage"] == "preparing", "{json:#}");

    lab.sh("pkill -x -f 'sleep 600'")?;
    lab.sh(": >/run/lab/guest.log")?;
    let job = lab.start(&format!("exec /lab/bin/vfio-run {file}"))?;
    job.wait_until("grep -q READY /run/lab/guest.log", GUEST_BOOT)?;
    ensure!(!lab.sh("/lab/bin/vfio-run status")?.contains("the last start"), "it is still told");
    lab.sh("/lab/bin/vfio-run stop only")?;
    ensure!(job.wait(SOON)?.status == 0);
    Ok(())
}

/// As at boot, where systemd starts both at once. The desktop's server opens the card some time after its unit has started,
/// as Xorg does.
fn a_unit_waits_for_a_display_manager_that_is_about_to_start(lab: &Lab) -> Result<()> {
    let file = lab.install_machine("only", &machine(r#"pci: ["01:00.*"]"#))?;
    let before = lab.snapshot_of_host()?;
    desktop(lab, &format!("sleep 2\n{HOLD}"))?;
    let (unit, slow) = ("vfio-run-only", "/run/systemd/system/desktop.service.d");
    lab.sh(&format!(
        "/lab/bin/vfio-run unit --install {file}; systemctl stop desktop.service; mkdir -p {slow}
printf '[Service]\\nExecStartPre=/bin/sh -c \"until [ -e /run/lab/boots ]; do sleep 0.1; done\"\\n' >{slow}/slow.conf
systemctl daemon-reload; : >/run/lab/guest.log
systemctl start --no-block desktop.service; systemctl start --no-block {unit}"
    ))?;
    // It has planned, and waits with its hands off the card.
    lab.wait_until(
        &format!("systemctl show -P StatusText {unit} | grep -q 'display-manager.service has started'"),
        SOON,
    )?;
    ensure!(lab.sh("systemctl show -P ActiveState desktop.service")? == "activating");
    ensure!(lab.sh("basename $(readlink /sys/bus/pci/devices/0000:01:00.0/driver)")? == "bochs-drm");
    lab.sh("touch /run/lab/boots")?;
    lab.wait_until("grep -q READY /run/lab/guest.log", GUEST_BOOT)?;
    ensure!(lab.run("systemctl is-active desktop.service")?.status != 0, "the desktop still runs");
    lab.sh(&format!("systemctl stop {unit}"))?;
    ensure!(lab.sh("systemctl is-active desktop.service")? == "active");
    ensure!(lab.sh(&format!("systemctl show -P Result {unit}"))? == "success");
    lab.sh(&format!("rm -r {slow} /run/lab/boots /etc/systemd/system/{unit}.service; systemctl daemon-reload"))?;
    // Until then it is another process than before.
    lab.wait_until("fuser -s /dev/dri/card0", SOON)?;
    let left = before.diff(&lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "left behind:\n{left}");
    Ok(())
}

#[test]
fn units_of_users_are_stopped_and_start_again() -> Result<()> {
    for release in thorough::older_releases() {
        let lab = host("one-gpu", release)?;
        lab.sh("cat >/etc/systemd/user/mixer.service <<'END'
[Service]
ExecStart=/bin/bash -c 'until exec 7</dev/snd/controlC0; do sleep 0.1; done; exec sleep infinity'
END
usermod -aG audio tester
loginctl enable-linger tester")?;
        let user = "XDG_RUNTIME_DIR=/run/user/$(id -u tester) setpriv --reuid=tester --regid=tester --clear-groups systemctl --user";
        lab.wait_until(&format!("{user} start mixer.service"), SOON)?;
        lab.wait_until("fuser -s /dev/snd/controlC0", SOON)?;
        let check = |more: &str| {
            let file = lab.install_machine("only", &machine(&format!(r#"pci: ["01:00.*"]{more}"#)))?;
            anyhow::Ok((lab.run(&format!("/lab/bin/vfio-run check {file}"))?.stdout, file))
        };
        let (named, _) = check("")?;
        ensure!(named.contains("mixer.service of user tester"), "{named}");
        ensure!(named.contains(r#"handover: (user_units: ["mixer.service"])"#), "{named}");
        let (named, file) = check(r#", handover: (user_units: ["mixer.service"])"#)?;
        ensure!(!named.contains("is open in"), "{named}");
        let before = lab.snapshot_of_host()?;
        let job = lab.start(&format!("/lab/bin/vfio-run -v {file}"))?;
        job.wait_until("grep -q READY /run/lab/guest.log", GUEST_BOOT)?;
        ensure!(lab.run(&format!("{user} is-active mixer.service"))?.status != 0, "it still runs");
        lab.sh("/lab/bin/vfio-run stop only")?;
        let ended = job.wait(SOON)?;
        ensure!(ended.status == 0, "{ended}");
        ensure!(lab.sh(&format!("{user} is-active mixer.service"))? == "active");
        lab.wait_until("fuser -s /dev/snd/controlC0", SOON)?;
        let left = before.diff(&lab.snapshot_of_host()?);
        ensure!(left.is_empty(), "left behind on {release}:\n{left}\n{ended}");
        lab.finish()?;
    }
    Ok(())
}
