//! A GPU passed to a guest and restored by hand: what the program does, without the program. It shows that the lab can
//! test the program.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::passthrough::shows_the_host;
use crate::kit::host::at;
use crate::kit::lab::Lab;

/// Gives both functions of the GPU to vfio-pci.
const TAKE: &str = "
for console in /sys/class/vtconsole/vtcon*; do
  if grep -q 'frame buffer' $console/name; then echo 0 >$console/bind; fi
done
modprobe vfio-pci
for device in 0000:01:00.0 0000:01:00.1; do
  echo vfio-pci >/sys/bus/pci/devices/$device/driver_override
  if [ -e /sys/bus/pci/devices/$device/driver ]; then echo $device >/sys/bus/pci/devices/$device/driver/unbind; fi
  echo $device >/sys/bus/pci/drivers_probe
  [ $(basename $(readlink /sys/bus/pci/devices/$device/driver)) = vfio-pci ] || exit 1
done";

/// Gives them back to the host's own drivers, and the console to the GPU.
const RETURN: &str = "
for device in 0000:01:00.0 0000:01:00.1; do
  echo $device >/sys/bus/pci/devices/$device/driver/unbind
  echo >/sys/bus/pci/devices/$device/driver_override
  echo $device >/sys/bus/pci/drivers_probe
done
udevadm settle
for console in /sys/class/vtconsole/vtcon*; do
  if grep -q 'frame buffer' $console/name; then echo 1 >$console/bind; fi
done";

/// A guest with both functions. Its console goes to a file; the test stops it by the power button.
const GUEST: &str = "exec qemu-system-x86_64 -accel kvm -cpu host,-xsave -M q35 -m 64 -nodefaults -vga none -display none \
    -serial file:/run/lab/guest.log -qmp unix:/run/lab/guest.qmp,server,wait=off -kernel /lab/guests/tiny \
    -device pcie-root-port,id=root1,chassis=1 \
    -device vfio-pci,host=01:00.0,bus=root1,addr=0.0,multifunction=on -device vfio-pci,host=01:00.1,bus=root1,addr=0.1";

/// Presses the guest's power button.
const PRESS: &str = "printf '{\"execute\":\"qmp_capabilities\"}{\"execute\":\"system_powerdown\"}' | \
    socat -t 2 - UNIX-CONNECT:/run/lab/guest.qmp";

const GUEST_BOOT: Duration = Duration::from_secs(90);

/// Takes the GPU, shows the guest's picture, gives the GPU back.
fn hand_over(lab: &Lab) -> Result<()> {
    shows_the_host(lab, "by-hand-1-host")?;

    lab.sh(TAKE)?;
    let guest = lab.start(GUEST)?;
    guest.wait_until("grep -q READY /run/lab/guest.log", GUEST_BOOT)?;
    let picture = lab.screenshot("by-hand-2-guest")?;
    ensure!(
        picture.is_tiny_guest(),
        "the guest's picture is not on the screen; it said\n{}",
        lab.sh("cat /run/lab/guest.log")?
    );

    lab.sh(PRESS)?;
    let ended = guest.wait(Duration::from_secs(30))?;
    ensure!(ended.status == 0, "{ended}");
    ensure!(lab.sh("cat /run/lab/guest.log")?.contains("POWER BUTTON"), "the guest never saw its power button");

    lab.sh(RETURN)?;
    shows_the_host(lab, "by-hand-3-back")?;
    Ok(())
}

/// On a host that is set up for passthrough: what is loaded stays.
pub(super) fn a_gpu_changes_hands_by_hand(lab: &Lab) -> Result<()> {
    let before = lab.snapshot_of_host()?;
    ensure!(before.get(&format!("pci {} driver", at::GPU)) == Some("bochs-drm"), "no driver in the snapshot");
    hand_over(lab)?;
    let after = lab.snapshot_of_host()?;
    let left = before.diff(&after);
    ensure!(left.is_empty(), "left behind:\n{left}");

    let overrides = format!("/sys/bus/pci/devices/{}/driver_override", at::GPU_SOUND);
    lab.sh(&format!("echo vfio-pci >{overrides}"))?;
    let left = after.diff(&lab.snapshot_of_host()?);
    let expected = format!("pci {} driver_override  (null) → vfio-pci", at::GPU_SOUND);
    ensure!(left.to_string() == expected, "the override is not seen, or more than that:\n{left}");
    lab.sh(&format!("echo >{overrides}")).map(drop)
}
