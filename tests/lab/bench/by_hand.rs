//! A handover by hand: what hook scripts do, without their sleeps and without a look at whether it worked.

/// A desktop: a unit that holds the screen's node, as display manager.
pub const DESKTOP: &str = "
modprobe vfio-pci; udevadm settle
cat >/etc/systemd/system/desktop.service <<'END'
[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=/bin/sh -c 'exec sleep infinity 7</dev/dri/card0'
END
ln -sf /etc/systemd/system/desktop.service /etc/systemd/system/display-manager.service
systemctl start display-manager";

/// For bash: `take` and `give_back`.
pub const STEPS: &str = r#"
consoles() { for c in /sys/class/vtconsole/vtcon*; do grep -q 'frame buffer' $c/name && echo $1 >$c/bind; done; }
take() {
  systemctl stop display-manager
  consoles 0
  modprobe vfio-pci
  for device in 0000:01:00.1 0000:01:00.0; do
    echo vfio-pci >/sys/bus/pci/devices/$device/driver_override
    echo $device >/sys/bus/pci/devices/$device/driver/unbind
    echo $device >/sys/bus/pci/drivers_probe
  done
}
give_back() {
  for device in 0000:01:00.0 0000:01:00.1; do
    echo $device >/sys/bus/pci/devices/$device/driver/unbind
    echo >/sys/bus/pci/devices/$device/driver_override
    echo $device >/sys/bus/pci/drivers_probe
  done
  consoles 1
  systemctl start display-manager
}
"#;
