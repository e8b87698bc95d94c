//! The host's own life: a power cut. An orderly power-off and a boot after it are in `unit.rs`.

use anyhow::{Result, ensure};

use crate::kit::lab::Lab;

#[test]
fn a_power_cut_loses_what_was_not_synced_and_nothing_else() -> Result<()> {
    let lab = Lab::variant("one-gpu", "debian13").start()?;
    lab.sh("mkdir /var/lib/lab; echo synced >/var/lib/lab/a; sync; echo x >/run/volatile")?;
    lab.sh("echo vfio-pci >/sys/bus/pci/devices/0000:01:00.1/driver_override")?;
    let overridden = "pci 0000:01:00.1 driver_override";
    ensure!(lab.snapshot_of_host()?.get(overridden) == Some("vfio-pci"));
    lab.cut_power()?;
    ensure!(!lab.is_on() && lab.run("true").is_err(), "there is still somebody at home");
    lab.restart()?;
    ensure!(lab.sh("cat /var/lib/lab/a")? == "synced");
    ensure!(lab.run("ls /run/volatile")?.status != 0, "/run survived");
    ensure!(lab.snapshot_of_host()?.get(overridden) == Some("(null)"), "the boot did not reset the override");
    lab.finish()
}
