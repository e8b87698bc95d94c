//! A host that sleeps or shuts down, and its guest, whose launcher was started from a session.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use super::program::{END, MACHINE, START, prepare};
use crate::kit::job::Job;
use crate::kit::lab::{Lab, releases};
use crate::kit::thorough;

const INHIBITORS: &str = "busctl call org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager \
                          ListInhibitors";

#[test]
fn a_host_that_shuts_down_waits_for_the_guest_of_a_session() -> Result<()> {
    for release in releases() {
        let lab = Lab::variant("bare", release).start()?;
        prepare(&lab)?;
        lab.install_machine("tiny", MACHINE)?;
        if release == "debian13" || thorough::is_on() {
            in_turn!(&lab; a_host_that_sleeps_pauses_its_guest, a_scope_that_is_stopped_asks_its_guest);
        }
        in_turn!(&lab; the_guest_has_more_time_than_logind_gives);
        lab.finish()?;
    }
    Ok(())
}

/// Starts the machine in a session, as far as systemd's shutdown goes; what it says reaches the console, which outlives the
/// host.
fn start<'a>(lab: &'a Lab, session: &str) -> Result<Job<'a>> {
    lab.sh(": >/run/lab/guest.log")?;
    let job = lab.start(&format!(
        "exec systemd-run --quiet --scope --unit={session}.scope /bin/sh -c \
         'exec /lab/bin/vfio-run -v /home/tester/machines/tiny.ron >/dev/console 2>&1'"
    ))?;
    job.wait_until("grep -q READY /run/lab/guest.log", START)?;
    Ok(job)
}

/// logind goes all the way to systemd's own unit, which here looks at the guest in place of putting the host to sleep.
fn a_host_that_sleeps_pauses_its_guest(lab: &Lab) -> Result<()> {
    const UNIT: &str = "/run/systemd/system/systemd-suspend.service.d";
    const LOCK: &str = r#""sleep" "vfio-run" "the virtual machine tiny is paused" "delay""#;
    let job = start(lab, "session-c7")?;
    ensure!(lab.sh(INHIBITORS)?.contains(LOCK), "a sleep is not held up");
    // On KVM, so its exits are counted.
    let told = lab.sh("/lab/bin/vfio-run top tiny --once --json --interval 2")?;
    let told: serde_json::Value = serde_json::from_str(&told)?;
    let exits = told["machines"][0]["exits"]["exits"].as_f64();
    ensure!(exits.is_some_and(|exits| exits > 0.0), "{told:#}");

    lab.sh(&format!("mkdir -p {UNIT}"))?;
    let look = "/lab/bin/vfio-run status --json tiny >/run/lab/asleep";
    lab.write(&format!("{UNIT}/lab.conf"), &format!("[Service]\nExecStart=\nExecStart=/bin/sh -c '{look}'\n"))?;
    lab.sh("systemctl daemon-reload && busctl call org.freedesktop.login1 /org/freedesktop/login1 \
         org.freedesktop.login1.Manager Suspend b false")?;
    job.wait_until("grep -q '\"state\": ' /run/lab/asleep", START)?;
    let asleep = lab.sh("cat /run/lab/asleep")?;
    ensure!(asleep.contains("\"state\": \"host-sleeps\""), "{asleep}");
    job.wait_until("/lab/bin/vfio-run status --json tiny | grep -q '\"state\": \"running\"'", START)?;
    lab.wait_until(&format!("{INHIBITORS} | grep -qF '{LOCK}'"), START)?;

    lab.sh(&format!("rm -r {UNIT} /run/lab/asleep && systemctl daemon-reload && /lab/bin/vfio-run stop tiny"))?;
    job.wait(END)?.ok()?;
    Ok(())
}

fn a_scope_that_is_stopped_asks_its_guest(lab: &Lab) -> Result<()> {
    let before = lab.snapshot_of_host()?;
    let job = start(lab, "session-c8")?;
    lab.sh("systemctl stop vfio-run-tiny.scope")?;
    job.wait(END)?.ok()?;
    ensure!(lab.sh("cat /run/lab/guest.log")?.contains("POWER BUTTON"), "the guest was not asked");
    let left = before.diff(&lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "left behind:\n{left}");
    Ok(())
}

/// Last: the host is off then.
fn the_guest_has_more_time_than_logind_gives(lab: &Lab) -> Result<()> {
    let stubborn = MACHINE.replace(
        "kernel: (image: \"/lab/guests/tiny\")",
        "kernel: (image: \"/lab/guests/tiny\", cmdline: \"stubborn\")",
    );
    // Longer than logind waits (5 s), and longer than SIGTERM to all of the session would let QEMU live.
    lab.install_machine("tiny", &stubborn.replace("shutdown_timeout: 30", "shutdown_timeout: 14"))?;
    let _job = start(lab, "session-c9")?;
    let inhibitors = lab.sh(INHIBITORS)?;
    ensure!(
        inhibitors.contains(r#""shutdown" "vfio-run" "the virtual machine tiny is asked to end" "delay""#),
        "{inhibitors}"
    );
    lab.power_off()?;
    let console = fs::read_to_string(lab.path().join("console.log"))?;
    let console = console.rfind("the host shuts down and waits for tiny").map(|at| &console[at..]);
    let said = console.context("the launcher was not told")?;
    // It pressed the button, had all of the guest's time, and even then restored the host.
    for words in [
        "asking tiny to power off; it has 14 s",
        "tiny did not power off in time; forcing QEMU to quit",
        "the host is as it was",
    ] {
        ensure!(said.contains(words), "not said: {words}\n{said}");
    }
    ensure!(!said.contains("a signal ended QEMU"), "{said}");
    Ok(())
}
