#!/bin/bash
set -x
source "/etc/libvirt/hooks/kvm.conf"

# Stop the desktop
systemctl stop display-manager.service
systemctl --user -M me@ stop pipewire.socket
while systemctl is-active --quiet display-manager.service; do
    sleep 1
done
killall gdm-x-session

for console in /sys/class/vtconsole/*; do
    echo 0 > "$console/bind"
done
echo efi-framebuffer.0 > /sys/bus/platform/drivers/efi-framebuffer/unbind
sleep 5

modprobe -r nvidia_drm nvidia_modeset nvidia_uvm nvidia
modprobe -r snd_hda_intel
systemctl stop nvidia-persistenced
virsh nodedev-detach $VIRSH_GPU_VIDEO
virsh nodedev-detach $VIRSH_GPU_AUDIO
modprobe vfio-pci

# CPUs and memory
echo $((MEMORY / 2)) > /proc/sys/vm/nr_hugepages
for governor in /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor; do echo performance > $governor; done
systemctl set-property --runtime -- system.slice AllowedCPUs=0-3,8-11
sysctl -w vm.stat_interval=120
echo 0 | sudo tee /proc/sys/kernel/numa_balancing > /dev/null

echo 13 > /sys/bus/pci/devices/0000:01:00.0/resource1_resize
sudo sh -c 'echo 100000 > /sys/module/kvm/parameters/halt_poll_ns; echo 1 > /sys/class/leds/lamp/brightness'

# The monitor's other input
ddcutil setvcp 60 0x0f
curl -s "http://lamp.example/$GUEST_NAME/on" > /var/lib/lamp/state
