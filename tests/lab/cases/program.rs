//! The program itself, on a host with KVM: as root and as a plain user, on both releases.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::hyperv::windows_starts_with_what_kvm_offers;
use crate::kit::lab::{Lab, releases};
use crate::kit::thorough;

/// Two vCPUs that are placed by the program, on KVM or not at all. `-xsave`: the emulated processor's nested KVM has none.
pub const MACHINE: &str = r#"(
    guest: Other,
    accelerator: Kvm,
    cpu: (vcpus: 2, features: ["-xsave"]),
    memory: (size: "128 MiB"),
    kernel: (image: "/lab/guests/tiny"),
    networks: [],
    serial: File("/run/lab/guest.log"),
    shutdown_timeout: 30,
)"#;

/// The first start asks QEMU what it can do, and emulated machines are slow.
pub const START: Duration = Duration::from_secs(120);
pub const END: Duration = Duration::from_secs(60);

/// What loading KVM and looking at a guest changes of a host for good, and no run is expected to take back.
pub fn prepare(lab: &Lab) -> Result<()> {
    lab.load_kvm()?;
    lab.sh("chmod 666 /dev/kvm && touch /run/lab/guest.log").map(drop)
}

/// Each thread's place as the kernel has it: its name and its CPUs, a line each.
fn threads(lab: &Lab) -> Result<Vec<(String, String)>> {
    let listing = lab.sh("for task in /proc/$(pgrep -x qemu-system-x86)/task/*; do \
           echo \"$(<$task/comm)|$(sed -n 's/^Cpus_allowed_list:\\t//p' $task/status)\"; done")?;
    Ok(listing.lines().filter_map(|l| l.split_once('|')).map(|(n, c)| (n.to_owned(), c.to_owned())).collect())
}

/// Every vCPU thread runs on KVM and on the CPU that the plan gives it, and no other thread runs on that CPU.
fn check_placement(lab: &Lab, plan: &str) -> Result<()> {
    // KVM's own thread comes a moment after the guest's first instruction, and is moved a moment after that.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match check_placement_once(lab, plan) {
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(200)),
            result => return result,
        }
    }
}

fn check_placement_once(lab: &Lab, plan: &str) -> Result<()> {
    let plan: serde_json::Value = serde_json::from_str(plan).context("the plan is no JSON")?;
    let threads = threads(lab)?;
    let vcpus = plan["placement"]["vcpus"].as_array().context("no vCPUs in the plan")?;
    ensure!(vcpus.len() == 2 && plan["placement"]["pinned"] == true, "{plan:#}");
    for (index, cpus) in vcpus.iter().enumerate() {
        let place = (format!("CPU {index}/KVM"), cpus.as_str().unwrap_or_default().to_owned());
        ensure!(threads.contains(&place), "{place:?} is not among {threads:?}");
    }
    let emulator = plan["placement"]["emulator"].as_str().context("no emulator in the plan")?;
    ensure!(
        threads.iter().filter(|(name, _)| !name.starts_with("CPU ")).all(|(_, cpus)| cpus == emulator),
        "{threads:?}"
    );
    Ok(())
}

#[test]
fn the_program_on_a_host_with_kvm() -> Result<()> {
    for release in releases() {
        let lab = Lab::variant("bare", release).start()?;
        prepare(&lab)?;
        // Asks QEMU what it can do, which the rest finds in the cache.
        let machine = lab.install_machine("tiny", MACHINE)?;
        lab.run_for(&format!("/lab/bin/vfio-run check {machine}"), START)?.ok()?;
        in_turn!(&lab; windows_starts_with_what_kvm_offers);
        if release == "debian13" || thorough::is_on() {
            in_turn!(&lab; a_killed_launcher_leaves_a_guest_that_can_be_taken_over);
        }
        // Last: a user's session takes its time to go.
        in_turn!(&lab; a_machine_runs_on_kvm_with_every_thread_in_its_place);
        lab.finish()?;
    }
    Ok(())
}

fn a_machine_runs_on_kvm_with_every_thread_in_its_place(lab: &Lab) -> Result<()> {
    lab.sh("rm /run/lab/guest.log; touch /run/lab/guest.log")?;
    let machine = lab.install_machine("tiny", MACHINE)?;
    // As root: QEMU is another user in a scope of its own.
    let before = lab.snapshot_of_host()?;
    let plan = lab.run_for(&format!("/lab/bin/vfio-run plan --json {machine}"), START)?.ok()?;
    let job = lab.start(&format!("exec /lab/bin/vfio-run -v {machine}"))?;
    job.wait_until("grep -q READY /run/lab/guest.log", START)?;
    check_placement(lab, &plan)?;
    let user = lab.sh("ps -o uid= -p $(pgrep -x qemu-system-x86)")?;
    ensure!(user.trim() != "0", "QEMU runs as root");
    let group = lab.sh("cat /proc/$(pgrep -x qemu-system-x86)/cgroup")?;
    ensure!(group.ends_with("/vfio-run-tiny.scope"), "{group}");
    ensure!(lab.sh("/lab/bin/vfio-run status")?.contains("running"));
    lab.sh("/lab/bin/vfio-run stop tiny")?;
    job.wait(END)?.ok()?;
    ensure!(lab.sh("cat /run/lab/guest.log")?.contains("POWER BUTTON"));
    let left = before.diff(&lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "left behind:\n{left}");

    // As a plain user, with the same file.
    lab.sh("rm /run/lab/guest.log; touch /run/lab/guest.log; chown tester /run/lab/guest.log")?;
    let plan = lab.run_as_user(&format!("/lab/bin/vfio-run plan --json {machine}"))?.ok()?;
    let job = lab.start(&format!("exec runuser -l tester -c '/lab/bin/vfio-run -v {machine}'"))?;
    job.wait_until("grep -q READY /run/lab/guest.log", START)?;
    check_placement(lab, &plan)?;
    lab.run_as_user("/lab/bin/vfio-run stop tiny")?.ok()?;
    job.wait(END)?.ok()?;
    Ok(())
}

fn a_killed_launcher_leaves_a_guest_that_can_be_taken_over(lab: &Lab) -> Result<()> {
    lab.sh("rm /run/lab/guest.log; touch /run/lab/guest.log")?;
    let machine = lab.install_machine("tiny", MACHINE)?;
    let before = lab.snapshot_of_host()?;
    let job = lab.start(&format!("exec /lab/bin/vfio-run {machine}"))?;
    job.wait_until("grep -q READY /run/lab/guest.log", START)?;
    lab.kill("vfio-run", "KILL")?;
    ensure!(job.wait(END)?.status == 137);
    ensure!(lab.sh("/lab/bin/vfio-run status")?.contains("unsupervised"));
    ensure!(lab.run("/lab/bin/vfio-run recover tiny")?.status == 1, "it took the host from under a running guest");
    let job = lab.start("exec /lab/bin/vfio-run recover --adopt tiny")?;
    lab.wait_until("/lab/bin/vfio-run status tiny | grep -q running", END)?;
    lab.sh("/lab/bin/vfio-run stop tiny")?;
    job.wait(END)?.ok()?;
    let left = before.diff(&lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "left behind:\n{left}");
    Ok(())
}
