//! What KVM says that it offers of Hyper-V's interfaces is what QEMU starts with.

use anyhow::{Context as _, Result, ensure};

use super::program::{END, MACHINE, START};
use crate::kit::lab::Lab;

pub(super) fn windows_starts_with_what_kvm_offers(lab: &Lab) -> Result<()> {
    lab.sh("rm -f /run/lab/guest.log; touch /run/lab/guest.log")?;
    let before = lab.snapshot_of_host()?;
    let host: serde_json::Value = serde_json::from_str(&lab.sh("vfio-run host --json")?)?;
    let offered = host["kvm"]["hyperv"].as_array().context("KVM was not asked")?;
    ensure!(offered.iter().any(|name| name == "hv-relaxed"), "{offered:?}");
    ensure!(offered.iter().all(|name| name != "hv-evmcs"), "an AMD processor with Intel's structures: {offered:?}");

    let machine = MACHINE.replace("guest: Other", "guest: Windows10, firmware: Bios");
    let machine = lab.install_machine("windows", &machine)?;
    let job = lab.start(&format!("vfio-run {machine}"))?;
    job.wait_until("grep -q READY /run/lab/guest.log", START)?;
    lab.sh("tr '\\0' ' ' </proc/$(pgrep -x qemu-system-x86)/cmdline | grep -q 'hv-relaxed=on.*svm=off'")?;
    lab.sh("vfio-run stop windows")?;
    job.wait(END)?.ok()?;
    let left = before.diff(&lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "left behind:\n{left}");
    Ok(())
}
