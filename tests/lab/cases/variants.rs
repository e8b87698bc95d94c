//! Each variant boots and is what it claims.

use anyhow::{Result, ensure};

use crate::kit::host::at;
use crate::kit::lab::{Lab, releases};

/// Starts a variant, looks at it, and asks of every host what every host must be.
fn look(name: &str, release: &str, check: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    let lab = Lab::variant(name, release).start()?;
    let groups = lab.sh("ls /sys/kernel/iommu_groups | wc -l")?;
    ensure!(groups != "0", "there are no IOMMU groups");
    ensure!(lab.sh("ls /lab/guests")?.contains("tiny"), "the payload is not mounted");
    check(&lab)?;
    lab.finish()
}

fn driver(lab: &Lab, device: &str) -> Result<String> {
    lab.sh(&format!("basename $(readlink /sys/bus/pci/devices/{device}/driver)"))
}

/// The devices that share an IOMMU group with this one, itself included.
fn group(lab: &Lab, device: &str) -> Result<Vec<String>> {
    let list = lab.sh(&format!("ls /sys/bus/pci/devices/{device}/iommu_group/devices"))?;
    Ok(list.split_whitespace().map(str::to_owned).collect())
}

fn read(lab: &Lab, path: &str) -> Result<String> {
    lab.sh(&format!("cat {path}"))
}

#[test]
fn bare_is_a_whole_system() -> Result<()> {
    for release in releases() {
        look("bare", release, |lab| {
            ensure!(lab.sh("systemctl is-system-running")? == "running", "{}", lab.sh("systemctl --failed")?);
            let kernel = lab.sh("uname -r")?;
            let qemu = lab.sh("qemu-system-x86_64 --version | head -n 1")?;
            let (kernel_is, qemu_is) = if release == "debian12" { ("6.1.", "7.2") } else { ("6.12.", "10.0") };
            ensure!(kernel.starts_with(kernel_is) && qemu.contains(qemu_is), "{kernel}, {qemu}");
            ensure!(lab.sh("stat -fc %T /sys/fs/cgroup")? == "cgroup2fs");
            ensure!(lab.sh("modprobe kvm_amd && ls /dev/kvm")? == "/dev/kvm");
            ensure!(read(lab, "/sys/module/kvm_amd/parameters/npt")? == "Y", "no nested paging");
            let user = lab.run_as_user("id -un; cat /proc/self/cgroup; test -w /dev/kvm")?.ok()?;
            ensure!(user.starts_with("tester") && user.contains("session-"), "the user has no session: {user}");
            Ok(())
        })?;
    }
    Ok(())
}
