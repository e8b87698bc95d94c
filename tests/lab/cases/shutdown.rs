//! A host that shuts down, and its guest, whose launcher was started from a session.

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
            in_turn!(&lab; a_scope_that_is_stopped_asks_its_guest);
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
