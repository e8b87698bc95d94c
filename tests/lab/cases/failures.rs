//! What can fail does fail here: QEMU, the guest, and the host's own driver afterwards.

use anyhow::{Result, ensure};

use super::crash::{Desk, FILE, GUEST_BOOT, OBEDIENT, QEMU, SOON, machine};
use crate::kit::host::at;

#[test]
fn whatever_qemu_and_the_guest_do_the_host_comes_back() -> Result<()> {
    let desk = Desk::new("debian13")?;

    // QEMU takes the arguments and refuses the card.
    let entry = r#"pci: [(address: "01:00.*", properties: {"x-pci-vendor-id": 131071})]"#;
    let bad = machine(&OBEDIENT.replace(r#"pci: ["01:00.*"]"#, entry)).replacen('(', "(name: \"only\", ", 1);
    let bad = desk.lab.install_machine("bad", &bad)?;
    let refused = desk.run("", &bad)?.wait(GUEST_BOOT)?;
    ensure!(refused.status == 1 && refused.stderr.contains("QEMU did not start"), "{refused}");
    desk.is_as_before("a QEMU that refused the card", &refused)?;

    // A second machine wants the same card; then QEMU is killed.
    let job = desk.start(FILE)?;
    let other = desk.lab.install_machine("other", &machine(OBEDIENT))?;
    let refused = desk.run("", &other)?.wait(SOON)?;
    ensure!(refused.status == 3 && refused.stderr.contains("is given to the machine only"), "{refused}");
    desk.lab.sh(&format!("kill -KILL $({QEMU})"))?;
    let killed = job.wait(SOON)?;
    ensure!(killed.status == 4, "{killed}");
    desk.is_as_before("a QEMU that was killed", &killed)?;

    // The guest ignores its power button.
    let more = OBEDIENT.replace("tiny\"", "tiny\", cmdline: \"stubborn\"").replace("timeout: 30", "timeout: 3");
    desk.lab.install_machine("only", &machine(&more))?;
    let job = desk.start(FILE)?;
    desk.lab.run_for("/lab/bin/vfio-run stop only", SOON)?;
    let forced = job.wait(SOON)?;
    ensure!(forced.status == 4 && forced.stderr.contains("ended by force"), "{forced}");
    desk.is_as_before("a guest that ignored its power button", &forced)?;
    desk.lab.finish()
}

#[test]
fn a_driver_that_does_not_come_back_is_named_and_recovered_later() -> Result<()> {
    let desk = Desk::new("debian13")?;
    let job = desk.start(FILE)?;
    // An update of the kernel that broke the driver, say.
    desk.lab.sh(
        "mkdir -p /run/modprobe.d && echo 'install bochs /bin/false' >/run/modprobe.d/no.conf && modprobe -r bochs",
    )?;
    // Which says the same as the launcher.
    ensure!(desk.lab.run("/lab/bin/vfio-run stop only")?.status == 5);
    let ended = job.wait(SOON)?;
    ensure!(ended.status == 5, "{ended}");
    ensure!(ended.stderr.contains(&format!("could not undo: give {} to vfio-pci", at::GPU)), "{ended}");
    // All else is back.
    let sound = desk.lab.sh(&format!("basename $(readlink /sys/bus/pci/devices/{}/driver)", at::GPU_SOUND))?;
    ensure!(sound == "snd_hda_intel", "{sound}: {ended}");
    ensure!(desk.lab.sh(&format!("cat /sys/bus/pci/devices/{}/power/control", at::GPU_SOUND))? == "auto", "{ended}");
    ensure!(desk.lab.sh("cat /proc/sys/vm/nr_hugepages")? == "0", "{ended}");
    let still = desk.lab.run_for("/lab/bin/vfio-run recover -v", SOON)?;
    ensure!(still.status == 5 && still.stderr.contains(at::GPU), "{still}");
    // The cause is gone.
    desk.lab.sh("rm -r /run/modprobe.d")?;
    let recovered = desk.lab.run_for("/lab/bin/vfio-run recover -v", SOON)?;
    ensure!(recovered.status == 0, "{recovered}");
    desk.lab.wait_until("systemctl is-active desktop.service", SOON)?;
    desk.is_as_before("the driver was mended", &recovered)?;
    desk.lab.finish()
}
